package stack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// TestPing: an echo is answered within the time that the wire takes, of any length, by the other host and by ourselves.
func TestPing(t *testing.T) {
	for _, wire := range []link.PipeConfig{{MTU: 1500, Delay: 7 * time.Millisecond}, {MTU: 1500, Ethernet: true, Delay: 7 * time.Millisecond}} {
		families(t, func(t *testing.T, to netip.Prefix) {
			synctest.Test(t, func(t *testing.T) {
				client, _ := pair(t, wire, Config{NoDAD: true})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				client.Ping(ctx, to.Addr(), PingConfig{}) // the neighbour is known from here on
				for _, n := range []int{0, 1, 56, 1472, 1473, 8000, 65507} {
					data := random(n, 3)
					r, err := client.Ping(ctx, to.Addr(), PingConfig{Data: data, Seq: uint16(n), HopLimit: 9, TOS: 0x28})
					if err != nil || r.From != to.Addr() || r.Len != n+8 || r.HopLimit != 64 || r.RTT < 14*time.Millisecond || r.RTT > 15*time.Millisecond {
						t.Errorf("%d octets: %+v, %v", n, r, err)
					}
				}
				for _, a := range []string{"127.0.0.1", "::1"} {
					if r, err := client.Ping(ctx, netip.MustParseAddr(a), PingConfig{Data: []byte("x")}); err != nil || r.Len != 9 {
						t.Errorf("%s: %+v, %v", a, r, err)
					}
				}
				if len(client.ports.icmpConns()) != 0 {
					t.Error("sockets are left")
				}
			})
		})
	}
}

// TestPingErrors: what goes wrong has the error that a socket would have, and names who says so.
func TestPingErrors(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, _ := pair(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{NoDAD: true})
		nobody, beyond := netip.MustParseAddr("198.51.100.77"), netip.MustParseAddr("203.0.113.9")
		if to.Addr().Is6() {
			nobody, beyond = netip.MustParseAddr("2001:db8:51::77"), netip.MustParseAddr("2001:db8:99::9")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := client.Ping(ctx, nobody, PingConfig{})
		var op *net.OpError
		if !errors.Is(err, syscall.EHOSTUNREACH) || !errors.As(err, &op) || op.Op != "ping" || op.Addr.String() != nobody.String() {
			t.Errorf("a silent neighbour: %v", err)
		}
		if _, err := client.Ping(ctx, beyond, PingConfig{}); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("without a route: %v", err)
		}
		if _, err := client.Ping(ctx, to.Addr(), PingConfig{Data: make([]byte, 2000), DontFragment: true}); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("too long: %v", err)
		}
		if _, err := client.Ping(ctx, netip.Addr{}, PingConfig{}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("no address: %v", err)
		}
		cancel()
		if _, err := client.Ping(ctx, to.Addr(), PingConfig{}); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		client.Close()
		if _, err := client.Ping(t.Context(), to.Addr(), PingConfig{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
	bare(t, Config{}, func(h *tester) {
		got := make(chan error, 1)
		ping := func(timeout time.Duration) {
			ctx, cancel := context.WithTimeout(h.Context(), timeout)
			defer cancel()
			_, err := h.stack.Ping(ctx, h.us, PingConfig{ID: 7, Seq: 9, Data: []byte("data"), HopLimit: 1})
			got <- err
		}
		go ping(time.Second)
		p := h.one("Ping")
		if p.hops != 1 || binary.BigEndian.Uint16(p.text[4:]) != 7 || binary.BigEndian.Uint16(p.text[6:]) != 9 || string(p.text[8:]) != "data" {
			t.Errorf("%v: hop limit %d, % x", p, p.hops, p.text)
		}
		stray := bytes.Clone(p.packet)
		stray[h.headerLen()+7]++ // another number
		expired := badNews{t4: ipv4.TimeExceeded, t6: ipv6.TimeExceeded}
		expired.quoting(h, stray)
		stray = bytes.Clone(p.packet)
		stray[h.headerLen()+5]++ // another identifier
		expired.quoting(h, stray)
		h.mail(h.echoReply(7, 10, "data"))
		h.mail(h.echoReply(8, 9, "data"))
		h.mail(h.echoReply(7, 9, "date"))
		h.idle()
		if len(got) > 0 {
			t.Fatalf("an answer to nothing: %v", <-got)
		}
		expired.quoting(h, p.packet)
		h.idle()
		err := <-got
		var e *ICMPError
		if !errors.As(err, &e) || !errors.Is(err, syscall.EHOSTUNREACH) || e.From != h.us || !e.Expired() {
			t.Errorf("expired on the way: %v, %+v", err, e)
		}
		go ping(time.Second)
		h.one("Ping")
		h.pass(2 * time.Second)
		if err := <-got; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v", err)
		}
		if h.drops("stray-icmp") != 2 {
			t.Errorf("%v", h.stack.Stats().Drops)
		}
	})
}

