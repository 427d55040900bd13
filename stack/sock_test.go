package stack

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// The tests of this file go through what programs expect of a net.Conn, a net.Listener and the functions that make
// them. TestConn (nettest) stands in net_test.go, the table of errors in errors_test.go, names in dns_test.go.

// The methods that programs reach for by type assertion.
var (
	_ interface {
		net.Conn
		io.ReaderFrom
		io.WriterTo
		CloseRead() error
		CloseWrite() error
		SetLinger(int) error
		SetNoDelay(bool) error
		SetKeepAlive(bool) error
		SetKeepAlivePeriod(time.Duration) error
		SetKeepAliveConfig(net.KeepAliveConfig) error
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	} = (*TCPConn)(nil)
	_ interface {
		net.Listener
		SetDeadline(time.Time) error
	} = (*TCPListener)(nil)
	_ interface {
		net.Conn
		net.PacketConn
		ReadFromUDP([]byte) (int, *net.UDPAddr, error)
		ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
		ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
		WriteToUDP([]byte, *net.UDPAddr) (int, error)
		WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
		WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	} = (*UDPConn)(nil)
)

func TestConvention02OpError(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	_, err := client.Dial("tcp", "198.51.100.2:1")
	var sys *os.SyscallError
	if op, ok := err.(*net.OpError); !ok || !errors.As(op.Err, &sys) || sys.Syscall != "connect" || sys.Err != syscall.ECONNREFUSED {
		t.Errorf("a refused dial says %#v", err)
	}
	if want := "dial tcp 198.51.100.2:1: connect: " + syscall.ECONNREFUSED.Error(); err.Error() != want {
		t.Errorf("a refused dial reads %q, want %q", err, want)
	}
	l, _ := server.Listen("tcp", ":7")
	_, err = server.Listen("tcp", ":7")
	if want := "listen tcp [::]:7: bind: " + syscall.EADDRINUSE.Error(); err == nil || err.Error() != want {
		t.Errorf("a second listener reads %v, want %q", err, want)
	}
	l.Close()
	if _, err := l.Accept(); err == nil || err.Error() != "accept tcp [::]:7: use of closed network connection" {
		t.Errorf("Accept after Close reads %v", err)
	}
}

// What the kernel's loopback interface cannot show, against errors that are stated here.
func TestConvention03Unreachable(t *testing.T) {
	for _, c := range []struct {
		name, network, address string
		want                   error
		timeout                bool
	}{
		{"no route, IPv4", "tcp", "203.0.113.1:80", syscall.ENETUNREACH, false},
		{"no route, IPv6", "tcp", "[2001:db8:77::1]:80", syscall.ENETUNREACH, false},
		{"no route, UDP", "udp", "203.0.113.1:80", syscall.ENETUNREACH, false},
		{"no neighbour, IPv4", "tcp", "198.51.100.99:80", syscall.EHOSTUNREACH, false},
		{"no neighbour, IPv6", "tcp", "[2001:db8:51::99]:80", syscall.EHOSTUNREACH, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := pair(t, link.PipeConfig{Ethernet: true}, Config{})
				_, err := client.Dial(c.network, c.address)
				checkOp(t, err, "dial", c.want, c.timeout)
			})
		})
	}
	for _, to := range []string{"198.51.100.99:80", "[2001:db8:51::99]:80"} {
		synctest.Test(t, func(t *testing.T) {
			client, _ := pair(t, link.PipeConfig{}, Config{})
			start := time.Now()
			_, err := client.Dial("tcp", to)
			checkOp(t, err, "dial", syscall.ETIMEDOUT, true)
			if d := time.Since(start); d < 180*time.Second {
				t.Errorf("gave up after %v; RFC 9293 §3.8.3, MUST-23, wants at least 3 minutes", d)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			client, _ := pair(t, link.PipeConfig{Ethernet: true}, Config{})
			u, err := client.Dial("udp", to)
			if err != nil {
				t.Fatal(err)
			}
			u.Write([]byte("x"))
			_, err = u.Read(make([]byte, 1))
			checkOp(t, err, "read", syscall.EHOSTUNREACH, false)
		})
	}
}

