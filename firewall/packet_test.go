package firewall

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TestPartial: where a device completes the checksum, translation leaves the sum of the new pseudo-header.
func TestPartial(t *testing.T) {
	for _, c := range []struct{ src, dst, ext netip.AddrPort }{{laptop, phone, wan(4000)}, {laptop6, phone6, netip.AddrPortFrom(wan6, 4000)}} {
		h := newHome(t, masquerade+"\nclamp mss 1200 on wan")
		b := syn(c.src, c.dst)
		at := len(b) - 28
		length := len(b) - at
		binary.BigEndian.PutUint16(b[at+16:], checksum.Pseudo(c.src.Addr(), c.dst.Addr(), protoTCP, length))
		p := &h.last
		p.Reset(b)
		p.Partial, p.In, p.Out, p.Direction = true, "lan", "wan", Forward
		if h.f.Arrive(h.now, p) != Accept || h.f.Filter(h.now, p) != Accept || !p.Edited {
			t.Fatal(p.Reason)
		}
		got, want := binary.BigEndian.Uint16(b[at+16:]), checksum.Pseudo(c.ext.Addr(), c.dst.Addr(), protoTCP, length)
		if got != want || external(b) != c.ext {
			t.Errorf("%v: the sum is %#x, want %#x", external(b), got, want)
		}
	}
}

// TestSuperSegment: only headers are looked at, so the text of a super-segment may be elsewhere.
func TestSuperSegment(t *testing.T) {
	h := newHome(t, masquerade)
	h.shake("lan", laptop, phone, "wan")
	b := tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500, Text: [][]byte{make([]byte, 60000)}})
	want := h.must("lan", b, wan(4000), phone)
	h.must("wan", tcpPacket(phone, wan(4000), tcp.Segment{Flags: tcp.ACK, Seq: 301, Ack: 60101, Window: 500}), phone, laptop)
	if got := h.pass("lan", b[:40]); !bytes.Equal(got, want[:40]) {
		t.Errorf("headers alone become % x, want % x", got, want[:40])
	}
}

// TestNoChecksum: a UDP datagram over IPv4 without a checksum stays without; and one whose sum comes to 0 says 0xffff.
func TestNoChecksum(t *testing.T) {
	h := newHome(t, masquerade)
	b := udpPacket(laptop, phone, "x")
	b[26], b[27] = 0, 0
	if got := h.must("lan", b, wan(4000), phone); got[26] != 0 || got[27] != 0 {
		t.Errorf("the checksum is % x", got[26:28])
	}
	for i := range 1 << 16 {
		b := udpPacket(laptop, phone, string([]byte{byte(i >> 8), byte(i)}))
		if got := h.must("lan", b, wan(4000), phone); got[26] == 0 && got[27] == 0 {
			t.Fatalf("text %#x: no checksum", i)
		}
	}
}

