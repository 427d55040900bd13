package firewall

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TestRFC4787REQ1: one mapping for an internal endpoint, whoever it talks to, in both families.
func TestRFC4787REQ1(t *testing.T) {
	h := newHome(t, masquerade)
	a := external(h.pass("lan", udpPacket(laptop, phone, "a")))
	b := external(h.pass("lan", udpPacket(laptop, other, "b")))
	if a != b || a.Addr() != wan4 {
		t.Errorf("the endpoint is %v to the one and %v to the other", a, b)
	}
	h.must("lan", udpPacket(laptop6, phone6, "a"), netip.AddrPortFrom(wan6, 4000), phone6)
	h.must("wan", udpPacket(phone6, netip.AddrPortFrom(wan6, 4000), "b"), phone6, laptop6)
}

// TestRFC4787REQ2: a host keeps one of several external addresses.
func TestRFC4787REQ2(t *testing.T) {
	h := newHome(t, "nat on wan to 203.0.113.11,203.0.113.12,203.0.113.13,2001:db8:2::11")
	used := map[netip.Addr]int{}
	for i := range 40 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)}), 4000)
		first := external(h.pass("lan", udpPacket(src, phone, ""))).Addr()
		used[first]++
		for port := uint16(4001); port < 4010; port++ {
			if a := external(h.pass("lan", udpPacket(netip.AddrPortFrom(src.Addr(), port), other, ""))).Addr(); a != first {
				t.Fatalf("%v has %v and %v", src.Addr(), first, a)
			}
		}
	}
	if len(used) != 3 {
		t.Errorf("40 hosts share %v, want all three addresses", used)
	}
}

// TestRFC4787REQ3: no two endpoints share a port, and a port from below 1024 stays below.
func TestRFC4787REQ3(t *testing.T) {
	h := newHome(t, masquerade)
	seen := map[netip.AddrPort]bool{}
	for i := range 200 {
		for _, port := range []uint16{123, 4000} {
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), port)
			a := external(h.pass("lan", udpPacket(src, phone, "")))
			if seen[a] {
				t.Fatalf("%v has two owners", a)
			}
			seen[a] = true
			if a.Port() < 1024 != (port < 1024) {
				t.Fatalf("port %d became %d, of the other range", port, a.Port())
			}
		}
	}
	if !seen[wan(123)] || !seen[wan(4000)] {
		t.Error("the first with a port does not keep it")
	}
}

// TestRFC4787REQ4 is about parity, which is recommended and not kept where a port is taken; a port that is free stays, and
// its parity with it.
func TestRFC4787REQ4(t *testing.T) {
	h := newHome(t, masquerade)
	for port := uint16(5000); port < 5010; port++ {
		h.must("lan", udpPacket(netip.AddrPortFrom(laptop.Addr(), port), phone, ""), wan(port), phone)
	}
}

// TestRFC4787REQ5: a mapping lasts two minutes unanswered, and five once there is a conversation.
func TestRFC4787REQ5(t *testing.T) {
	h := newHome(t, masquerade+" filter any")
	h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
	h.now += 2*time.Minute - 1
	h.must("wan", udpPacket(phone, wan(4000), ""), phone, laptop)
	h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
	h.now += 5*time.Minute - 1
	h.must("wan", udpPacket(phone, wan(4000), ""), phone, laptop)
	h.now += 5 * time.Minute
	h.f.Expire(h.now)
	if s := h.f.Stats(); s.Mappings != 0 || s.Connections != 0 {
		t.Errorf("after its time there are %d mappings, %d connections", s.Mappings, s.Connections)
	}
}

// TestRFC4787REQ6: what leaves keeps the mapping.
func TestRFC4787REQ6(t *testing.T) {
	h := newHome(t, masquerade)
	for range 10 {
		h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
		h.now += 2*time.Minute - 1
	}
	h.must("wan", udpPacket(phone, wan(4000), ""), phone, laptop)
}

