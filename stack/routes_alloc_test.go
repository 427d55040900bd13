//go:build !race

package stack

import (
	"net/netip"
	"testing"
)

// Each segment looks for its way, and each datagram of an unbound socket for its source.
func TestRoutesDoNotAllocate(t *testing.T) {
	for _, six := range []bool{false, true} {
		w := newTwoWays(t, six, 1500)
		v := w.client.view.Load()
		srcs := []netip.Addr{{}, w.from}
		for a := range w.client.Addrs() {
			for _, x := range a.Addrs() {
				srcs = append(srcs, x.Prefix.Addr())
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			for _, src := range srcs {
				if src.IsValid() && src.Is4() != w.to.Is4() {
					continue
				}
				h, _ := v.route(src, w.to, 0)
				v.source(w.to, h)
			}
		}); n != 0 {
			t.Errorf("%v allocations to find a way and a source, want none", n)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	client, _ := pair(b, wires[0].PipeConfig, Config{})
	v := client.view.Load()
	b.ReportAllocs()
	for b.Loop() {
		v.route(client4.Addr(), server4.Addr(), 0)
	}
}
