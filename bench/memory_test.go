package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
)

// wires are what two stacks are connected by.
var wires = []struct {
	name     string
	mtu, gso int
}{
	{"mtu=1500", 1500, 0},
	{"mtu=65535", 65535, 0},
	{"mtu=1500,gso", 1500, 65535}, // waybill's alone: super-segments and no sums, as over a TUN with offloads
}

// each runs f for each kind of stack over each wire.
func each(b *testing.B, f func(b *testing.B, client, server host)) {
	for _, kind := range kinds {
		for _, w := range wires {
			if w.gso > 0 && kind != "waybill" {
				continue
			}
			b.Run("stack="+kind+"/"+w.name, func(b *testing.B) {
				client, server := newPair(b, kind, w.mtu, w.gso)
				f(b, client, server)
			})
		}
	}
}

const bulkBuffer = 256 << 10 // a Read or Write of BenchmarkBulk

// BenchmarkBulk sends as fast as it goes one way over one connection.
func BenchmarkBulk(b *testing.B) {
	each(b, func(b *testing.B, client, server host) {
		c, s := dialer(b, client, server)()
		done := make(chan error, 1)
		go func() {
			in := make([]byte, bulkBuffer)
			for {
				if _, err := s.Read(in); err != nil {
					done <- err
					return
				}
			}
		}()
		out := make([]byte, bulkBuffer)
		b.ReportAllocs()
		b.SetBytes(bulkBuffer)
		for b.Loop() {
			if _, err := c.Write(out); err != nil {
				b.Fatal(err)
			}
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			b.Fatal(err)
		}
		if err := <-done; !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	})
}

// BenchmarkRoundTrip sends an octet and waits until the other end has sent it back.
func BenchmarkRoundTrip(b *testing.B) {
	each(b, func(b *testing.B, client, server host) {
		c, s := dialer(b, client, server)()
		go func() {
			var in [1]byte
			for {
				if _, err := s.Read(in[:]); err != nil {
					return
				}
				if _, err := s.Write(in[:]); err != nil {
					return
				}
			}
		}()
		var one [1]byte
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.Write(one[:]); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, one[:]); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
	})
}

// BenchmarkConnect opens a connection and closes it from this side, then from the other.
func BenchmarkConnect(b *testing.B) {
	for _, kind := range kinds {
		b.Run("stack="+kind, func(b *testing.B) {
			client, server := newPair(b, kind, 1500, 0)
			const port = 9000
			l, err := server.listen(port)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				var in [1]byte
				for {
					s, err := l.Accept()
					if err != nil {
						return
					}
					s.Read(in[:]) // until the other side closes
					s.Close()
				}
			}()
			b.ReportAllocs()
			for b.Loop() {
				c, err := client.dial(netip.AddrPortFrom(serverAddr.Addr(), port))
				if err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}

// inUse is what the process holds for connections, in octets: heap without garbage, and stacks of goroutines. Pools give
// up what they hold at the second collection.
func inUse() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// BenchmarkIdle tells what a connection costs that has carried a request and an answer and is idle now, at one end of
// it: in memory as B/conn, with a goroutine that waits in Read at each end where it says so. The time is that of
// opening all of them.
func BenchmarkIdle(b *testing.B) {
	for _, c := range []struct {
		kind    string
		conns   int
		readers bool
	}{
		{"waybill", 10_000, false}, {"netstack", 10_000, false},
		{"waybill", 10_000, true}, {"netstack", 10_000, true},
		{"waybill", 200_000, false},
	} {
		b.Run(fmt.Sprintf("conns=%d/readers=%t/stack=%s", c.conns, c.readers, c.kind), func(b *testing.B) {
			for b.Loop() {
				idle(b, c.kind, c.conns, c.readers)
			}
		})
	}
}

func idle(b *testing.B, kind string, n int, readers bool) {
	client, server := newPair(b, kind, 1500, 0)
	dial := dialer(b, client, server)
	ends := make([]net.Conn, 0, 2*n) // what the benchmark itself keeps is not counted
	before := inUse()
	for range n {
		c, s := dial()
		exchange(b, c, s)
		ends = append(ends, c, s)
	}
	if readers {
		for _, c := range ends {
			go func() {
				var in [1]byte
				c.Read(in[:])
			}()
		}
	}
	b.ReportMetric(float64(inUse()-before)/float64(2*n), "B/conn")
	for _, c := range ends {
		c.Close()
	}
}

// exchange sends a request and an answer.
func exchange(b *testing.B, c, s net.Conn) {
	b.Helper()
	var m [100]byte
	for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
		if _, err := way[0].Write(m[:]); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], m[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDemux is the way of one segment of 100 octets from Write to Read with many connections open: on one of them,
// or on all in turn, where each is cold. The connections are waybill's.
func BenchmarkDemux(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000} {
		b.Run(fmt.Sprintf("conns=%d", n), func(b *testing.B) {
			client, server := newPair(b, "waybill", 1500, 0)
			dial := dialer(b, client, server)
			conns := make([][2]net.Conn, n)
			for i := range conns {
				conns[i][0], conns[i][1] = dial()
			}
			for _, on := range []struct {
				name string
				from [][2]net.Conn
			}{{"one", conns[:1]}, {"all", conns}} {
				b.Run("on="+on.name, func(b *testing.B) { demux(b, server, on.from) })
			}
		})
	}
}

// demux sends one segment after another on the connections in turn. The receiver reads when so many are under way that
// waking it counts for little.
func demux(b *testing.B, server host, conns [][2]net.Conn) {
	const under = 64
	var m [100]byte
	sent, read := 0, 0
	round := func() {
		for range under {
			if _, err := conns[sent%len(conns)][0].Write(m[:]); err != nil {
				b.Fatal(err)
			}
			sent++
		}
		for ; read < sent; read++ {
			if _, err := io.ReadFull(conns[read%len(conns)][1], m[:]); err != nil {
				b.Fatal(err)
			}
		}
	}
	for range 20 + len(conns)/under {
		round() // until the congestion window is open, so that one Write is one segment, and each connection has sent
	}
	before, first := server.counted(), sent
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%under == 0 {
			round()
		}
	}
	if n := sent - first; n > 0 {
		b.ReportMetric(float64(server.counted()-before)/float64(n), "segments/op")
	}
}