// checkOp checks that err is a *net.OpError of the operation op that wraps want.
func checkOp(t *testing.T, err error, op string, want error, timeout bool) {
	t.Helper()
	e, ok := err.(*net.OpError)
	if !ok || e.Op != op || !errors.Is(err, want) || e.Timeout() != timeout {
		t.Errorf("got %v (%T), want a *net.OpError, %s, %v, timeout %v", err, err, op, want, timeout)
	}
}

// A peer that has fallen silent: the user timeout, or keep-alive probes without an answer, end in ETIMEDOUT, told once.
func TestConvention03TimedOut(t *testing.T) {
	for _, keep := range []bool{false, true} {
		families(t, func(t *testing.T, to netip.Prefix) {
			synctest.Test(t, func(t *testing.T) {
				client, server, cut := cutPair(t, link.PipeConfig{}, Config{})
				c, _ := connected(t, client, server, to)
				cut.Store(true)
				if keep {
					c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: time.Second, Count: 3})
				} else {
					c.SetUserTimeout(30 * time.Second)
					c.Write([]byte("x"))
				}
				_, err := c.Read(make([]byte, 1))
				checkOp(t, err, "read", syscall.ETIMEDOUT, true)
				if _, err = c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("the second Read says %v, want io.EOF", err)
				}
				_, err = c.Write([]byte("x"))
				checkOp(t, err, "write", syscall.EPIPE, false)
			})
		})
	}
}

func TestConvention04PendingDial(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, _ := pair(t, link.PipeConfig{}, Config{})
			silent := netip.AddrPortFrom(to.Addr().Next().Next(), 80).String()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			_, err := client.DialContext(ctx, "tcp", silent)
			checkOp(t, err, "dial", context.Canceled, false)
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = client.DialContext(ctx, "tcp", silent)
			checkOp(t, err, "dial", context.DeadlineExceeded, true)
			synctest.Wait() // a retransmission may be leaving at this very instant
			for c := range client.Conns() {
				t.Errorf("a dial that was given up left %+v", c)
			}
		})
	})
}

func TestConvention05Deadlines(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{}, Config{})
			c, peer := connected(t, client, server, to)
			start := time.Now()
			read, write := make(chan error, 1), make(chan error, 1)
			go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
			go func() {
				for {
					if _, err := c.Write(make([]byte, 1<<16)); err != nil {
						write <- err
						return
					}
				}
			}()
			synctest.Wait()
			c.SetReadDeadline(time.Unix(1, 0)) // net/http's aLongTimeAgo
			checkOp(t, <-read, "read", os.ErrDeadlineExceeded, true)
			synctest.Wait()
			select {
			case err := <-write:
				t.Fatalf("the read deadline ended a Write: %v", err)
			default:
			}
			c.SetWriteDeadline(time.Unix(1, 0))
			checkOp(t, <-write, "write", os.ErrDeadlineExceeded, true)
			if d := time.Since(start); d != 0 {
				t.Errorf("deadlines of the past took %v", d)
			}
			c.SetDeadline(time.Time{})
			peer.Write([]byte("x"))
			if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
				t.Errorf("after the zero deadline Read says %d, %v", n, err)
			}
			c.SetReadDeadline(time.Now().Add(time.Minute))
			go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
			synctest.Wait()
			c.SetReadDeadline(time.Now().Add(time.Hour)) // a pending Read minds the new one
			checkOp(t, <-read, "read", os.ErrDeadlineExceeded, true)
			if d := time.Since(start); d != time.Hour {
				t.Errorf("a deadline of an hour came after %v", d)
			}
		})
	})
}

func TestConvention06HalfClose(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		c, peer := connected(t, client, server, to)
		io.WriteString(c, "question")
		c.CloseWrite()
		if b, err := io.ReadAll(peer); string(b) != "question" || err != nil {
			t.Errorf("the peer read %q, %v", b, err)
		}
		go func() { peer.ReadFrom(strings.NewReader("answer")); peer.Close() }()
		var b bytes.Buffer
		if n, err := c.WriteTo(&b); n != 6 || err != nil || b.String() != "answer" {
			t.Errorf("behind CloseWrite we read %q, %d, %v", b.String(), n, err)
		}
	})
}

