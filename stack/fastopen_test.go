package stack

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// echoing accepts connections at a listener with Fast Open, and answers each with what it is sent first.
func echoing(t *testing.T, server *Stack, to netip.Prefix, room int) (*TCPListener, string) {
	t.Helper()
	l, err := server.ListenWith(ListenConfig{FastOpen: room}, "tcp", netip.AddrPortFrom(to.Addr(), 80).String())
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 1<<16)
				n, _ := c.Read(b)
				c.Write(b[:n])
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	return l, l.Addr().String()
}

// ask sends a request, and tells how long the answer took.
func ask(t *testing.T, client *Stack, addr string, n int) (took time.Duration, i tcp.Info) {
	t.Helper()
	from := time.Now()
	c, err := client.DialFastOpen(context.Background(), "tcp", addr, make([]byte, n))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadFull(c, make([]byte, min(n, 1000))); err != nil {
		t.Fatalf("%d octets came back: %v", got, err)
	}
	return time.Since(from), c.Info()
}

// TestC120FastOpen: the first connection brings a cookie, and from the second on a request and its answer take one round trip.
// What does not fit into the SYN comes behind it.
func TestC120FastOpen(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{MTU: 1500, Delay: 50 * time.Millisecond}, Config{})
			_, addr := echoing(t, server, to, 4)
			for i, x := range []struct {
				n     int
				trips time.Duration
				fast  bool
			}{{1000, 2, false}, {1000, 1, true}, {100_000, 2, true}, {1000, 1, true}} {
				took, info := ask(t, client, addr, x.n)
				if info.FastOpen != x.fast {
					t.Errorf("connection %d: the SYN's text was taken: %v, want %v", i, info.FastOpen, x.fast)
				}
				if x.n == 1000 && took != x.trips*100*time.Millisecond {
					t.Errorf("connection %d took %v, want %d round trips of 100 ms", i, took, x.trips)
				}
			}
			time.Sleep(time.Second) // until the last acknowledgement is through
			if n := server.fast.pending.Load(); n != 0 {
				t.Errorf("%d handshakes are pending in the end", n)
			}
		})
	})
}

// TestC120FastOpenFallback: a server that has it off, and one that has forgotten its key, are spoken to as ever.
func TestC120FastOpenFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{MTU: 1500, Delay: 50 * time.Millisecond}, Config{})
		l, addr := echoing(t, server, server4, 0)
		for range 2 {
			if took, i := ask(t, client, addr, 1000); i.FastOpen || took != 200*time.Millisecond {
				t.Errorf("off: %v, Fast Open %v; want two round trips without", took, i.FastOpen)
			}
		}
		l.Close()
		_, addr = echoing(t, server, server4, 4)
		ask(t, client, addr, 1000)
		for p, v := range client.fast.servers {
			v.cookie = tcp.NewFastOpenCookie([]byte("12345678"))
			client.fast.servers[p] = v
		}
		if took, i := ask(t, client, addr, 1000); i.FastOpen || took != 200*time.Millisecond {
			t.Errorf("another key: %v, Fast Open %v; want two round trips without", took, i.FastOpen)
		}
		if took, i := ask(t, client, addr, 1000); !i.FastOpen || took != 100*time.Millisecond {
			t.Errorf("the new cookie: %v, Fast Open %v; want one round trip with", took, i.FastOpen)
		}
	})
}

// TestC120FastOpenBlackHole: a path that drops the option costs a second once, and is then left alone for a minute and more.
func TestC120FastOpenBlackHole(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		dial := func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			h.stack.DialFastOpen(ctx, "tcp", netip.AddrPortFrom(h.us, 80).String(), []byte("request"))
		}
		var options []bool
		for _, wait := range []time.Duration{0, 30 * time.Second, 31 * time.Second, 100 * time.Second, 100 * time.Second} {
			h.pass(wait)
			go dial()
			h.pass(11 * time.Second)
			for n, p := range h.sent() {
				if p.seg.Flags.Has(tcp.SYN) && n == 0 {
					options = append(options, p.seg.Options.HasFastOpen)
				} else if p.seg.Options.HasFastOpen || p.seg.TextLen() > 0 {
					h.Errorf("sent again with the option: %v", p)
				}
			}
		}
		want := []bool{true, false, true, false, true}
		for i := range want {
			if i >= len(options) || options[i] != want[i] {
				h.Fatalf("the SYNs had the option: %v, want %v", options, want)
			}
		}
	})
}

