package stack

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// bound is a UDP socket at an address of a host, which is closed with the test.
func bound(t *testing.T, s *Stack, network, address string) *UDPConn {
	t.Helper()
	p, err := s.ListenPacket(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p.(*UDPConn)
}

// toward is a connected socket.
func toward(t *testing.T, s *Stack, to netip.AddrPort) *UDPConn {
	t.Helper()
	c, err := s.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*UDPConn)
}

// localPort is the address and port of a socket.
func localPort(u *UDPConn) netip.AddrPort { return u.LocalAddr().(*net.UDPAddr).AddrPort() }

// couple is a connected socket of the client, and the server's that it is connected to.
func couple(t *testing.T, wire link.PipeConfig, to netip.Prefix) (c, s *UDPConn) {
	t.Helper()
	client, server := pair(t, wire, Config{})
	s = bound(t, server, "udp", netip.AddrPortFrom(to.Addr(), 0).String())
	return toward(t, client, localPort(s)), s
}

// RFC 768: a datagram is one message; Read returns one, and what does not fit is lost.
func TestUDPBoundaries(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		c, s := couple(t, link.PipeConfig{MTU: 1500}, to)
		longest := 1500 - ipHeader(to.Addr()) - 8
		for _, n := range []int{1, 0, 3, longest, 0} {
			if k, err := c.Write(bytes.Repeat([]byte{byte(n)}, n)); k != n || err != nil {
				t.Fatalf("writing %d octets: %d, %v", n, k, err)
			}
		}
		if n, err := c.Write(make([]byte, maxDatagram(to.Addr())+1)); n != 0 || !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("writing more than a packet can carry: %d, %v", n, err)
		}
		b := make([]byte, 2000)
		for _, want := range []struct{ room, n, flags int }{{2000, 1, 0}, {2000, 0, 0}, {2, 2, 0x20}, {2000, longest, 0}, {0, 0, 0}} {
			n, _, flags, from, err := s.ReadMsgUDP(b[:want.room], nil)
			if n != want.n || flags != want.flags || err != nil || from.AddrPort() != localPort(c) {
				t.Errorf("read %d, flags %#x, from %v, %v; want %d, %#x", n, flags, from, err, want.n, want.flags)
			}
		}
	})
}

// A connected socket hears its peer only, also where another socket has the same port of the same host.
func TestUDPConnectedHearsItsPeer(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		s := bound(t, server, "udp", netip.AddrPortFrom(to.Addr(), 0).String())
		stranger := bound(t, server, "udp", netip.AddrPortFrom(to.Addr(), 0).String())
		c := toward(t, client, localPort(s))
		stranger.WriteToUDPAddrPort([]byte("stranger"), localPort(c))
		s.WriteToUDPAddrPort([]byte("peer"), localPort(c))
		b := make([]byte, 10)
		if n, from, err := c.ReadFromUDPAddrPort(b); string(b[:n]) != "peer" || from != localPort(s) || err != nil {
			t.Errorf("read %q from %v, %v", b[:n], from, err)
		}
	})
}

// The deadlines are net.Conn's: the past ends a pending call at once, the zero time takes it back, a later one moves it.
func TestUDPDeadlines(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			c, s := couple(t, link.PipeConfig{}, to)
			start := time.Now()
			done := make(chan error, 2)
			read := func() {
				go func() { _, err := c.Read(make([]byte, 1)); done <- err }()
				synctest.Wait()
			}
			read()
			read()
			c.SetReadDeadline(time.Unix(1, 0))
			for range 2 {
				checkOp(t, <-done, "read", os.ErrDeadlineExceeded, true)
			}
			c.SetDeadline(time.Time{})
			read()
			s.WriteToUDPAddrPort([]byte("x"), localPort(c))
			if err := <-done; err != nil {
				t.Errorf("after the zero deadline: %v", err)
			}
			c.SetReadDeadline(time.Now().Add(time.Minute))
			read()
			c.SetReadDeadline(time.Now().Add(time.Hour))
			checkOp(t, <-done, "read", os.ErrDeadlineExceeded, true)
			c.SetReadDeadline(time.Now().Add(time.Hour))
			read()
			c.SetReadDeadline(time.Now().Add(time.Minute))
			checkOp(t, <-done, "read", os.ErrDeadlineExceeded, true)
			if d := time.Since(start); d != time.Hour+time.Minute {
				t.Errorf("an hour and a minute took %v", d)
			}
		})
	})
}