func TestConvention06CopyAll(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{})
		c, peer := connected(t, client, server, to)
		text := make([]byte, 1<<20+7)
		for i := range text {
			text[i] = byte(i * i >> 3)
		}
		go func() { io.Copy(c, bytes.NewReader(text)); c.CloseWrite() }()
		var b bytes.Buffer
		if n, err := io.Copy(&b, peer); int(n) != len(text) || err != nil || !bytes.Equal(b.Bytes(), text) {
			t.Errorf("copied %d octets of %d, %v, equal %v", n, len(text), err, bytes.Equal(b.Bytes(), text))
		}
	})
}

// SetLinger(0) makes Close a reset; without it the octets still leave.
func TestConvention06Linger(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		c, peer := connected(t, client, server, to)
		c.SetLinger(0)
		c.Close()
		if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after SetLinger(0) and Close the peer reads %v, want a reset", err)
		}
		c, peer = connected(t, client, server, to)
		c.SetLinger(0)
		c.SetLinger(-1)
		io.WriteString(c, "last words")
		c.Close()
		if b, err := io.ReadAll(peer); string(b) != "last words" || err != nil {
			t.Errorf("after Close the peer reads %q, %v", b, err)
		}
	})
}

// Against a zero window a Close, also one behind CloseWrite, leaves ESTABLISHED, and text and FIN leave once there is room.
func TestConvention06CloseAgainstZeroWindow(t *testing.T) {
	for _, half := range []bool{false, true} {
		families(t, func(t *testing.T, to netip.Prefix) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{})
				c, peer := connected(t, client, server, to)
				c.SetWriteDeadline(time.Now().Add(time.Minute))
				sent := 0
				for {
					n, err := c.Write(make([]byte, 1000))
					if sent += n; err != nil {
						break
					}
				}
				flow := c.LocalAddr().String()
				if half {
					c.CloseWrite()
				}
				c.Close()
				time.Sleep(time.Minute)
				if st := stateOf(client, flow); st != tcp.FinWait1 {
					t.Errorf("closed against a zero window: %v, want FIN-WAIT-1", st)
				}
				n, err := io.Copy(io.Discard, peer)
				if int(n) != sent || err != nil {
					t.Errorf("the peer read %d octets of %d, %v", n, sent, err)
				}
				peer.Close()
				synctest.Wait()
				if st := stateOf(client, flow); st != tcp.TimeWait {
					t.Errorf("closed on both sides: %v, want TIME-WAIT", st)
				}
			})
		})
	}
}

// stateOf is the state of the connection from a local address.
func stateOf(s *Stack, local string) tcp.State {
	for c := range s.Conns() {
		if c.Local.String() == local {
			return c.State
		}
	}
	return tcp.Closed
}

func TestConvention06Options(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	c, _ := connected(t, client, server, server4)
	for name, err := range map[string]error{
		"SetNoDelay":         c.SetNoDelay(false),
		"SetKeepAlive":       c.SetKeepAlive(true),
		"SetKeepAlivePeriod": c.SetKeepAlivePeriod(time.Minute),
		"SetKeepAliveConfig": c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}),
		"SetReadBuffer":      c.SetReadBuffer(1 << 14),
		"SetWriteBuffer":     c.SetWriteBuffer(1 << 14),
		"SetTOS":             c.SetTOS(0xb8),
		"SetHopLimit":        c.SetHopLimit(3),
		"SetUserTimeout":     c.SetUserTimeout(time.Minute),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// SetWriteBuffer and the peer's receive buffer bound what Write takes while nobody reads.
func TestConvention06Buffers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{}, Config{ReadBuffer: 1 << 15})
		c, _ := connected(t, client, server, server4)
		c.SetWriteBuffer(1 << 14)
		c.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.Write(make([]byte, 1<<21))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n < 1<<14 || n > 1<<15+1<<14 {
			t.Errorf("into a buffer of 16 KiB, and 32 KiB at the peer, Write put %d, %v", n, err)
		}
	})
}