// echoReply is an echo reply to the stack.
func (h *tester) echoReply(id, seq uint16, data string) letter {
	m4 := ipv4.ICMP{Type: ipv4.EchoReply, ID: id, Seq: seq, Body: []byte(data)}
	m6 := ipv6.ICMP{Type: ipv6.EchoReply, Rest: uint32(id)<<16 | uint32(seq), Body: []byte(data)}
	if h.us.Is4() {
		return letter{proto: ipv4.ProtoICMP, text: icmp4(m4)}
	}
	return letter{proto: ipv6.ProtoICMP, text: icmp6(h.us, h.peer, m6)}
}

// icmpNetwork is the family's network, as package net names it, and the type of an echo request.
func icmpNetwork(a netip.Addr) (network string, echo byte) {
	if a.Is4() {
		return "ip4:icmp", ipv4.Echo
	}
	return "ip6:ipv6-icmp", ipv6.Echo
}

// TestIPConn: a socket of ICMP hears the replies to its own requests and errors about what the host has sent, and nothing
// else; checksums are written for it.
func TestIPConn(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		network, echo := icmpNetwork(h.us)
		p, err := h.stack.ListenPacket(network, "")
		if err != nil {
			t.Fatal(err)
		}
		q, err := h.stack.ListenPacket(network, h.second().String())
		if err != nil {
			t.Fatal(err)
		}
		c := p.(*IPConn)
		heard := func(c net.PacketConn) (b []byte, from net.Addr) {
			h.idle()
			c.SetReadDeadline(time.Now().Add(time.Nanosecond))
			b = make([]byte, 2000)
			n, from, err := c.ReadFrom(b)
			if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
			return b[:n], from
		}
		for _, l := range []letter{h.echoReply(7, 1, "x"), h.echo(h.us, h.peer, "x")} {
			h.mail(l)
			if b, _ := heard(c); len(b) > 0 {
				t.Errorf("who asked nothing hears % x", b)
			}
		}
		h.sent()
		c.SetTTL(5)
		c.SetTrafficClass(0xb8)
		if n, err := c.WriteTo([]byte{echo, 0, 9, 9, 0, 7, 0, 1, 'x'}, &net.IPAddr{IP: h.us.AsSlice()}); n != 9 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if p := h.one("an echo request"); p.hops != 5 || p.tos != 0xb8 || string(p.text[8:]) != "x" {
			t.Errorf("%v: hop limit %d, TOS %#x, % x", p, p.hops, p.tos, p.text)
		}
		h.mail(h.echoReply(8, 1, "x"))
		if b, _ := heard(c); len(b) > 0 {
			t.Errorf("the reply to another's request: % x", b)
		}
		h.mail(h.echoReply(7, 1, "x"))
		if b, from := heard(c); len(b) != 9 || from.String() != h.us.String() || from.Network() != "ip" {
			t.Errorf("% x from %v", b, from)
		}
		if b, _ := heard(q); len(b) > 0 {
			t.Errorf("a socket of another address hears % x", b)
		}
		u := h.bind(6000)
		u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(h.us, 33434))
		probe := h.one("a datagram")
		expired := badNews{t4: ipv4.TimeExceeded, t6: ipv6.TimeExceeded}
		expired.quoting(h, probe.packet)
		if b, _ := heard(c); len(b) == 0 || b[0] != ipv4.TimeExceeded && b[0] != ipv6.TimeExceeded {
			t.Errorf("an error about a datagram: % x", b)
		}
		stray := bytes.Clone(probe.packet)
		stray[h.headerLen()+1]++
		expired.quoting(h, stray)
		if b, _ := heard(c); len(b) > 0 {
			t.Errorf("an error about what was never sent: % x", b)
		}
		for range 1000 { // what waits is bounded
			h.mail(h.echoReply(7, 1, string(make([]byte, 1000))))
		}
		h.idle()
		if c.u.octets > icmpBuffer+udpOverhead || h.drops("udp-full") == 0 {
			t.Errorf("%d octets wait, %v", c.u.octets, h.stack.Stats().Drops)
		}
		for range 100 {
			heard(c)
		}
		if st := h.stack.Stats(); st.Memory != 0 {
			t.Errorf("%d octets are held", st.Memory)
		}
	})
}

