//go:build !race

package stack

import (
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// wires are the links that steady state is measured on: packets that the stack cuts and sums itself, behind Ethernet
// headers, and super-segments whose sums are left to the device.
var wires = []struct {
	name string
	link.PipeConfig
}{
	{"Ethernet", link.PipeConfig{Ethernet: true, MTU: 1500}},
	{"GSO", link.PipeConfig{MTU: 1500, GSO: 1<<16 - 1}},
}

// steady fails where f allocates once the pools are full. The garbage collector is held off, since it empties pools.
func steady(t *testing.T, segments int, f func()) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for range 20 {
		f()
	}
	const runs = 100
	if n := testing.AllocsPerRun(runs, f); n != 0 {
		t.Errorf("%.0f allocations in every exchange of %d segments, want none", n, segments)
	}
}

// send writes b at one end and reads all of it at the other, into b.
func send(t *testing.T, from, to net.Conn, b []byte) {
	if _, err := from.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, b); err != nil {
		t.Fatal(err)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	const segments = 64 // about, in a bulk write
	for _, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			families(t, func(t *testing.T, to netip.Prefix) {
				client, server := pair(t, w.PipeConfig, Config{})
				c, s := connected(t, client, server, to)
				bulk, one := make([]byte, segments*1400), make([]byte, 100)
				t.Run("up", func(t *testing.T) { steady(t, segments, func() { send(t, c, s, bulk) }) })
				t.Run("down", func(t *testing.T) { steady(t, segments, func() { send(t, s, c, bulk) }) })
				t.Run("echo", func(t *testing.T) {
					steady(t, 20, func() {
						for range 10 {
							send(t, c, s, one)
							send(t, s, c, one)
						}
					})
				})
				t.Run("datagrams", func(t *testing.T) {
					up, down := connectedUDP(t, client, server, to)
					steady(t, 20, func() {
						for range 10 {
							send(t, up, down, one)
							send(t, down, up, one)
						}
					})
				})
			})
		})
	}
}

// TestTimersDoNotAllocate sends one way only, and so slowly that each segment is acknowledged by the delayed
// acknowledgement's timer: nothing on the way of a timer allocates either.
func TestTimersDoNotAllocate(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, wires[0].PipeConfig, Config{})
			c, s := connected(t, client, server, to)
			one := make([]byte, 100)
			before := server.Stats().SegmentsOut
			steady(t, 20, func() {
				for range 10 {
					send(t, c, s, one)
					time.Sleep(time.Second)
				}
			})
			if n := server.Stats().SegmentsOut - before; n < 1000 {
				t.Errorf("%d acknowledgements of more than 1,000 segments sent a second apart", n)
			}
		})
	})
}
