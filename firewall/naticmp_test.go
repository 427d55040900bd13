package firewall

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
)

// TestRFC5508REQ1: queries from inside pass, and their answers, with identifiers that do not meet.
func TestRFC5508REQ1(t *testing.T) {
	h := newHome(t, filter+"allow forward on lan\n"+masquerade)
	h.must("lan", echo(laptop, phone, false), wan(4000), netip.AddrPortFrom(phone.Addr(), 0))
	second := ap("192.0.2.11:4000")
	b := h.pass("lan", echo(second, phone, false))
	h.must("wan", echo(phone, wan(4000), true), netip.AddrPortFrom(phone.Addr(), 0), laptop)
	h.must("wan", echo(phone, external(b), true), netip.AddrPortFrom(phone.Addr(), 0), second)
	h.must("lan", echo(laptop6, phone6, false), netip.AddrPortFrom(wan6, 4000), netip.AddrPortFrom(phone6.Addr(), 0))
	h.must("wan", echo(phone6, netip.AddrPortFrom(wan6, 4000), true), netip.AddrPortFrom(phone6.Addr(), 0), laptop6)
}

// TestRFC5508REQ2: a query may be answered for 60 seconds.
func TestRFC5508REQ2(t *testing.T) {
	h := newHome(t, "policy in drop\n"+masquerade)
	h.must("lan", echo(laptop, phone, false), wan(4000), netip.AddrPortFrom(phone.Addr(), 0))
	h.now += time.Minute - 1
	h.must("wan", echo(phone, wan(4000), true), netip.AddrPortFrom(phone.Addr(), 0), laptop)
	h.now += time.Minute
	h.mustNot("wan", echo(phone, wan(4000), true), Denied)
}

// TestRFC5508REQ3: an error with a wrong checksum, or that quotes a header with one, is dropped; options of the quoted
// header are passed over, and its transport checksum is not looked at.
func TestRFC5508REQ3(t *testing.T) {
	h := newHome(t, masquerade)
	sent := h.must("lan", udpPacket(laptop, phone, "x"), wan(4000), phone)
	e := unreachable(phone.Addr(), sent)
	e[22] ^= 1
	h.mustNot("wan", e, BadChecksum)
	bad := bytes.Clone(sent)
	bad[10] ^= 1
	h.mustNot("wan", unreachable(phone.Addr(), bad), BadChecksum)
	bad = bytes.Clone(sent)
	bad[26] ^= 1 // of UDP
	if h.pass("wan", unreachable(phone.Addr(), bad)) == nil {
		t.Errorf("a quote with a wrong transport checksum: %v", h.last.Reason)
	}
	long := make([]byte, 24)
	o := ipv4.Header{Length: 24 + len(sent) - 20, TTL: 3, Protocol: protoUDP, Src: wan4, Dst: phone.Addr(), Options: []byte{1, 1, 1, 0}}
	o.Encode(long)
	e = h.pass("wan", icmp(phone.Addr(), wan4, ipv4.Unreachable, ipv4.CodePort, 0, append(long, sent[20:]...)))
	if e == nil || destinationOf(e) != laptop.Addr() || e[28+25] != 0xa0 { // port 4000 is 0x0fa0
		t.Errorf("a quote with options arrives as % x: %v", e, h.last.Reason)
	}
}

// TestRFC5508REQ4: an error from outside is translated in its quote and its destination, and keeps type, code and source;
// one about nothing is not passed on.
func TestRFC5508REQ4(t *testing.T) {
	for _, c := range []struct {
		name string
		b    []byte
	}{{"udp", udpPacket(laptop, phone, "q")}, {"tcp", syn(laptop, phone)}, {"echo", echo(laptop, phone, false)},
		{"udp6", udpPacket(laptop6, phone6, "q")}, {"tcp6", syn(laptop6, phone6)}, {"echo6", echo(laptop6, phone6, false)}} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t, filter+"allow forward on lan\n"+masquerade)
			sent := h.pass("lan", c.b)
			router, from := other.Addr(), 20
			if c.b[0]>>4 == 6 {
				router, from = netip.MustParseAddr("2001:db8:e::1"), 40
			}
			e := h.pass("wan", unreachable(router, sent))
			if e == nil {
				t.Fatalf("dropped: %v", h.last.Reason)
			}
			src, _ := endpoints(e)
			quote := e[from+8:]
			if src.Addr() != router || !bytes.Equal(quote, c.b[:len(quote)]) {
				t.Errorf("from %v, quote\n% x, want\n% x", src.Addr(), quote, c.b[:len(quote)])
			}
		})
	}
	h := newHome(t, filter+"allow forward on lan\n"+masquerade)
	h.mustNot("wan", unreachable(phone.Addr(), udpPacket(wan(4000), phone, "")), Denied)
}