func TestConvention07A78Concurrent(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		c, peer := connected(t, client, server, to)
		var all, started sync.WaitGroup
		results := make(chan error, 64)
		for range 8 {
			started.Add(2)
			all.Go(func() {
				b := make([]byte, 100)
				started.Done()
				for {
					if _, err := c.Read(b); err != nil {
						results <- err
						return
					}
				}
			})
			all.Go(func() {
				b := make([]byte, 1000)
				started.Done()
				for {
					if _, err := c.Write(b); err != nil {
						results <- err
						return
					}
				}
			})
			all.Go(func() {
				for range 50 {
					c.SetDeadline(time.Now().Add(time.Hour))
					c.Info()
					c.SetReadBuffer(1 << 16)
				}
			})
		}
		all.Go(func() { io.Copy(io.Discard, io.LimitReader(peer, 1<<20)) })
		all.Go(func() { peer.Write(make([]byte, 1<<16)) })
		started.Wait()
		closed := make(chan error, 4)
		for range cap(closed) {
			all.Go(func() { closed <- c.Close() })
		}
		wins := 0
		for range cap(closed) {
			if err := <-closed; err == nil {
				wins++
			} else if !errors.Is(err, net.ErrClosed) {
				t.Errorf("Close: %v", err)
			}
		}
		if wins != 1 {
			t.Errorf("%d of %d calls of Close succeeded, want 1", wins, cap(closed))
		}
		peer.Close()
		all.Wait()
		close(results)
		for err := range results {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("Close ended a call with %v, want net.ErrClosed", err)
			}
		}
	})
}

// Writes of several goroutines do not mix, though each has to wait for room again and again.
func TestConvention07WritesStayWhole(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{WriteBuffer: 4096, ReadBuffer: 4096})
			c, peer := connected(t, client, server, to)
			const writers, size = 4, 50000
			var all sync.WaitGroup
			for k := range writers {
				all.Go(func() { c.Write(bytes.Repeat([]byte{'a' + byte(k)}, size)) })
			}
			go func() { all.Wait(); c.CloseWrite() }()
			synctest.Wait() // all of them wait now
			b, err := io.ReadAll(peer)
			if err != nil || len(b) != writers*size {
				t.Fatalf("read %d octets, %v, want %d", len(b), err, writers*size)
			}
			for piece := range slices.Chunk(b, size) {
				if bytes.Count(piece, piece[:1]) != size {
					t.Fatal("the writes are mixed")
				}
			}
		})
	})
}

func TestConvention08Addrs(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	for _, to := range []netip.Prefix{server4, server6} {
		l, err := server.Listen("tcp", ":0") // both families
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		c, err := client.Dial("tcp", netip.AddrPortFrom(to.Addr(), port).String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		local, remote := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
		if remote.AddrPort() != netip.AddrPortFrom(to.Addr(), port) {
			t.Errorf("RemoteAddr %v, want %v without mapping", remote.AddrPort(), to.Addr())
		}
		if s.RemoteAddr().String() != local.String() || s.LocalAddr().String() != remote.String() {
			t.Errorf("the ends disagree: %v-%v and %v-%v", local, remote, s.LocalAddr(), s.RemoteAddr())
		}
		if a := s.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); a.Is4In6() {
			t.Errorf("the accepted address %v is mapped", a)
		}
		l.Close()
		u, err := client.Dial("udp", netip.AddrPortFrom(to.Addr(), 9).String())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := u.LocalAddr().(*net.UDPAddr); !ok || u.RemoteAddr().(*net.UDPAddr).AddrPort() != netip.AddrPortFrom(to.Addr(), 9) {
			t.Errorf("UDP: %v-%v", u.LocalAddr(), u.RemoteAddr())
		}
		u.Close()
	}
}

