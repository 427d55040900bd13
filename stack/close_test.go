package stack

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// traffic is what two hosts do to each other until they are closed.
type traffic struct {
	t       *testing.T
	running sync.WaitGroup // everything that uses a socket
	moving  sync.WaitGroup // directions in which nothing has arrived yet
	ends    atomic.Int64
}

// pump writes at one end until that fails, and reads at the other.
func (l *traffic) pump(from, to net.Conn) {
	l.moving.Add(1)
	l.running.Go(func() {
		b := make([]byte, 4<<10)
		for {
			if _, err := from.Write(b); err != nil {
				l.ended("write", err)
				return
			}
		}
	})
	l.running.Go(func() {
		b := make([]byte, 4<<10)
		for first := true; ; first = false {
			_, err := to.Read(b)
			if first {
				l.moving.Done()
			}
			if err != nil {
				l.ended("read", err)
				return
			}
		}
	})
}

// ended checks what a socket says when its stack, or its peer's, is closed under it. A reset is told once, as the kernel
// does: where the writer is told, the reader's error is io.EOF.
func (l *traffic) ended(what string, err error) {
	l.ends.Add(1)
	for _, e := range []error{net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, io.EOF} {
		if errors.Is(err, e) {
			return
		}
	}
	l.t.Errorf("a %s ended with %v", what, err)
}

// datagrams sends one way for as long as the sender lives; what is lost is lost.
func (l *traffic) datagrams(from net.Conn, to net.Conn) {
	l.running.Go(func() {
		b := make([]byte, 1000)
		for {
			if _, err := from.Write(b); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	l.running.Go(func() {
		b := make([]byte, 1000)
		for {
			if _, err := to.Read(b); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
}

// dials connects to an address that nobody has: the segments wait for its neighbour's answer.
func (l *traffic) dials(s *Stack, address string) {
	l.moving.Add(1)
	l.running.Go(func() {
		l.moving.Done()
		if _, err := s.Dial("tcp", address); err == nil {
			l.t.Error("a connection to an address that nobody has")
		}
	})
}

// TestA79CloseUnderLoad closes both stacks while everything moves. Close returns when every goroutine of its stack is gone.
func TestA79CloseUnderLoad(t *testing.T) {
	conns := 1000
	if underRace || testing.Short() {
		conns = 200
	}
	before := runtime.NumGoroutine()
	client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{WriteBuffer: 64 << 10, ReadBuffer: 64 << 10})
	l := &traffic{t: t}
	var open [][2]*TCPConn
	for k := range conns {
		to := server4
		if k%2 == 1 {
			to = server6
		}
		c, s := connected(t, client, server, to)
		open = append(open, [2]*TCPConn{c, s})
	}
	for _, c := range open {
		l.pump(c[0], c[1])
		l.pump(c[1], c[0])
	}
	for range 10 {
		listener, err := server.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		l.running.Go(func() {
			if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept ended with %v, want %v", err, net.ErrClosed)
			}
		})
		l.dials(client, "198.51.100.77:80")
		l.dials(client, "[2001:db8:51::77]:80")
	}
	for _, to := range []netip.Prefix{server4, server6} {
		up, down := connectedUDP(t, client, server, to)
		l.datagrams(up, down)
		l.datagrams(down, up)
	}
	l.moving.Wait()
	for _, s := range []*Stack{client, server} {
		if n := s.Stats().Drops["tcp-paws"]; n > 0 {
			t.Errorf("%d segments had a timestamp older than one before, on a wire that keeps order", n)
		}
	}

	var closing sync.WaitGroup
	for _, s := range []*Stack{client, server} {
		closing.Go(func() {
			start := time.Now()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			t.Logf("closing a stack with %d busy connections took %v", conns, time.Since(start).Round(time.Millisecond))
		})
	}
	closing.Wait()
	l.running.Wait()
	if n := int(l.ends.Load()); n != 4*conns {
		t.Errorf("%d reads and writes ended, want %d", n, 4*conns)
	}
	noGoroutineLeft(t, before)
	for _, s := range []*Stack{client, server} {
		if st := s.Stats(); st.Conns != 0 || st.TimeWait != 0 {
			t.Errorf("%d connections and %d records remain in a closed stack", st.Conns, st.TimeWait)
		}
	}
}

// TestA76WritersLeaveMemoryForWhatArrives has many connections move far more, both ways at once, than the stacks may hold.
// Were all memory full of what waits to be acknowledged, nothing could arrive and be acknowledged.
func TestA76WritersLeaveMemoryForWhatArrives(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		start := time.Now()
		client, server := pair(t, link.PipeConfig{MTU: 1500, Delay: time.Millisecond}, Config{Memory: 2 << 20})
		var all sync.WaitGroup
		for range 8 {
			c, s := connected(t, client, server, to)
			all.Go(func() { bothWays(t, c, s, 1<<20) })
		}
		all.Wait()
		if d := time.Since(start); d > time.Minute {
			t.Errorf("the transfers took %v over a wire of a millisecond", d)
		}
	})
}

// bubbled waits until every goroutine of the caller's bubble waits, and counts them. Those outside are the runtime's and
// other tests', and come and go.
func bubbled() int {
	synctest.Wait()
	stacks := make([]byte, 1<<20)
	first, _, _ := strings.Cut(string(stacks[:runtime.Stack(stacks, false)]), "\n")
	_, bubble, _ := strings.Cut(first, ", synctest bubble ") // "7]:"
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ", synctest bubble "+bubble+"\n")
}

// noGoroutineLeft waits until goroutines that are on their way out are gone, and shows those that stay.
func noGoroutineLeft(t *testing.T, before int) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(limit) {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks)
		}
	}
}