// TestA31FastOpenFlood: SYNs with a stolen cookie make no more connections than the listener allows, resets make no room for a
// minute, and the ordinary handshake goes on.
func TestA31FastOpenFlood(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		const room = 3
		l, err := h.stack.ListenWith(ListenConfig{FastOpen: room}, "tcp", netip.AddrPortFrom(h.peer, 80).String())
		if err != nil {
			h.Fatal(err)
		}
		syn := func(port uint16, o tcp.Options, text string) packetSeen {
			h.segment(tcp.Ports{Src: port, Dst: 80}, tcp.Segment{Seq: 1000, Flags: tcp.SYN, Window: 65535, Options: o, Text: [][]byte{[]byte(text)}})
			return h.one("a SYN")
		}
		asked := syn(1000, tcp.Options{MSS: 1460, HasFastOpen: true}, "")
		cookie := asked.seg.Options
		if cookie.Cookie.Len() != 8 || asked.seg.Ack != 1001 {
			h.Fatalf("the answer is %v with a cookie of %d octets", asked, cookie.Cookie.Len())
		}
		with := tcp.Options{MSS: 1460, HasFastOpen: true, Cookie: cookie.Cookie}
		flood := func(from uint16) (fast int) {
			for port := from; port < from+20; port++ {
				if p := syn(port, with, "hello"); p.seg.Ack == 1006 {
					fast++
				}
			}
			return fast
		}
		if n := flood(2000); n != room {
			h.Errorf("%d connections were opened by their SYN, want %d", n, room)
		}
		for range room {
			c, err := l.AcceptTCP()
			if err != nil {
				h.Fatal(err)
			}
			b := make([]byte, 10)
			if n, err := c.Read(b); string(b[:n]) != "hello" {
				h.Errorf("read %q, %v", b[:n], err)
			}
		}
		for port := uint16(2000); port < 2000+room; port++ {
			h.segment(tcp.Ports{Src: port, Dst: 80}, tcp.Segment{Seq: 1006, Flags: tcp.RST})
		}
		h.idle()
		if n := flood(3000); n != 0 {
			h.Errorf("%d connections were opened by their SYN after resets, want none", n)
		}
		h.pass(fastResetWait + time.Second)
		h.sent()
		if n := flood(4000); n != room {
			h.Errorf("%d connections were opened by their SYN a minute later, want %d", n, room)
		}
		h.pass(70 * time.Second)
		h.sent()
		if n := flood(5000); n != room {
			h.Errorf("%d connections were opened by their SYN once the others had timed out, want %d", n, room)
		}
	})
}

// TestC120FastOpenErrors: refused and unreachable are what they are for Dial.
func TestC120FastOpenErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := pair(t, link.PipeConfig{MTU: 1500}, Config{})
		for _, x := range []struct {
			network, addr string
			want          error
		}{
			{"tcp", netip.AddrPortFrom(server4.Addr(), 1).String(), syscall.ECONNREFUSED},
			{"tcp", "203.0.113.1:1", syscall.ENETUNREACH},
		} {
			_, err := client.DialFastOpen(context.Background(), x.network, x.addr, []byte("x"))
			_, plain := client.Dial(x.network, x.addr)
			if !errors.Is(err, x.want) || err.Error() != plain.Error() {
				t.Errorf("%s: %v, want %v", x.addr, err, plain)
			}
		}
		if _, err := client.DialFastOpen(context.Background(), "udp", "198.51.100.2:1", nil); err == nil {
			t.Error("UDP has no Fast Open")
		}
	})
}

// TestC120FastOpenBounded: as many servers are remembered as allowed, whatever their number.
func TestC120FastOpenBounded(t *testing.T) {
	var x fastOpens
	o := tcp.FastOpenOutcome{Cookie: tcp.NewFastOpenCookie(make([]byte, 8)), MSS: 1460}
	for i := range 3 * maxFastServers {
		x.learn(0, fastPath{zone: uint32(i)}, &o)
	}
	if n := len(x.servers); n != maxFastServers {
		t.Errorf("%d servers are remembered, want %d", n, maxFastServers)
	}
	x.learn(0, fastPath{zone: 1 << 31}, &tcp.FastOpenOutcome{})
	if _, ok := x.servers[fastPath{zone: 1 << 31}]; ok {
		t.Error("a server is remembered that has taught nothing")
	}
}