// A Write that finds the device full waits for room, under its deadline and until Close.
func TestUDPWriteWaitsForRoom(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			near, far := link.Pipe(link.PipeConfig{Queue: 4})
			s := host(t, near, Config{}, client4, client6)
			c := toward(t, s, netip.AddrPortFrom(to.Addr(), 9))
			write := func() error {
				for {
					if _, err := c.Write([]byte("x")); err != nil {
						return err
					}
				}
			}
			start := time.Now()
			c.SetWriteDeadline(start.Add(time.Second))
			checkOp(t, write(), "write", os.ErrDeadlineExceeded, true)
			if d := time.Since(start); d != time.Second {
				t.Errorf("a deadline of a second came after %v", d)
			}
			done := make(chan error, 1)
			begin := func() {
				go func() { done <- write() }()
				synctest.Wait()
			}
			c.SetWriteDeadline(time.Time{})
			begin()
			c.SetWriteDeadline(time.Unix(1, 0))
			checkOp(t, <-done, "write", os.ErrDeadlineExceeded, true)
			c.SetWriteDeadline(time.Time{})
			begin()
			packets := make([]link.Packet, 8)
			far.Queues()[0].Read(packets) // now there is room
			synctest.Wait()
			select {
			case err := <-done:
				t.Errorf("with room Write says %v", err)
			default:
			}
			c.Close()
			checkOp(t, <-done, "write", net.ErrClosed, false)
			far.Close()
		})
	})
}

func TestUDPConcurrent(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		c, s := couple(t, link.PipeConfig{Ethernet: true, MTU: 1500}, to)
		var all sync.WaitGroup
		until := func(f func() error) {
			all.Go(func() {
				for {
					if err := f(); errors.Is(err, net.ErrClosed) {
						return
					}
				}
			})
		}
		var heard sync.WaitGroup
		heard.Add(1)
		once := sync.OnceFunc(heard.Done)
		for range 4 {
			until(func() error { _, err := c.Write(make([]byte, 100)); return err })
			until(func() error { _, _, err := c.ReadFrom(make([]byte, 100)); return err })
			until(func() error { return c.SetDeadline(time.Now().Add(time.Hour)) })
			until(func() error { return c.SetReadBuffer(1 << 16) })
			until(func() error {
				_, from, err := s.ReadFromUDPAddrPort(make([]byte, 100))
				if err == nil {
					s.WriteToUDPAddrPort([]byte("answer"), from)
					once()
				}
				return err
			})
		}
		heard.Wait()
		c.Close()
		s.Close()
		all.Wait()
	})
}

// Close ends every pending Read, and frees the port for the next.
func TestUDPClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := couple(t, link.PipeConfig{}, server4)
		done := make(chan error, 3)
		for range 3 {
			go func() { _, _, err := s.ReadFrom(make([]byte, 1)); done <- err }()
		}
		synctest.Wait()
		at := s.LocalAddr().String()
		s.Close()
		for range 3 {
			checkOp(t, <-done, "read", net.ErrClosed, false)
		}
		again := bound(t, s.stack, "udp", at)
		c.Write([]byte("x"))
		if n, _, err := again.ReadFrom(make([]byte, 9)); n != 1 || err != nil {
			t.Errorf("the next socket at %s reads %d, %v", at, n, err)
		}
	})
}

// A socket for both families shows IPv4 addresses as such, and answers from the address that it was asked at.
func TestUDPDualStack(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	s := bound(t, server, "udp", ":0")
	for _, to := range []netip.Prefix{server4, server6} {
		c := toward(t, client, netip.AddrPortFrom(to.Addr(), localPort(s).Port()))
		c.Write([]byte("x"))
		n, from, err := s.ReadFromUDPAddrPort(make([]byte, 9))
		if n != 1 || err != nil || from != localPort(c) {
			t.Fatalf("read %d from %v, %v; want it from %v", n, from, err, localPort(c))
		}
		s.WriteToUDPAddrPort([]byte("answer"), from)
		if n, from, err := c.ReadFromUDPAddrPort(make([]byte, 9)); n != 6 || err != nil || from.Addr() != to.Addr() {
			t.Errorf("the answer: %d from %v, %v", n, from, err)
		}
		mapped := netip.AddrPortFrom(netip.AddrFrom16(localPort(c).Addr().As16()), localPort(c).Port())
		s.WriteToUDPAddrPort([]byte("mapped"), mapped)
		if n, err := c.Read(make([]byte, 9)); n != 6 || err != nil {
			t.Errorf("to %v: %d, %v", mapped, n, err)
		}
	}
}

