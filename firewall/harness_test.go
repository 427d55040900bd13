package firewall

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// A home: lan 192.0.2.0/24 and 2001:db8:1::/64, wan 203.0.113.1 and 2001:db8:2::1, and the rest of the world beyond.
var (
	lanNet4, lanNet6   = netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:1::/64")
	lan4, wan4         = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.1")
	lan6, wan6         = netip.MustParseAddr("2001:db8:1::1"), netip.MustParseAddr("2001:db8:2::1")
	laptop, server     = ap("192.0.2.10:4000"), ap("192.0.2.20:80")
	phone, other       = ap("198.51.100.7:5000"), ap("198.51.100.8:6000")
	laptop6, server6   = ap("[2001:db8:1::10]:4000"), ap("[2001:db8:1::20]:80")
	phone6             = ap("[2001:db8:f::7]:5000")
	masquerade, filter = "nat on wan from 192.0.2.0/24,2001:db8:1::/64", "policy in drop\npolicy forward drop\n"
)

func ap(s string) netip.AddrPort     { return netip.MustParseAddrPort(s) }
func wan(port uint16) netip.AddrPort { return netip.AddrPortFrom(wan4, port) }

// ip puts an IP header in front of the payload.
func ip(proto uint8, src, dst netip.Addr, payload []byte) []byte {
	if src.Is4() {
		b := make([]byte, ipv4.MinHeaderLen, ipv4.MinHeaderLen+len(payload))
		h := ipv4.Header{ID: 0x4711, DF: true, TTL: 61, Protocol: proto, Src: src, Dst: dst, Length: len(b) + len(payload)}
		h.Encode(b)
		return append(b, payload...)
	}
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(payload))
	h := ipv6.Header{HopLimit: 61, NextHeader: proto, Src: src, Dst: dst, PayloadLength: len(payload)}
	h.Encode(b)
	return append(b, payload...)
}

func tcpPacket(src, dst netip.AddrPort, s tcp.Segment) []byte {
	b := make([]byte, tcp.MaxHeaderLen)
	b = b[:s.Encode(b, tcp.Ports{Src: src.Port(), Dst: dst.Port()})]
	for _, t := range s.Text {
		b = append(b, t...)
	}
	binary.BigEndian.PutUint16(b[16:], ^checksum.Sum(b, checksum.Pseudo(src.Addr(), dst.Addr(), protoTCP, len(b))))
	return ip(protoTCP, src.Addr(), dst.Addr(), b)
}

func syn(src, dst netip.AddrPort) []byte {
	return tcpPacket(src, dst, tcp.Segment{Flags: tcp.SYN, Seq: 100, Window: 64000, Options: tcp.Options{MSS: 1460, HasScale: true, WindowScale: 7}})
}

func udpPacket(src, dst netip.AddrPort, text string) []byte {
	b := make([]byte, udp.HeaderLen, udp.HeaderLen+len(text))
	h := udp.Header{Src: src.Port(), Dst: dst.Port(), Length: udp.HeaderLen + len(text)}
	h.Encode(b)
	b = append(b, text...)
	h.Checksum = udp.Checksum(checksum.Sum(b, checksum.Pseudo(src.Addr(), dst.Addr(), protoUDP, len(b))))
	h.Encode(b)
	return ip(protoUDP, src.Addr(), dst.Addr(), b)
}

// icmp is a message: of an echo, rest is identifier and sequence number.
func icmp(src, dst netip.Addr, kind, code uint8, rest uint32, body []byte) []byte {
	b := make([]byte, ipv4.ICMPLen+len(body))
	if src.Is4() {
		m := ipv4.ICMP{Type: kind, Code: code, ID: uint16(rest >> 16), Seq: uint16(rest), Body: body}
		m.Encode(b)
		return ip(protoICMP4, src, dst, b)
	}
	m := ipv6.ICMP{Type: kind, Code: code, Rest: rest, Body: body}
	m.Encode(b, src, dst)
	return ip(protoICMP6, src, dst, b)
}