// TestRFC4787REQ6a: so does what comes in by it, also from others.
func TestRFC4787REQ6a(t *testing.T) {
	h := newHome(t, masquerade+" filter any")
	h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
	for range 10 {
		h.must("wan", udpPacket(other, wan(4000), ""), other, laptop)
		h.now += time.Minute
	}
	h.f.Expire(h.now)
	if s := h.f.Stats(); s.Mappings != 1 || s.Connections != 1 {
		t.Errorf("%d mappings, %d connections", s.Mappings, s.Connections)
	}
	h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
	h.now += time.Hour
	h.f.Expire(h.now)
	if s := h.f.Stats(); s.Mappings != 0 || s.Connections != 0 {
		t.Errorf("in the end %d mappings, %d connections", s.Mappings, s.Connections)
	}
}

// TestRFC4787REQ7: an inside that has the outside's addresses is told apart by its interface.
func TestRFC4787REQ7(t *testing.T) {
	h := newHome(t, "nat on wan")
	inside := netip.AddrPortFrom(netip.MustParseAddr("203.0.113.99"), 4000)
	h.must("lan", udpPacket(inside, phone, ""), wan(4000), phone)
	h.must("wan", udpPacket(phone, wan(4000), ""), phone, inside)
}

// TestRFC4787REQ8: who may come in, by kind of filtering. RFC5382REQ3 is the same for TCP.
func TestRFC4787REQ8(t *testing.T) { filtering(t, udpPacket) }

func filtering(t *testing.T, packet func(src, dst netip.AddrPort, text string) []byte) {
	samePeer := netip.AddrPortFrom(phone.Addr(), 9)
	for _, c := range []struct {
		filter            string
		port, addr, other bool
	}{{"any", true, true, true}, {"address", true, true, false}, {"port", true, false, false}} {
		h := newHome(t, masquerade+" filter "+c.filter)
		h.must("lan", packet(laptop, phone, ""), wan(4000), phone)
		for _, k := range []struct {
			from netip.AddrPort
			want bool
		}{{samePeer, c.addr}, {other, c.other}, {phone, c.port}} {
			if k.want {
				h.must("wan", packet(k.from, wan(4000), ""), k.from, laptop)
			} else {
				h.mustNot("wan", packet(k.from, wan(4000), ""), Filtered)
			}
		}
	}
}

// TestRFC4787REQ9: hosts behind reach each other by their external addresses, and are seen with theirs.
func TestRFC4787REQ9(t *testing.T) { hairpin(t, udpPacket) }

func hairpin(t *testing.T, packet func(src, dst netip.AddrPort, text string) []byte) {
	desktop := ap("192.0.2.30:7000")
	for _, filter := range []string{"any", "address", "port"} { // filtering is about those outside
		h := newHome(t, masquerade+" filter "+filter)
		h.must("lan", packet(desktop, phone, ""), wan(7000), phone)
		h.must("lan", packet(laptop, wan(7000), ""), wan(4000), desktop)
		h.must("lan", packet(desktop, wan(4000), ""), wan(7000), laptop)
		if filter != "any" { // whatever address somebody outside claims
			h.mustNot("wan", packet(ap("192.0.2.40:9"), wan(7000), ""), Filtered)
		}
	}
	h := newHome(t, masquerade+"\nforward tcp,udp 203.0.113.1:8080 to 192.0.2.20:80")
	h.must("lan", packet(laptop, wan(8080), ""), wan(4000), server)
	p := &h.last // the same into another network behind
	p.Reset(packet(desktop, wan(8080), ""))
	p.In, p.Out, p.Direction = "lan", "dmz", Forward
	if h.f.Arrive(h.now, p) != Accept || h.f.Filter(h.now, p) != Accept || external(p.Data) != wan(7000) {
		t.Errorf("into another network: %v from %v", p.Reason, external(p.Data))
	}
	h = newHome(t, "forward tcp,udp 203.0.113.1:8080 to 192.0.2.20:80") // with nothing masqueraded, the answer still has to come by here
	h.must("lan", packet(laptop, wan(8080), ""), wan(4000), server)
}

// TestRFC4787REQ10: text is not translated, whatever addresses stand in it (FTP's PORT, SIP).
func TestRFC4787REQ10(t *testing.T) {
	h := newHome(t, masquerade)
	text := "PORT 192,0,2,10,15,160\r\nContact: 192.0.2.10:4000"
	if b := h.must("lan", udpPacket(laptop, phone, text), wan(4000), phone); !bytes.Contains(b, []byte(text)) {
		t.Errorf("the text was changed: %q", b)
	}
}