func TestConvention08Zones(t *testing.T) {
	client, server := pair(t, link.PipeConfig{Ethernet: true}, Config{})
	far, near := linkLocal(t, server), linkLocal(t, client)
	l, err := server.Listen("tcp", net.JoinHostPort(far.String()+"%pipe1", "0"))
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr)
	if at.Zone != "pipe1" {
		t.Errorf("the listener's address is %v, without its zone", at)
	}
	for _, zone := range []string{"pipe0", "1"} { // by name and by number
		c, err := client.Dial("tcp", netip.AddrPortFrom(far.WithZone(zone), at.AddrPort().Port()).String())
		if err != nil {
			t.Fatal(err)
		}
		s, _ := l.Accept()
		if c.RemoteAddr().(*net.TCPAddr).Zone != "pipe0" || c.LocalAddr().(*net.TCPAddr).AddrPort().Addr() != near.WithZone("pipe0") {
			t.Errorf("dialled %v from %v", c.RemoteAddr(), c.LocalAddr())
		}
		if got := s.RemoteAddr().(*net.TCPAddr).AddrPort().Addr(); got != near.WithZone("pipe1") {
			t.Errorf("accepted from %v, want the zone of our side", got)
		}
	}
	if _, err := client.Dial("tcp", "[fe80::1%nowhere]:80"); err == nil {
		t.Error("dialled into a zone that does not exist")
	}
	if _, err := server.Listen("tcp", net.JoinHostPort(far.String()+"%nowhere", "0")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("listening in a zone that does not exist says %v, want EINVAL", err)
	}
	u, err := server.ListenPacket("udp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	port := u.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	c, err := client.Dial("udp", netip.AddrPortFrom(far.WithZone("pipe0"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("x"))
	_, from, err := u.ReadFrom(make([]byte, 1))
	if err != nil || from.(*net.UDPAddr).AddrPort().Addr() != near.WithZone("pipe1") {
		t.Fatalf("a datagram from %v, %v", from, err)
	}
	u.WriteTo([]byte("y"), from)
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("the answer: %d, %v", n, err)
	}
}

// linkLocal is the IPv6 link-local address of a host.
func linkLocal(t *testing.T, s *Stack) netip.Addr {
	t.Helper()
	for _, a := range s.Addrs() {
		if a.Prefix.Addr().IsLinkLocalUnicast() {
			return a.Prefix.Addr()
		}
	}
	t.Fatal("no link-local address")
	return netip.Addr{}
}

func TestConvention10TypedDial(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	families(t, func(t *testing.T, to netip.Prefix) {
		l, err := server.ListenTCP("tcp", netip.AddrPortFrom(to.Addr(), 0))
		if err != nil {
			t.Fatal(err)
		}
		from := client4.Addr()
		if to.Addr().Is6() {
			from = client6.Addr()
		}
		remote := l.Addr().(*net.TCPAddr).AddrPort()
		for _, local := range []netip.AddrPort{{}, netip.AddrPortFrom(netip.Addr{}, 5001), netip.AddrPortFrom(from, 0), netip.AddrPortFrom(from, 5003)} {
			c, err := client.DialTCP(t.Context(), "tcp", local, remote)
			if err != nil {
				t.Fatalf("from %v: %v", local, err)
			}
			got := c.LocalAddr().(*net.TCPAddr).AddrPort()
			if got.Addr() != from || local.Port() != 0 && got.Port() != local.Port() {
				t.Errorf("from %v: the local address is %v", local, got)
			}
		}
		u, err := client.DialUDP("udp", netip.AddrPortFrom(from, 5004), remote)
		if err != nil || u.LocalAddr().(*net.UDPAddr).AddrPort() != netip.AddrPortFrom(from, 5004) {
			t.Errorf("UDP from a port: %v, %v", u, err)
		}
		_, err = client.DialTCP(t.Context(), "udp", netip.AddrPort{}, remote)
		var unknown net.UnknownNetworkError
		if !errors.As(err, &unknown) {
			t.Errorf("DialTCP over udp says %v", err)
		}
	})
}