// echo is an echo request, or with reply its answer, from or to the identifier that is the port.
func echo(src, dst netip.AddrPort, reply bool) []byte {
	kind, id := ipv4.Echo, src.Port()
	if reply {
		kind, id = ipv4.EchoReply, dst.Port()
	}
	if src.Addr().Is6() {
		kind = map[bool]uint8{false: ipv6.Echo, true: ipv6.EchoReply}[reply]
	}
	return icmp(src.Addr(), dst.Addr(), kind, 0, uint32(id)<<16|1, []byte("are you there"))
}

// unreachable is an ICMP error from an address about the packet.
func unreachable(from netip.Addr, about []byte) []byte {
	var h ipv4.Header
	if about[0]>>4 == 4 {
		h.DecodeQuoted(about)
		return icmp(from, h.Src, ipv4.Unreachable, ipv4.CodePort, 0, about[:min(len(about), 28)])
	}
	var h6 ipv6.Header
	h6.DecodeQuoted(about)
	return icmp(from, h6.Src, ipv6.Unreachable, ipv6.CodePort, 0, about)
}

// sound reports whether each checksum of the packet is right, those of quoted headers included.
func sound(b []byte) bool {
	var proto uint8
	var src, dst netip.Addr
	var body []byte
	if len(b) > 0 && b[0]>>4 == 4 {
		var h ipv4.Header
		n, err := h.Decode(b)
		if err != nil {
			return false
		}
		proto, src, dst, body = h.Protocol, h.Src, h.Dst, b[n:h.Length]
	} else {
		var h ipv6.Header
		var c ipv6.Chain
		if h.Decode(b) != nil || c.Walk(h.NextHeader, b[ipv6.HeaderLen:ipv6.HeaderLen+h.PayloadLength]) != nil {
			return false
		}
		proto, src, dst, body = c.Protocol, h.Src, h.Dst, b[ipv6.HeaderLen+c.Offset:ipv6.HeaderLen+h.PayloadLength]
	}
	switch proto {
	case protoTCP:
		return checksum.Sum(body, checksum.Pseudo(src, dst, proto, len(body))) == 0xffff
	case protoUDP:
		var h udp.Header
		if h.Decode(body) != nil {
			return false
		}
		return h.Checksum == 0 && src.Is4() || udp.Verify(body[:h.Length], checksum.Pseudo(src, dst, proto, h.Length))
	case protoICMP4:
		var m ipv4.ICMP
		if m.Decode(body) != nil {
			return false
		}
		var q ipv4.Header
		if n, err := q.DecodeQuoted(m.Body); m.IsError() && err == nil {
			return checksum.Sum(m.Body[:n], 0) == 0xffff
		}
	case protoICMP6:
		var m ipv6.ICMP
		return m.Decode(body, src, dst) == nil
	}
	return true
}

// home is a router with a Firewall.
type home struct {
	t    testing.TB
	f    *Firewall
	now  time.Duration
	last Packet // what Filter has said of the last packet
}

func newHome(t testing.TB, rules string, change ...func(*Config)) *home {
	t.Helper()
	c := Config{Seed: [2]uint64{1, 2}, Address: func(name string, v6 bool) netip.Addr {
		return map[string]map[bool]netip.Addr{"wan": {false: wan4, true: wan6}, "lan": {false: lan4, true: lan6}}[name][v6]
	}}
	for _, f := range change {
		f(&c)
	}
	h := &home{t: t, f: New(c), now: time.Second}
	h.rules(rules)
	return h
}

func (h *home) rules(text string) {
	h.t.Helper()
	r, err := Parse(text)
	if err == nil {
		err = h.f.SetRules(r)
	}
	if err != nil {
		h.t.Fatalf("rules %q: %v", text, err)
	}
}

func destinationOf(b []byte) netip.Addr {
	if b[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(b[16:]))
	}
	return netip.AddrFrom16([16]byte(b[24:]))
}