// TestRFC5508REQ5: an error from inside about what came in leaves with the external address, of its source and in its
// quote; one about nothing does not leave.
func TestRFC5508REQ5(t *testing.T) {
	h := newHome(t, masquerade+"\nforward udp 203.0.113.1:53 to 192.0.2.20:5353")
	b := udpPacket(phone, wan(53), "q")
	got := h.must("wan", b, phone, ap("192.0.2.20:5353"))
	for _, from := range []string{"192.0.2.20", "192.0.2.254"} { // the host itself, and a router before it
		e := h.pass("lan", unreachable(netip.MustParseAddr(from), got))
		if e == nil {
			t.Fatalf("dropped: %v", h.last.Reason)
		}
		if src, dst := endpoints(e); src.Addr() != wan4 || dst.Addr() != phone.Addr() || !bytes.Equal(e[28:], b[:28]) {
			t.Errorf("the error goes from %v to %v, quote % x, want % x", src, dst, e[28:], b[:28])
		}
	}
	// about an answer that came to a masqueraded host
	h.must("lan", udpPacket(laptop, phone, "q"), wan(4000), phone)
	answer := udpPacket(phone, wan(4000), "a")
	got = h.must("wan", answer, phone, laptop)
	e := h.pass("lan", unreachable(laptop.Addr(), got))
	if src, dst := endpoints(e); src.Addr() != wan4 || dst.Addr() != phone.Addr() || !bytes.Equal(e[28:], answer[:28]) {
		t.Errorf("the error goes from %v to %v, quote % x, want % x", src, dst, e[28:], answer[:28])
	}
	h.mustNot("lan", unreachable(laptop.Addr(), udpPacket(phone, ap("192.0.2.10:9"), "")), Untracked)
}

// TestRFC5508REQ6: an error neither refreshes nor ends what it is about.
func TestRFC5508REQ6(t *testing.T) {
	h := newHome(t, "policy in drop\n"+masquerade)
	sent := h.must("lan", echo(laptop, phone, false), wan(4000), netip.AddrPortFrom(phone.Addr(), 0))
	h.now += 30 * time.Second
	if h.pass("wan", unreachable(phone.Addr(), sent)) == nil {
		t.Fatal(h.last.Reason)
	}
	h.must("wan", echo(phone, wan(4000), true), netip.AddrPortFrom(phone.Addr(), 0), laptop)
	h.now += 59 * time.Second
	if h.pass("wan", unreachable(phone.Addr(), sent)) == nil {
		t.Fatal(h.last.Reason)
	}
	h.now += time.Second
	h.mustNot("wan", echo(phone, wan(4000), true), Denied)
}

// TestRFC5508REQ7: queries and errors between hosts behind, by external addresses.
func TestRFC5508REQ7(t *testing.T) {
	h := newHome(t, masquerade+" filter any\nmap 203.0.113.5 to 192.0.2.20\nmap 203.0.113.6 to 192.0.2.10")
	five, six := netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("203.0.113.6")
	h.must("lan", echo(laptop, netip.AddrPortFrom(five, 0), false), netip.AddrPortFrom(six, 4000), netip.AddrPortFrom(server.Addr(), 0))
	h.must("lan", echo(server, netip.AddrPortFrom(six, 4000), true), netip.AddrPortFrom(five, 0), laptop)

	h = newHome(t, masquerade+" filter any")
	h.must("lan", udpPacket(server, phone, ""), wan(80), phone)
	b := udpPacket(laptop, wan(80), "q")
	got := h.must("lan", b, wan(4000), server)
	e := h.pass("lan", unreachable(server.Addr(), got))
	if e == nil || destinationOf(e) != laptop.Addr() || !bytes.Equal(e[28:], b[:28]) {
		t.Errorf("the error arrives as % x, want a quote of % x", e, b[:28])
	}
}

// TestRFC5508REQ8: who cannot have a session is told so, with code 13.
func TestRFC5508REQ8(t *testing.T) {
	h := newHome(t, masquerade, func(c *Config) { c.Connections = 1 })
	h.shake("lan", laptop, phone, "wan")
	h.mustNot("lan", syn(laptop, other), TableFull)
	var m ipv4.ICMP
	if len(h.last.Reply) < 28 || m.Decode(h.last.Reply[20:]) != nil || m.Type != ipv4.Unreachable || m.Code != 13 || destinationOf(h.last.Reply) != laptop.Addr() {
		t.Errorf("the answer is % x", h.last.Reply)
	}
}

// TestRFC5508REQ9: a policy may keep ICMP from being sent.
func TestRFC5508REQ9(t *testing.T) {
	h := newHome(t, "drop out on wan icmp state new,related,invalid")
	if h.emit("wan", unreachable(wan4, udpPacket(phone, wan(9), ""))) != nil || h.last.Reason != Denied {
		t.Errorf("an error leaves by wan: %v", h.last.Reason)
	}
	if h.emit("lan", unreachable(lan4, udpPacket(laptop, phone, ""))) == nil {
		t.Errorf("none leaves by lan: %v", h.last.Reason)
	}
}

// TestRFC5508REQ10: the router's own errors leave, with the strictest policy.
func TestRFC5508REQ10(t *testing.T) {
	h := newHome(t, "policy out drop\n"+masquerade)
	for _, kind := range []uint8{ipv4.Unreachable, ipv4.TimeExceeded, ipv4.ParamProblem, ipv4.Redirect} {
		b := icmp(lan4, laptop.Addr(), kind, 0, 0, udpPacket(laptop, phone, "traceroute"))
		if h.emit("lan", b) == nil {
			t.Errorf("type %d: %v", kind, h.last.Reason)
		}
	}
}

// TestRFC5508REQ11: messages that are neither queries nor errors may be dropped, and have no session.
func TestRFC5508REQ11(t *testing.T) {
	h := newHome(t, masquerade)
	h.mustNot("lan", icmp(laptop.Addr(), phone.Addr(), 9, 0, 0, make([]byte, 8)), Untracked)
	if n := h.f.Stats().Connections; n != 0 {
		t.Errorf("%d connections", n)
	}
}