// What each form of a listener's address stands for, as measured of package net on Linux.
func TestConvention11Listen(t *testing.T) {
	for _, c := range []struct {
		network, address string
		shown            string // "" where it fails
		v4, v6           bool
	}{
		{"tcp", ":0", "::", true, true},
		{"tcp", "0.0.0.0:0", "::", true, true},
		{"tcp", "[::]:0", "::", true, true},
		{"tcp4", ":0", "0.0.0.0", true, false},
		{"tcp4", "0.0.0.0:0", "0.0.0.0", true, false},
		{"tcp4", "[::]:0", "0.0.0.0", true, false},
		{"tcp6", ":0", "::", false, true},
		{"tcp6", "[::]:0", "::", false, true},
		{"tcp6", "0.0.0.0:0", "", false, false},
		{"tcp", "198.51.100.2:0", "198.51.100.2", true, false},
		{"tcp", "[::ffff:198.51.100.2]:0", "198.51.100.2", true, false},
		{"tcp", "[2001:db8:51::2]:0", "2001:db8:51::2", false, true},
		{"tcp4", "[2001:db8:51::2]:0", "", false, false},
		{"tcp6", "198.51.100.2:0", "", false, false},
	} {
		t.Run(c.network+" "+c.address, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{}, Config{})
			l, err := server.Listen(c.network, c.address)
			u, uerr := server.ListenPacket(strings.Replace(c.network, "tcp", "udp", 1), c.address)
			if c.shown == "" {
				if err == nil || uerr == nil {
					t.Errorf("listened: %v, %v", err, uerr)
				}
				return
			}
			if err != nil || uerr != nil {
				t.Fatal(err, uerr)
			}
			a, ua := l.Addr().(*net.TCPAddr).AddrPort(), u.LocalAddr().(*net.UDPAddr).AddrPort()
			for _, a := range []netip.AddrPort{a, ua} {
				if a.Addr().String() != c.shown || a.Port() < firstEphemeral || a.Port() > lastEphemeral {
					t.Errorf("shows %v, want %s and an ephemeral port", a, c.shown)
				}
			}
			for to, want := range map[netip.Addr]bool{server4.Addr(): c.v4, server6.Addr(): c.v6} {
				if _, err := client.Dial("tcp", netip.AddrPortFrom(to, a.Port()).String()); (err == nil) != want {
					t.Errorf("dialling %v: %v, want success %v", to, err, want)
				}
				q, err := client.Dial("udp", netip.AddrPortFrom(to, ua.Port()).String())
				if err != nil {
					t.Fatal(err)
				}
				q.Write([]byte("x"))
				if want {
					u.ReadFrom(make([]byte, 1))
				} else if _, err := q.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("a datagram to %v: %v, want ECONNREFUSED", to, err)
				}
			}
		})
	}
}

// The same port for each family, and for an address beside another, are different places.
func TestConvention11SharedPort(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	for _, at := range []struct{ network, address string }{{"tcp4", ":80"}, {"tcp6", ":80"}, {"tcp", "127.0.0.1:81"}, {"tcp", "198.51.100.2:81"}} {
		if _, err := server.Listen(at.network, at.address); err != nil {
			t.Error(err)
		}
	}
	for _, to := range []string{"198.51.100.2:80", "[2001:db8:51::2]:80", "198.51.100.2:81"} {
		if _, err := client.Dial("tcp", to); err != nil {
			t.Error(err)
		}
	}
}

// No method gives out a descriptor that is none: libraries would take it for the kernel's.
func TestConvention13NoSyscallConn(t *testing.T) {
	for _, x := range []any{new(TCPConn), new(TCPListener), new(UDPConn)} {
		if _, ok := x.(interface {
			SyscallConn() (syscall.RawConn, error)
		}); ok {
			t.Errorf("%T has SyscallConn", x)
		}
		if _, ok := x.(interface{ File() (*os.File, error) }); ok {
			t.Errorf("%T has File", x)
		}
	}
}

// net.Resolver tells UDP from TCP by whether a connection is a net.PacketConn.
func TestConvention14PacketConn(t *testing.T) {
	if _, ok := any(new(TCPConn)).(net.PacketConn); ok {
		t.Error("*TCPConn is a net.PacketConn")
	}
	if _, ok := any(new(UDPConn)).(net.PacketConn); !ok {
		t.Error("*UDPConn is no net.PacketConn")
	}
}