// TestRFC4787REQ11: the same packets are translated the same way, whatever came between.
func TestRFC4787REQ11(t *testing.T) {
	ports := func() (all []netip.AddrPort) {
		h := newHome(t, masquerade)
		for i := range 100 {
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 4000)
			all = append(all, external(h.pass("lan", udpPacket(src, phone, ""))))
		}
		return all
	}
	a, b := ports(), ports()
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("mapping %d is %v once and %v again", i, a[i], b[i])
		}
	}
}

// TestRFC4787REQ12: no ICMP message ends a mapping. RFC5382REQ10 is the same for TCP.
func TestRFC4787REQ12(t *testing.T) {
	h := newHome(t, masquerade)
	sent := h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
	for kind := range 256 {
		h.pass("wan", icmp(phone.Addr(), wan4, uint8(kind), 0, 0, sent))
	}
	h.must("wan", udpPacket(phone, wan(4000), ""), phone, laptop)
}

// TestRFC4787REQ13: what tells a router to cut a packet, or not to, is passed on; and a "fragmentation needed" from
// further on comes back to who it is for.
func TestRFC4787REQ13(t *testing.T) {
	h := newHome(t, masquerade)
	b := udpPacket(laptop, phone, "large")
	sent := h.must("lan", b, wan(4000), phone)
	if !bytes.Equal(sent[4:8], b[4:8]) {
		t.Errorf("identification and DF became % x, were % x", sent[4:8], b[4:8])
	}
	e := h.pass("wan", icmp(other.Addr(), wan4, ipv4.Unreachable, ipv4.CodeFragNeeded, 1400, sent))
	var m ipv4.ICMP
	if e == nil || m.Decode(e[20:]) != nil || m.MTU() != 1400 || destinationOf(e) != laptop.Addr() {
		t.Errorf("the error arrives as % x: %v", e, h.last.Reason)
	}
	// One that the router itself sends, before the source was translated, quotes what the sender knows.
	if e = h.emit("lan", unreachable(lan4, b)); e == nil || !bytes.Equal(e[28:56], b[:28]) {
		t.Errorf("the router's own error leaves as % x", e)
	}
}

// TestRFC4787REQ14: fragments are for the owner to put together, and are not taken for something else.
func TestRFC4787REQ14(t *testing.T) {
	h := newHome(t, masquerade)
	for _, flags := range []byte{0x20, 0x00} {
		b := udpPacket(laptop, phone, "a part")
		b[6], b[7] = flags, 1-flags>>5
		h.mustNot("lan", b, Fragment)
	}
}

// synPacket is a SYN in the shape of udpPacket.
func synPacket(src, dst netip.AddrPort, _ string) []byte { return syn(src, dst) }

// TestRFC5382REQ1: one mapping for an internal endpoint.
func TestRFC5382REQ1(t *testing.T) {
	h := newHome(t, masquerade)
	h.must("lan", syn(laptop, phone), wan(4000), phone)
	h.must("lan", syn(laptop, other), wan(4000), other)
}

// TestRFC5382REQ2: every way to open a connection, from inside, from outside, and from both sides at once.
func TestRFC5382REQ2(t *testing.T) {
	h := newHome(t, filter+"allow forward on lan\nallow forward state translated\n"+masquerade+"\nforward tcp 203.0.113.1:8080 to 192.0.2.20:80")
	h.shake("lan", laptop, other, "wan")
	h.shake("wan", phone, wan(8080), "lan")
	// at once: SYN out, SYN in, SYN,ACK both
	h.must("lan", syn(laptop, phone), wan(4000), phone)
	h.must("wan", syn(phone, wan(4000)), phone, laptop)
	both := tcp.Segment{Flags: tcp.SYN | tcp.ACK, Seq: 100, Ack: 101, Window: 64000}
	h.must("lan", tcpPacket(laptop, phone, both), wan(4000), phone)
	h.must("wan", tcpPacket(phone, wan(4000), both), phone, laptop)
	for c := range h.f.Connections() {
		if c.Progress != Steady {
			t.Errorf("%v is %v, want steady", c.Flow, c.Progress)
		}
	}
}

func TestRFC5382REQ3(t *testing.T) { filtering(t, synPacket) }