// TestNoGoroutinePerConnection counts while 1,000 connections are open.
func TestNoGoroutinePerConnection(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		dial := dialer(t, client, server, to)
		exchange(t, dial, 1)
		before := bubbled()
		for range 1000 {
			exchange(t, dial, 1)
		}
		time.Sleep(time.Second) // the delayed acknowledgements have gone
		if n := bubbled(); n > before {
			t.Errorf("%d goroutines with 1,000 more connections, and %d before", n, before)
		}
		if n := client.Stats().Conns; n != 1001 {
			t.Errorf("%d connections are open, want 1,001", n)
		}
	})
}

// exchange makes a connection, and sends a request and an answer of n octets over it.
func exchange(t testing.TB, dial func() (c, s *TCPConn), n int) (c, s *TCPConn) {
	t.Helper()
	c, s = dial()
	b := make([]byte, n)
	for _, way := range [][2]*TCPConn{{c, s}, {s, c}} {
		if _, err := way[0].Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(way[1], b); err != nil {
			t.Fatal(err)
		}
	}
	return c, s
}

// dialer returns a function that makes one connection after another to one listener of the server.
func dialer(t testing.TB, client, server *Stack, to netip.Prefix) (dial func() (c, s *TCPConn)) {
	t.Helper()
	l, err := server.ListenTCP("tcp", netip.AddrPortFrom(to.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return func() (c, s *TCPConn) {
		t.Helper()
		conn, err := client.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if s, err = l.AcceptTCP(); err != nil {
			t.Fatal(err)
		}
		return conn.(*TCPConn), s
	}
}

// heapInUse is the heap in octets once all garbage is gone. Pools give up what they hold at the second collection.
func heapInUse() int64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestA12A26ShortConnectionsLeaveNothing makes 100,000 connections that carry a request and an answer, half of which the
// server closes first. Once TIME-WAIT is over neither heap nor goroutines have grown.
func TestA12A26ShortConnectionsLeaveNothing(t *testing.T) {
	total := 100_000
	if underRace || testing.Short() {
		total = 10_000
	}
	batch := total / 10 // the ephemeral ports bear 28,000 in TIME-WAIT
	for _, f := range []struct {
		name string
		netip.Prefix
	}{{"IPv4", server4}, {"IPv6", server6}} {
		t.Run(f.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500}, Config{})
				dial := dialer(t, client, server, f.Prefix)
				var heap int64
				var goroutines int
				for done := 0; done < total/2; done += batch {
					for k := range batch {
						c, s := exchange(t, dial, 100)
						first, last := c, s
						if k%2 == 1 {
							first, last = s, c
						}
						if err := errors.Join(first.Close(), last.Close()); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(70 * time.Second) // TIME-WAIT of 60 s, and a sweep
					synctest.Wait()
					if done == 0 {
						heap, goroutines = heapInUse(), bubbled()
					}
				}
				for _, s := range []*Stack{client, server} {
					if st := s.Stats(); st.Conns != 0 || st.TimeWait != 0 || st.Memory != 0 {
						t.Errorf("%d connections, %d records and %d octets of chunks remain", st.Conns, st.TimeWait, st.Memory)
					}
				}
				grown := heapInUse() - heap
				t.Logf("the heap has grown by %d octets, to %d, since the first %d connections", grown, heap+grown, batch)
				if grown > 256<<10 { // 2.5 octets for each connection: caches of the runtime
					t.Errorf("the heap has grown by %d octets over %d connections", grown, total/2-batch)
				}
				if n := bubbled(); n != goroutines {
					t.Errorf("%d goroutines, and %d after the first %d connections", n, goroutines, batch)
				}
			})
		})
	}
}

// connectedUDP makes two UDP sockets that are connected to each other.
func connectedUDP(t *testing.T, client, server *Stack, to netip.Prefix) (c, s net.Conn) {
	t.Helper()
	l, err := server.ListenPacket("udp", netip.AddrPortFrom(to.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	c, err = client.Dial("udp", l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	local, peer := l.LocalAddr().(*net.UDPAddr).AddrPort(), c.LocalAddr().(*net.UDPAddr).AddrPort()
	s, err = server.dialUDP("udp", local, peer)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}