// Close of the stack ends every pending call, and synctest sees to it that no goroutine remains.
func TestConvention15StackClose(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{Ethernet: true}, Config{})
			c, _ := connected(t, client, server, to)
			l, _ := client.Listen("tcp", ":80")
			u, _ := client.ListenPacket("udp", ":80")
			calls := map[string]func() error{
				"Accept":   func() error { _, err := l.Accept(); return err },
				"Read":     func() error { _, err := c.Read(make([]byte, 1)); return err },
				"Write":    func() error { _, err := c.Write(make([]byte, 1<<24)); return err },
				"ReadFrom": func() error { _, _, err := u.ReadFrom(make([]byte, 1)); return err },
				"Dial": func() error {
					_, err := client.Dial("tcp", netip.AddrPortFrom(to.Addr().Next(), 80).String())
					return err
				},
			}
			type result struct {
				call string
				err  error
			}
			results := make(chan result)
			for name, f := range calls {
				go func() { results <- result{name, f()} }()
			}
			synctest.Wait()
			client.Close()
			for range calls {
				if r := <-results; !errors.Is(r.err, net.ErrClosed) {
					t.Errorf("%s: %v, want net.ErrClosed", r.call, r.err)
				}
			}
			if err := client.Close(); err != nil {
				t.Errorf("closing again: %v", err)
			}
			_, err := client.Dial("tcp", "198.51.100.2:80")
			checkOp(t, err, "dial", net.ErrClosed, false)
			_, err = client.Listen("tcp", ":81")
			checkOp(t, err, "listen", net.ErrClosed, false)
		})
	})
}

// The log is the caller's, or nobody's; what it says has typed attributes.
func TestConvention16Log(t *testing.T) {
	var global bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&global, nil)))
	defer slog.SetDefault(old)
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		for _, log := range []*slog.Logger{nil, slog.New(slog.NewJSONHandler(&b, nil))} {
			near, far := net.Pipe()
			s := host(t, link.Wrap(near, link.Caps{Name: "tun7", MTU: 1500}), Config{Log: log}, client4)
			far.Close() // the device fails
			synctest.Wait()
			s.Close()
		}
		if !strings.Contains(b.String(), `"interface":"tun7"`) || !strings.Contains(b.String(), `"err":`) {
			t.Errorf("of a device that failed the log says %q, want the interface and the error as attributes", &b)
		}
	})
	if global.Len() > 0 {
		t.Errorf("a stack without a log wrote to the default one: %s", &global)
	}
}

// The tables are iterators over copies: they stop where one breaks off, and outlive the stack.
func TestConvention18Tables(t *testing.T) {
	client, server := pair(t, link.PipeConfig{Ethernet: true}, Config{})
	c, _ := connected(t, client, server, server6)
	client.Listen("tcp", ":80")
	client.ListenPacket("udp", ":53")
	for range client.Conns() {
		break
	}
	for range client.Routes() {
		break
	}
	for range client.Neighbors() {
		break
	}
	conns, routes, neighbors := slices.Collect(client.Conns()), slices.Collect(client.Routes()), slices.Collect(client.Neighbors())
	client.Close()
	if len(conns) != 3 {
		t.Errorf("%d sockets, want a listener, a connection and a UDP socket: %+v", len(conns), conns)
	}
	for _, x := range conns {
		if x.State == tcp.Established && x.Local.String() != c.LocalAddr().String() {
			t.Errorf("the connection's local address is %v, want %v", x.Local, c.LocalAddr())
		}
	}
	if !slices.ContainsFunc(routes, func(r Route) bool { return r.Dst == client4.Masked() && r.Interface.Name() == "pipe0" }) {
		t.Errorf("no route to %v in %v", client4.Masked(), routes)
	}
	if !slices.ContainsFunc(neighbors, func(n Neighbor) bool { return n.IP == server6.Addr() && n.HW != nil }) {
		t.Errorf("no neighbour %v in %+v", server6.Addr(), neighbors)
	}
}