// TestRFC5382REQ4: an unsolicited SYN is not answered.
func TestRFC5382REQ4(t *testing.T) {
	h := newHome(t, "policy in drop\n"+masquerade)
	h.mustNot("wan", syn(phone, wan(4000)), Denied)
	h.must("lan", syn(laptop, other), wan(4000), other)
	h.mustNot("wan", syn(phone, wan(4000)), Filtered)
	if len(h.last.Reply) != 0 {
		t.Errorf("it was answered: % x", h.last.Reply)
	}
	h.must("lan", syn(laptop, phone), wan(4000), phone) // within the six seconds, from inside
	h.must("wan", syn(phone, wan(4000)), phone, laptop)
}

// TestRFC5382REQ5: an idle connection lasts 2 h 4 min, one that is beginning or ending 4 min.
func TestRFC5382REQ5(t *testing.T) {
	h := newHome(t, masquerade)
	h.shake("lan", laptop, phone, "wan")
	h.now += 2*time.Hour + 4*time.Minute - 1
	data := tcp.Segment{Flags: tcp.ACK, Seq: 301, Ack: 101, Window: 500, Text: [][]byte{[]byte("late")}}
	h.must("wan", tcpPacket(phone, wan(4000), data), phone, laptop)
	h.now += 2*time.Hour + 4*time.Minute
	if h.pass("wan", tcpPacket(phone, wan(4000), data)); h.last.Direction != In || h.last.State != StateInvalid {
		t.Errorf("after its time a segment is %v, to %v", h.last.State, h.last.After())
	}
	h.must("lan", syn(laptop, phone), wan(4000), phone)
	h.now += 4*time.Minute - 1
	answer := tcpPacket(phone, wan(4000), tcp.Segment{Flags: tcp.SYN | tcp.ACK, Seq: 300, Ack: 101})
	h.must("wan", answer, phone, laptop)
	h.now += 4 * time.Minute
	if h.pass("wan", answer); h.last.State != StateInvalid {
		t.Errorf("after its time a half-open connection takes an answer: %v", h.last.State)
	}
}

// TestRFC5382REQ6: text is not translated; see RFC4787REQ10.
func TestRFC5382REQ6(t *testing.T) {
	h := newHome(t, masquerade)
	h.shake("lan", laptop, phone, "wan")
	text := "PORT 192,0,2,10,15,160\r\n"
	b := h.must("lan", tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Text: [][]byte{[]byte(text)}}), wan(4000), phone)
	if !bytes.Contains(b, []byte(text)) {
		t.Errorf("the text was changed: %q", b)
	}
}

// TestRFC5382REQ7: no two endpoints share a port, though they talk to different peers.
func TestRFC5382REQ7(t *testing.T) {
	h := newHome(t, masquerade)
	a := external(h.pass("lan", syn(laptop, phone)))
	b := external(h.pass("lan", syn(ap("192.0.2.11:4000"), other)))
	if a == b {
		t.Errorf("both are %v", a)
	}
}

func TestRFC5382REQ8(t *testing.T) { hairpin(t, synPacket) }

// TestRFC5382REQ9: an error about a TCP segment comes to who sent it, in terms of what he sent.
func TestRFC5382REQ9(t *testing.T) {
	h := newHome(t, filter+"allow forward on lan\n"+masquerade)
	b := syn(laptop, phone)
	sent := h.must("lan", b, wan(4000), phone)
	e := h.pass("wan", unreachable(other.Addr(), sent))
	if e == nil || destinationOf(e) != laptop.Addr() || !bytes.Equal(e[28:], b[:28]) {
		t.Fatalf("the error arrives as % x, want a quote of % x", e, b[:28])
	}
}

func TestRFC5382REQ10(t *testing.T) {
	h := newHome(t, masquerade)
	h.shake("lan", laptop, phone, "wan")
	sent := tcpPacket(wan(4000), phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301})
	for code := range uint8(16) {
		if h.pass("wan", icmp(phone.Addr(), wan4, ipv4.Unreachable, code, 0, sent)) == nil {
			t.Fatalf("code %d: %v", code, h.last.Reason)
		}
	}
	h.must("wan", tcpPacket(phone, wan(4000), tcp.Segment{Flags: tcp.ACK, Seq: 301, Ack: 101}), phone, laptop)
}
