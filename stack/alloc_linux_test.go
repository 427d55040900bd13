//go:build !race

package stack

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TestDeviceDoesNotAllocate counts the allocations of a process that sends and receives 200 MB over a device, with the
// kernel as peer: a few of the runtime's own, whatever the number of segments.
func TestDeviceDoesNotAllocate(t *testing.T) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	const octets, chunk, warm = 200_000_000, 64 << 10, 20_000_000
	for _, c := range []link.TUNConfig{{Name: "wb0"}, {Name: "wb0", TAP: true}, {Name: "wb0", TAP: true, NoOffload: true}} {
		d, err := link.OpenTUN(c)
		if err != nil {
			t.Fatal(err)
		}
		s := host(t, d, Config{}, server4)
		if err := link.ConfigureHost("wb0", []netip.Prefix{client4}, 0); err != nil {
			t.Fatal(err)
		}
		l, err := s.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		kernel, err := net.Dial("tcp", netip.AddrPortFrom(server4.Addr(), 80).String())
		if err != nil {
			t.Fatal(err)
		}
		ours, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		out, in := make([]byte, chunk), make([]byte, chunk)
		bulk := func(from, to net.Conn, n int) {
			done := make(chan error)
			go func() {
				for left := n; left > 0; left -= chunk {
					if _, err := from.Write(out[:min(left, chunk)]); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			for left := n; left > 0; left -= chunk {
				if _, err := io.ReadFull(to, in[:min(left, chunk)]); err != nil {
					t.Error(err)
					return
				}
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		bulk(kernel, ours, warm)
		bulk(ours, kernel, warm)
		gc := debug.SetGCPercent(-1) // it empties pools
		var before, after runtime.MemStats
		for _, x := range []struct {
			name     string
			from, to net.Conn
		}{{"up", kernel, ours}, {"down", ours, kernel}} {
			stats := s.Stats()
			runtime.ReadMemStats(&before)
			bulk(x.from, x.to, octets)
			runtime.ReadMemStats(&after)
			now := s.Stats()
			packets := now.PacketsIn + now.PacketsOut - stats.PacketsIn - stats.PacketsOut
			n := after.Mallocs - before.Mallocs
			t.Logf("%+v %s: %d allocations, %d packets", c, x.name, n, packets)
			// The pool may come to hold a buffer more than it did: each chunk is two allocations.
			if n > max(packets/200, 2*tcp.DefaultBuffer/tcp.LargeChunk) {
				t.Errorf("%+v %s: %d allocations for %d packets, want a few in 1,000", c, x.name, n, packets)
			}
		}
		debug.SetGCPercent(gc)
		kernel.Close()
		s.Close()
	}
}