// TestMalformed: what cannot be read, or is not for a router to pass, is dropped for its reason.
func TestMalformed(t *testing.T) {
	cut := func(b []byte, n int) []byte { return b[:n] }
	with := func(b []byte, at int, v ...byte) []byte { b = bytes.Clone(b); copy(b[at:], v); return b }
	chain := func(next uint8, ext ...byte) []byte {
		return ip(next, phone6.Addr(), wan6, append(ext, udpPacket(phone6, toRouter6, "")[40:]...))
	}
	route := make([]byte, 28)
	r := ipv4.Header{Length: 28, TTL: 9, Protocol: protoUDP, Src: phone.Addr(), Dst: wan4, Options: []byte{131, 7, 4, 1, 2, 3, 4, 0}}
	r.Encode(route)
	for _, c := range []struct {
		name string
		b    []byte
		want Reason
	}{
		{"nothing", nil, Malformed},
		{"version 5", with(syn(phone, toRouter), 0, 0x55), Malformed},
		{"IPv4 header cut off", cut(syn(phone, toRouter), 19), Malformed},
		{"header length 16", with(syn(phone, toRouter), 0, 0x44), Malformed},
		{"total length less than the header", with(syn(phone, toRouter), 2, 0, 19), Malformed},
		{"TCP header cut off", cut(syn(phone, toRouter), 39), Malformed},
		{"TCP header longer than the packet", with(syn(phone, toRouter), 32, 0xf0), Malformed},
		{"UDP header cut off", cut(udpPacket(phone, toRouter, ""), 27), Malformed},
		{"ICMP header cut off", cut(echo(phone, toRouter, false), 27), Malformed},
		{"an error that is not whole", cut(unreachable(phone.Addr(), udpPacket(toRouter, phone, "x")), 50), Malformed},
		{"ICMPv6 in IPv4", ip(protoICMP6, phone.Addr(), wan4, make([]byte, 8)), Malformed},
		{"IPv6 header cut off", cut(syn(phone6, toRouter6), 39), Malformed},
		{"extension header cut off", chain(ipv6.ProtoDestOpts, 17, 9, 1, 4, 0, 0, 0, 0), Malformed},
		{"extension headers without end", ip(0, phone6.Addr(), wan6, make([]byte, 8*20)), Malformed},
		{"a fragment", chain(ipv6.ProtoFragment, 17, 0, 0, 1, 0, 0, 0, 1), Fragment},
		{"a routing header with segments left", chain(ipv6.ProtoRouting, 17, 0, 0, 1, 0, 0, 0, 0), SourceRoute},
		{"a source route", append(route, make([]byte, 8)...), SourceRoute},
		{"an atomic fragment", chain(ipv6.ProtoFragment, 17, 0, 0, 0, 0, 0, 0, 1), 0},
		{"destination options", chain(ipv6.ProtoDestOpts, 17, 0, 1, 4, 0, 0, 0, 0), 0},
	} {
		h := newHome(t, "")
		h.last.Reset(bytes.Clone(c.b))
		h.last.In = "wan"
		if v := h.f.Arrive(h.now, &h.last); h.last.Reason != c.want || (v == Accept) != (c.want == 0) {
			t.Errorf("%s: %v, %v, want %v", c.name, v, h.last.Reason, c.want)
		}
		if s := h.f.Stats(); c.want != 0 && s.Dropped[c.want] != 1 {
			t.Errorf("%s: not counted: %+v", c.name, s)
		}
	}
}

// TestForwards: port ranges, the address that an interface has, and one-to-one maps, in and out.
func TestForwards(t *testing.T) {
	h := newHome(t, "forward tcp 203.0.113.1:8000-8010 to 192.0.2.20:80\nforward udp on wan port 53 to 192.0.2.20:5353\n"+
		"forward tcp [2001:db8:2::1]:80 to [2001:db8:1::20]:8080\nmap 203.0.113.5 to 192.0.2.10")
	h.must("wan", syn(phone, wan(8000)), phone, server)
	h.must("wan", syn(phone, wan(8010)), phone, ap("192.0.2.20:90"))
	h.must("wan", syn(phone, wan(8011)), phone, wan(8011))
	h.must("wan", udpPacket(phone, wan(8000), ""), phone, wan(8000))
	h.must("wan", udpPacket(phone, wan(53), ""), phone, ap("192.0.2.20:5353"))
	h.must("lan", udpPacket(ap("192.0.2.20:5353"), phone, ""), wan(53), phone)
	h.must("wan", syn(phone6, toRouter6), phone6, ap("[2001:db8:1::20]:8080"))
	five := netip.MustParseAddr("203.0.113.5")
	h.shake("wan", phone, netip.AddrPortFrom(five, 4000), "lan")
	h.must("lan", udpPacket(laptop, other, ""), netip.AddrPortFrom(five, 4000), other)
	h.must("wan", ip(50, phone.Addr(), five, make([]byte, 8)), netip.AddrPortFrom(phone.Addr(), 0), netip.AddrPortFrom(laptop.Addr(), 0))
	h.must("lan", echo(laptop, phone, false), netip.AddrPortFrom(five, 4000), netip.AddrPortFrom(phone.Addr(), 0))
	h.must("wan", echo(phone, netip.AddrPortFrom(five, 4000), true), netip.AddrPortFrom(phone.Addr(), 0), laptop)
	h = newHome(t, masquerade)
	h.mustNot("lan", ip(50, laptop.Addr(), phone.Addr(), make([]byte, 8)), Untranslatable)
	h = newHome(t, masquerade, func(c *Config) { c.Address = nil })
	h.mustNot("lan", syn(laptop, phone), NoAddress)
}