// A host reaches itself: by the loopback addresses, by those of its interfaces, by name, and with no address at all.
func TestLoopback(t *testing.T) {
	_, s := pair(t, link.PipeConfig{}, Config{})
	for _, c := range []struct{ listen, dial, from string }{
		{":0", "127.0.0.1", "127.0.0.1"},
		{":0", "127.1.2.3", "127.0.0.1"},
		{":0", "::1", "::1"},
		{":0", "198.51.100.2", "198.51.100.2"},
		{":0", "2001:db8:51::2", "2001:db8:51::2"},
		{":0", "localhost", ""},
		{":0", "", "127.0.0.1"},
		{":0", "0.0.0.0", "127.0.0.1"},
		{":0", "::", "::1"},
		{"localhost:0", "localhost", "127.0.0.1"},
		{"127.0.0.9:0", "127.0.0.9", "127.0.0.1"},
		{"198.51.100.2:0", "198.51.100.2", "198.51.100.2"},
	} {
		t.Run(c.listen+" "+c.dial, func(t *testing.T) {
			l, err := s.Listen("tcp", c.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			_, port, _ := net.SplitHostPort(l.Addr().String())
			conn, err := s.Dial("tcp", net.JoinHostPort(c.dial, port))
			if err != nil {
				t.Fatal(err)
			}
			peer, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if got := conn.LocalAddr().(*net.TCPAddr).IP.String(); c.from != "" && got != c.from {
				t.Errorf("dialled from %s, want %s", got, c.from)
			}
			io.WriteString(conn, "to ourselves")
			conn.Close()
			if b, err := io.ReadAll(peer); string(b) != "to ourselves" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			u, err := s.ListenPacket("udp", c.listen)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			_, port, _ = net.SplitHostPort(u.LocalAddr().String())
			q, err := s.Dial("udp", net.JoinHostPort(c.dial, port))
			if err != nil {
				t.Fatal(err)
			}
			defer q.Close()
			q.Write([]byte("ping"))
			n, from, err := u.ReadFrom(make([]byte, 8))
			if n != 4 || err != nil || from.String() != q.LocalAddr().String() {
				t.Fatalf("read %d from %v, %v", n, from, err)
			}
			if c.dial == "127.1.2.3" { // as the kernel's, a socket for all addresses answers from 127.0.0.1
				return
			}
			u.WriteTo([]byte("pong"), from)
			if n, err := q.Read(make([]byte, 8)); n != 4 || err != nil {
				t.Errorf("the answer: %d, %v", n, err)
			}
		})
	}
	if _, err := s.Dial("tcp", "127.0.0.1:1"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialling a closed port of ours: %v", err)
	}
}

// A host reaches its own link-local address, whose zone is the link that it belongs to.
func TestLoopbackLinkLocal(t *testing.T) {
	_, s := pair(t, link.PipeConfig{Ethernet: true}, Config{})
	own := linkLocal(t, s).WithZone("pipe1")
	l, err := s.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Dial("tcp", netip.AddrPortFrom(own, 80).String())
	if err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []net.Addr{c.LocalAddr(), c.RemoteAddr(), peer.LocalAddr(), peer.RemoteAddr()} {
		if got := a.(*net.TCPAddr).AddrPort().Addr(); got != own {
			t.Errorf("an address is %v, want %v", got, own)
		}
	}
	u := bound(t, s, "udp", ":53")
	q := toward(t, s, netip.AddrPortFrom(own, 53))
	q.Write([]byte("x"))
	_, from, err := u.ReadFromUDPAddrPort(make([]byte, 1))
	if err != nil || from != localPort(q) {
		t.Fatalf("a datagram from %v, %v, want %v", from, err, localPort(q))
	}
	u.WriteToUDPAddrPort([]byte("answer"), from)
	if n, err := q.Read(make([]byte, 9)); n != 6 || err != nil {
		t.Errorf("the answer: %d, %v", n, err)
	}
}

// A listener at a loopback address is not for others.
func TestLoopbackStaysInside(t *testing.T) {
	client, server := pair(t, link.PipeConfig{}, Config{})
	l, err := server.Listen("tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := client.Dial("tcp", "198.51.100.2:80"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("from outside a loopback listener says %v, want ECONNREFUSED", err)
	}
}