// Of sockets that share a port, the one bound to the address gets the datagram, and those of other addresses do not.
func TestUDPBoundToAddress(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	families(t, func(t *testing.T, to netip.Prefix) {
		lo := "127.0.0.1:4000"
		if to.Addr().Is6() {
			lo = "[::1]:4000"
		}
		inside := bound(t, server, "udp", lo)
		outside := bound(t, server, "udp", netip.AddrPortFrom(to.Addr(), 4000).String())
		c := toward(t, client, localPort(outside))
		c.Write([]byte("outside"))
		toward(t, server, localPort(inside)).Write([]byte("in"))
		if n, from, err := outside.ReadFromUDPAddrPort(make([]byte, 9)); n != 7 || err != nil || from != localPort(c) {
			t.Errorf("the socket bound to %v read %d from %v, %v", to.Addr(), n, from, err)
		}
		if n, err := inside.Read(make([]byte, 9)); n != 2 || err != nil {
			t.Errorf("the socket bound to %s read %d, %v", lo, n, err)
		}
	})
}

// RFC 919 §7, RFC 1122 §3.3.6: a datagram to a network's broadcast address reaches every socket on its port.
func TestUDPBroadcast(t *testing.T) {
	for _, ethernet := range []bool{false, true} {
		client, server := pair(t, link.PipeConfig{Ethernet: ethernet}, Config{})
		s := bound(t, server, "udp4", ":67")
		c := bound(t, client, "udp4", ":68")
		for _, to := range []string{"255.255.255.255:67", "198.51.100.255:67"} {
			if _, err := c.WriteToUDPAddrPort([]byte("anybody?"), netip.MustParseAddrPort(to)); err != nil {
				t.Fatal(err)
			}
			n, from, err := s.ReadFromUDPAddrPort(make([]byte, 20))
			if n != 8 || err != nil || from != netip.AddrPortFrom(client4.Addr(), 68) {
				t.Errorf("read %d from %v, %v", n, from, err)
			}
			s.WriteToUDPAddrPort([]byte("here"), from)
			if n, from, err := c.ReadFromUDPAddrPort(make([]byte, 20)); n != 4 || err != nil || from.Addr() != server4.Addr() {
				t.Errorf("the answer to a broadcast comes from %v (%d, %v), want %v", from, n, err, server4.Addr())
			}
		}
	}
}

// TestA49UDPReadBuffer: what a socket holds unread is bounded by SetReadBuffer; the rest is dropped and counted by name.
func TestA49UDPReadBuffer(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			c, s := couple(t, link.PipeConfig{}, to)
			s.SetReadBuffer(10000)
			const sent = 100
			for range sent {
				c.Write(make([]byte, 1000))
			}
			synctest.Wait()
			s.SetReadDeadline(time.Now().Add(time.Second))
			read := 0
			for ; ; read++ {
				if _, err := s.Read(make([]byte, 1000)); err != nil {
					break
				}
			}
			if dropped := s.stack.Stats().Drops[UDPFull.String()]; read == 0 || read > 10 || read+int(dropped) != sent {
				t.Errorf("read %d and dropped %d of %d datagrams with room for less than ten", read, dropped, sent)
			}
		})
	})
}

// A datagram that waits for its neighbour is sent once that has answered (RFC 1122 §2.3.2.2).
func TestUDPWaitsForNeighbor(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		c, s := couple(t, link.PipeConfig{Ethernet: true}, to)
		c.Write([]byte("first"))
		b := make([]byte, 9)
		if n, err := s.Read(b); string(b[:n]) != "first" || err != nil {
			t.Errorf("read %q, %v", b[:n], err)
		}
	})
}