// TestViews: connections, mappings and the packet's own account of itself.
func TestViews(t *testing.T) {
	h := newHome(t, masquerade+" filter any")
	h.shake("lan", laptop, phone, "wan")
	want := Connection{Flow{protoTCP, laptop, phone}, Flow{protoTCP, phone, wan(4000)}, Steady, false, h.now, [2]uint64{2, 1}}
	for c := range h.f.Connections() {
		if c != want {
			t.Errorf("%+v, want %+v", c, want)
		}
	}
	for m := range h.f.Mappings() {
		if m != (Mapping{protoTCP, laptop, wan(4000), EndpointIndependent, 1}) {
			t.Errorf("%+v", m)
		}
	}
	h.pass("lan", syn(laptop, other))
	if b, a := h.last.Before().String(), h.last.After().String(); b != "tcp 192.0.2.10:4000 > 198.51.100.8:6000" || a != "tcp 203.0.113.1:4000 > 198.51.100.8:6000" {
		t.Errorf("before %q, after %q", b, a)
	}
}

// TestStale: a packet whose connection ends between Arrive and Filter does not become another's.
func TestStale(t *testing.T) {
	h := newHome(t, masquerade)
	h.shake("lan", laptop, phone, "wan")
	p := &h.last
	p.Reset(tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301}))
	p.In, p.Out, p.Direction = "lan", "wan", Forward
	h.f.Arrive(h.now, p)
	h.f.Forget(func(Connection) bool { return true })
	if v := h.f.Filter(h.now, p); v != Drop || p.Reason != Stale {
		t.Errorf("%v, %v", v, p.Reason)
	}
}

// TestTwoBegin: two packets that begin the same connection, judged at the same time, make one.
func TestTwoBegin(t *testing.T) {
	h := newHome(t, masquerade)
	var p [2]Packet
	for i := range p {
		p[i].Reset(syn(laptop, phone))
		p[i].In, p[i].Out, p[i].Direction = "lan", "wan", Forward
		h.f.Arrive(h.now, &p[i])
	}
	for i := range p {
		if h.f.Filter(h.now, &p[i]) != Accept || external(p[i].Data) != wan(4000) {
			t.Errorf("packet %d: %v, %v", i, p[i].Reason, external(p[i].Data))
		}
	}
	if s := h.f.Stats(); s.Connections != 1 || s.Mappings != 1 {
		t.Errorf("%+v", s)
	}
}

// FuzzFilter: no packet is too strange, and none that was sound leaves unsound.
func FuzzFilter(f *testing.F) {
	for _, k := range packets {
		f.Add(k.b, k.b, uint8(0))
	}
	sent := udpPacket(wan(4000), phone, "x")
	f.Add(udpPacket(laptop, phone, "x"), unreachable(other.Addr(), sent), uint8(1))
	f.Add(syn(laptop, phone), tcpPacket(phone, wan(4000), tcp.Segment{Flags: sa, Seq: 300, Ack: 101}), uint8(2))
	rules := "log in tcp\ndrop in icmp type 13\nreject forward udp to any port 9\nallow in state invalid\n" + masquerade + " filter any\n" +
		"forward tcp,udp 203.0.113.1:8080 to 192.0.2.20:80\nmap 203.0.113.5 to 192.0.2.30\nclamp mss 1000 on wan"
	f.Fuzz(func(t *testing.T, a, b []byte, how uint8) {
		h := newHome(t, rules)
		a, b = mend(a), mend(b)
		for i, d := range [][]byte{a, b, a, b} {
			in := [...]string{"lan", "wan"}[(how>>i)&1]
			if how&0x80 != 0 {
				h.emit(in, d)
				continue
			}
			p := &h.last
			p.Reset(bytes.Clone(d))
			p.In = in
			if h.f.Arrive(h.now, p) == Accept {
				p.Direction = Direction(how>>4) % numDirections
				p.Out = [...]string{"lan", "wan"}[how>>3&1]
				h.finish(d)
			}
		}
	})
}

// mend is a copy of the packet with right checksums, as far as it can be read.
func mend(b []byte) []byte {
	b = bytes.Clone(b)
	if len(b) >= 20 && b[0]>>4 == 4 {
		n := int(b[0]&15) * 4
		if n < 20 || n > len(b) {
			return b
		}
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b[:n], 0))
	}
	var p Packet
	p.Data = b
	if p.parse() != 0 || p.end > len(b) {
		return b
	}
	at := map[uint8]int{protoTCP: 16, protoUDP: 6, protoICMP4: 2, protoICMP6: 2}[p.key.proto]
	if at == 0 {
		return b
	}
	body := b[p.l4:p.end]
	if p.key.proto == protoUDP {
		binary.BigEndian.PutUint16(body[4:], uint16(len(body)))
	}
	body[at], body[at+1] = 0, 0
	binary.BigEndian.PutUint16(body[at:], ^checksum.Sum(body, p.key.pseudo(len(body))))
	return b
}
