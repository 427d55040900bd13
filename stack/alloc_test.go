//go:build !race

package stack

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
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

// TestWriteFitsSmallStack: Read and Write fit the 2 KB of stack that most goroutines begin with. To double it costs each
// connection's goroutine a copy, and twice as much memory as the connection itself takes.
func TestWriteFitsSmallStack(t *testing.T) {
	const goroutines = 1000
	each := func(f func()) int {
		start, done, end := make(chan bool), make(chan bool), make(chan bool)
		var running sync.WaitGroup
		defer running.Wait()
		defer close(end)
		stacks := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
		runtime.GC() // of stacks that are free none is left over
		runtime.GC()
		metrics.Read(stacks)
		before := stacks[0].Value.Uint64()
		for range goroutines {
			running.Go(func() {
				<-start
				f()
				done <- true
				<-end
			})
		}
		for range goroutines { // one after the other
			start <- true
			<-done
		}
		metrics.Read(stacks)
		return int(stacks[0].Value.Uint64()-before) / goroutines
	}
	for _, w := range wires {
		t.Run(w.name, func(t *testing.T) {
			families(t, func(t *testing.T, to netip.Prefix) {
				client, server := pair(t, w.PipeConfig, Config{})
				c, s := connected(t, client, server, to)
				one := make([]byte, 1)
				send(t, c, s, one) // the neighbour is known from here on
				idle, busy := each(func() {}), each(func() {
					if _, err := c.Write(one); err != nil {
						t.Error(err)
					}
					if _, err := s.Read(one); err != nil {
						t.Error(err)
					}
				})
				if busy > idle+512 {
					t.Errorf("a goroutine takes %d octets of stack, and %d once it has read and written", idle, busy)
				}
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