// TestIPConnErrors: the errors of package net, where it has them.
func TestIPConnErrors(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		network, echo := icmpNetwork(h.us)
		for _, bad := range []string{"ip", "ip4", "ip4:tcp", "ip4:", "ip6:icmp", "ip5:icmp"} {
			_, err := h.stack.ListenPacket(bad, "")
			_, dial := h.stack.Dial(bad, h.us.String())
			var unknown net.UnknownNetworkError
			if !errors.As(err, &unknown) || !errors.As(dial, &unknown) {
				t.Errorf("%s: %v, %v", bad, err, dial)
			}
		}
		if _, err := h.stack.ListenPacket(network, "203.0.113.9"); err == nil {
			t.Error("bound to another's address")
		}
		if _, err := h.stack.Dial(network, ""); err == nil {
			t.Error("connected to nobody")
		}
		c, err := h.stack.Dial(network, h.us.String())
		if err != nil {
			t.Fatal(err)
		}
		if c.RemoteAddr().String() != h.us.String() || c.LocalAddr().String() != h.peer.String() {
			t.Errorf("%v, %v", c.LocalAddr(), c.RemoteAddr())
		}
		if _, err := c.Write([]byte{echo}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("an octet: %v", err)
		}
		if _, err := c.Write(make([]byte, 1<<17)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("128 KB: %v", err)
		}
		if _, err := c.(*IPConn).WriteTo([]byte{echo}, &net.UDPAddr{}); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("to an address of UDP: %v", err)
		}
		c.SetReadDeadline(time.Now())
		if _, err := c.Read(make([]byte, 9)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		c.Close()
		if _, err := c.Write([]byte{echo, 0, 0, 0, 0, 0, 0, 0}); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		p, _ := h.stack.ListenPacket(network, "")
		h.stack.Close()
		if _, _, err := p.ReadFrom(make([]byte, 9)); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestC55C56UDP: DSCP, hop limit and flow label are the user's to choose for datagrams as well, and ECN with them; what
// arrives says its own.
func TestC55C56UDP(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		u := h.bind(6000)
		to := netip.AddrPortFrom(h.us, 7)
		send := func(want string, hops, tos uint8) packetSeen {
			t.Helper()
			u.WriteToUDPAddrPort([]byte("x"), to)
			p := h.one(want)
			if p.hops != hops || p.tos != tos {
				t.Errorf("%s: hop limit %d, TOS %#x", want, p.hops, p.tos)
			}
			return p
		}
		first := send("nothing chosen", 64, 0)
		u.SetTTL(3)
		u.SetTOS(0xb8 | 2)
		send("all chosen", 3, 0xba)
		u.SetHopLimit(0)
		u.SetTrafficClass(0)
		second := send("taken back", 64, 0)
		if h.us.Is6() {
			if first.label == 0 || first.label != second.label {
				t.Errorf("labels %#x, %#x", first.label, second.label)
			}
			u.SetFlowLabel(0x12345)
			if p := send("a label", 64, 0); p.label != 0x12345 {
				t.Errorf("label %#x", p.label)
			}
		}
		if err := u.SetTTL(256); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("a TTL of 256: %v", err)
		}
		l := h.datagram(6000, "hello")
		l.tos, l.hops = 0x2b, 44
		h.mail(l)
		h.idle()
		b := make([]byte, 3)
		n, p, err := u.ReadPacket(b)
		if err != nil || n != 3 || p.Len != 5 || p.TOS != 0x2b || p.HopLimit != 44 || p.To != h.peer || p.From.Addr() != h.us || p.Interface != h.ifc {
			t.Errorf("%d, %+v, %v", n, p, err)
		}
		u.Close()
		if err := u.SetTOS(1); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	})
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		d.conn.SetTTL(9)
		d.conn.SetTrafficClass(0x23)
		d.conn.SetFlowLabel(0x54321)
		d.conn.Write([]byte("x"))
		if p := d.one("a write"); p.hops != 9 || p.tos != 0x20 || h.us.Is6() && p.label != 0x54321 {
			t.Errorf("TTL %d, TOS %#x, label %#x", p.hops, p.tos, p.label)
		}
	})
}