// pass sends a copy of the packet in by an interface, and returns it as it goes on, or nil.
func (h *home) pass(in string, b []byte) []byte {
	h.t.Helper()
	p := &h.last
	p.Reset(append([]byte(nil), b...))
	p.In = in
	if h.f.Arrive(h.now, p) != Accept {
		return nil
	}
	switch a := destinationOf(p.Data); {
	case a == lan4 || a == lan6 || a == wan4 || a == wan6:
		p.Direction = In
	case lanNet4.Contains(a) || lanNet6.Contains(a):
		p.Direction, p.Out = Forward, "lan"
	default:
		p.Direction, p.Out = Forward, "wan"
	}
	return h.finish(b)
}

// emit sends a packet of the router's own.
func (h *home) emit(out string, b []byte) []byte {
	h.t.Helper()
	p := &h.last
	p.Reset(append([]byte(nil), b...))
	p.Direction, p.Out = Out, out
	return h.finish(b)
}

func (h *home) finish(b []byte) []byte {
	h.t.Helper()
	v := h.f.Filter(h.now, &h.last)
	if v == Reject && len(h.last.Reply) > 0 && !sound(h.last.Reply) {
		h.t.Errorf("the reply has a wrong checksum: % x", h.last.Reply)
	}
	if v != Accept {
		return nil
	}
	if sound(b) && !sound(h.last.Data) {
		h.t.Errorf("a checksum is wrong after %v became %v: % x", h.last.Before(), h.last.After(), h.last.Data)
	}
	return h.last.Data
}

// must is pass, where the packet has to go on from src to dst.
func (h *home) must(in string, b []byte, src, dst netip.AddrPort) []byte {
	h.t.Helper()
	got := h.pass(in, b)
	if got == nil {
		h.t.Fatalf("%v does not pass: %v", h.last.Before(), h.last.Reason)
	}
	s, d := endpoints(got)
	if s != src || d != dst {
		h.t.Fatalf("%v became %v > %v, want %v > %v", h.last.Before(), s, d, src, dst)
	}
	return got
}

// mustNot is pass, where the packet has to be dropped for that reason.
func (h *home) mustNot(in string, b []byte, want Reason) {
	h.t.Helper()
	if got := h.pass(in, b); got != nil || h.last.Reason != want {
		h.t.Fatalf("%v: passes %v, reason %v, want it dropped: %v", h.last.Before(), got != nil, h.last.Reason, want)
	}
}

// endpoints reads who talks to whom off a packet. An echo's identifier is the source's port, of a reply the destination's.
func endpoints(b []byte) (src, dst netip.AddrPort) {
	var p Packet
	p.Data = b
	if p.parse() != 0 {
		return
	}
	return p.key.source(), p.key.target()
}

// external is the address and port that b left with.
func external(b []byte) netip.AddrPort {
	src, _ := endpoints(b)
	return src
}

// shake takes a TCP connection from src, who is at in, to dst, whose answers come by back, to ESTABLISHED. seen is how
// each is seen by the other.
func (h *home) shake(in string, src, dst netip.AddrPort, back string) (srcSeen, dstReal netip.AddrPort) {
	h.t.Helper()
	b := h.pass(in, syn(src, dst))
	if b == nil {
		h.t.Fatalf("SYN from %v to %v: %v", src, dst, h.last.Reason)
	}
	srcSeen, dstReal = endpoints(b)
	sa := tcp.Segment{Flags: tcp.SYN | tcp.ACK, Seq: 300, Ack: 101, Window: 64000, Options: tcp.Options{MSS: 1460, HasScale: true, WindowScale: 7}}
	h.must(back, tcpPacket(dstReal, srcSeen, sa), dst, src)
	h.must(in, tcpPacket(src, dst, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500}), srcSeen, dstReal)
	return srcSeen, dstReal
}

// tcpOctets computes the TCP checksum of an IPv4 packet anew.
func tcpOctets(b []byte) []byte {
	src, dst := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	b[36], b[37] = 0, 0
	binary.BigEndian.PutUint16(b[36:], ^checksum.Sum(b[20:], checksum.Pseudo(src, dst, protoTCP, len(b)-20)))
	return b
}
