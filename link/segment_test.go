package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

// superSegment is a packet that is to be cut, and the packets that it stands for.
type superSegment struct {
	name    string
	frame   []byte // what stands before the IP header
	gso     GSO
	v6      bool
	text    int
	size    int
	flags   byte
	partial bool // the device completes checksums
}

var superSegments = []superSegment{
	{name: "TCP4", gso: TCP4, text: 10000, size: 1448, flags: 0x18},
	{name: "TCP4, a whole number of packets", gso: TCP4, text: 3 * 1000, size: 1000, flags: 0x10},
	{name: "TCP4, one packet", gso: TCP4, text: 900, size: 1000, flags: 0x19},
	{name: "TCP4, one octet each", gso: TCP4, text: 300, size: 1, flags: 0x11},
	{name: "TCP6, CWR FIN PSH", gso: TCP6, v6: true, text: 60001, size: 1429, flags: 0x99},
	{name: "UDP over IPv4", gso: UDP, text: 5001, size: 1000},
	{name: "UDP over IPv6", gso: UDP, v6: true, text: 5001, size: 999},
	{name: "frame", frame: make([]byte, 12), gso: TCP4, text: 3000, size: 1400, flags: 0x18},
	{name: "frame with a tag", frame: append(make([]byte, 12), 0x81, 0, 0, 7), gso: TCP6, v6: true, text: 3000, size: 1400},
	{name: "frame with two tags", frame: append(make([]byte, 12), 0x88, 0xa8, 0, 9, 0x81, 0, 0, 7), gso: UDP, text: 3000, size: 1400},
	{name: "checksums left to the device", gso: TCP4, text: 5000, size: 1000, flags: 0x18, partial: true},
	{name: "checksums of UDP left to the device", gso: UDP, v6: true, text: 5000, size: 1001, partial: true},
}

// packet is one packet of s, the text from first to last-1.
func (s superSegment) packet(text []byte, first, last, number int, flags byte, partial bool) []byte {
	src, dst := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.1")
	if s.v6 {
		src, dst = netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8::1")
	}
	var b []byte
	if s.gso == UDP {
		b = ipPacket(src, dst, protoUDP, udpDatagram(7, 9, text[first:last]), partial)
	} else {
		b = ipPacket(src, dst, protoTCP, tcpSegment(7, 9, 0xfffffff0+uint32(first), 5, flags, text[first:last]), partial)
	}
	if !s.v6 {
		binary.BigEndian.PutUint16(b[4:], uint16(number))
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], ^uint16(sum(0, b[:20])))
	}
	h := bytes.Clone(s.frame)
	if h != nil {
		h = append(h, 0x08, 0)
		if s.v6 {
			copy(h[len(h)-2:], []byte{0x86, 0xdd})
		}
	}
	return append(h, b...)
}

func (s superSegment) whole() (p Packet, want [][]byte) {
	text := make([]byte, s.text)
	for i := range text {
		text[i] = byte(i*7 + i>>8)
	}
	p.Head = s.packet(text, 0, len(text), 0, s.flags, true)
	p.Offload = Offload{Partial: true, Valid: true, GSO: s.gso, Size: uint16(s.size)}
	p.Offload.Start = uint16(len(s.frame) + 20)
	if s.frame != nil {
		p.Offload.Start += 2
	}
	if s.v6 {
		p.Offload.Start += 20
	}
	p.Offload.Offset, p.Offload.HeaderLen = tcpChecksum, p.Offload.Start+20
	if s.gso == UDP {
		p.Offload.Offset, p.Offload.HeaderLen = udpChecksum, p.Offload.Start+8
	}
	for at, n := 0, 0; at < len(text); at, n = at+s.size, n+1 {
		last, flags := min(at+s.size, len(text)), s.flags
		if at > 0 {
			flags &^= 0x80
		}
		if last < len(text) {
			flags &^= 0x09
		}
		want = append(want, s.packet(text, at, last, n, flags, s.partial))
	}
	return p, want
}

// joined is a packet in one piece.
func joined(p Packet) []byte {
	b := bytes.Clone(p.Head)
	for _, t := range p.Text {
		b = append(b, t...)
	}
	return b
}

// cutAll cuts p with a Segmenter, out packets at a time.
func cutAll(s *Segmenter, p *Packet, c *Caps, out int) (got [][]byte, offload []Offload, err error) {
	if err := s.Start(p, c); err != nil {
		return nil, nil, err
	}
	o := make([]Packet, out)
	for n := s.Next(o); n > 0; n = s.Next(o) {
		for _, q := range o[:n] {
			got, offload = append(got, joined(q)), append(offload, q.Offload)
		}
	}
	return got, offload, nil
}

func TestSegmenterMakesThePacketsThatAHostWouldHaveSent(t *testing.T) {
	var s Segmenter
	for _, tt := range superSegments {
		whole, want := tt.whole()
		before := bytes.Clone(whole.Head)
		caps := &Caps{MTU: 1500, Ethernet: tt.frame != nil, Checksum: tt.partial}
		split := whole
		h := int(whole.Offload.HeaderLen)
		split.Head, split.Text = whole.Head[:h], [][]byte{whole.Head[h : h+1], nil, whole.Head[h+1:]}
		for name, p := range map[string]*Packet{"": &whole, ", in pieces": &split} {
			for _, out := range []int{1, 7, 100} {
				t.Run(fmt.Sprintf("%s%s, %d at once", tt.name, name, out), func(t *testing.T) {
					got, offload, err := cutAll(&s, p, caps, out)
					if err != nil || len(got) != len(want) {
						t.Fatalf("%d packets, %v, want %d", len(got), err, len(want))
					}
					for i := range got {
						if !bytes.Equal(got[i], want[i]) {
							t.Fatalf("packet %d:\n% x…\nwant\n% x…", i, got[i][:min(len(got[i]), h)], want[i][:h])
						}
						var o Offload
						if tt.partial {
							o = Offload{Partial: true, Valid: true, Start: whole.Offload.Start, Offset: whole.Offload.Offset}
						}
						if offload[i] != o {
							t.Errorf("packet %d has %+v, want %+v", i, offload[i], o)
						}
					}
				})
			}
		}
		if !bytes.Equal(before, whole.Head) {
			t.Errorf("%s: the super-segment was changed", tt.name)
		}
	}
}

func TestSegmenterCompletesAChecksum(t *testing.T) {
	src, dst := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("198.51.100.1")
	var s Segmenter
	for n := range 300 { // among them a datagram whose sum is zero, and lengths of both kinds
		for _, text := range [][]byte{make([]byte, n), append(make([]byte, n), 0xff)} {
			b := ipPacket(src, dst, protoUDP, udpDatagram(7, uint16(200*n), text), true)
			p := Packet{Head: b, Offload: Offload{Partial: true, Start: 20, Offset: udpChecksum}}
			want := ipPacket(src, dst, protoUDP, udpDatagram(7, uint16(200*n), text), false)
			if want[26] == 0 && want[27] == 0 {
				want[26], want[27] = 0xff, 0xff
			}
			got, offload, err := cutAll(&s, &p, &Caps{MTU: 1500}, 4)
			if err != nil || len(got) != 1 || !bytes.Equal(got[0], want) || offload[0] != (Offload{}) {
				t.Fatalf("%d octets: % x, %+v, %v, want % x", n, got, offload, err, want)
			}
		}
	}
	// RFC 768: "If the computed checksum is zero, it is transmitted as all ones". The text makes the sum 0xffff.
	b := ipPacket(src, dst, protoUDP, udpDatagram(7, 9, []byte{0, 0}), false)
	text := []byte{b[26], b[27]}
	p := Packet{Head: ipPacket(src, dst, protoUDP, udpDatagram(7, 9, text), true), Offload: Offload{Partial: true, Start: 20, Offset: udpChecksum}}
	if got, _, err := cutAll(&s, &p, &Caps{MTU: 1500}, 1); err != nil || got[0][26] != 0xff || got[0][27] != 0xff {
		t.Errorf("a checksum of zero: % x, %v, want ff ff at 26", got, err)
	}
}

func TestSegmenterRefuses(t *testing.T) {
	tcp, _ := superSegments[0].whole()
	udp6, _ := superSegments[6].whole()
	for _, tt := range []struct {
		name   string
		from   Packet
		change func(p *Packet)
	}{
		{"no checksum to complete", tcp, func(p *Packet) { p.Offload.Partial = false }},
		{"packets without payload", tcp, func(p *Packet) { p.Offload.Size = 0 }},
		{"a checksum outside of the packet", tcp, func(p *Packet) { p.Offload.Start = 65000 }},
		{"a checksum at an odd place", tcp, func(p *Packet) { p.Offload.Offset = 15 }},
		{"another field than the checksum", tcp, func(p *Packet) { p.Offload.Offset = 14 }},
		{"IPv4 called IPv6", tcp, func(p *Packet) { p.Offload.GSO = TCP6 }},
		{"TCP called UDP", tcp, func(p *Packet) { p.Offload.GSO = UDP; p.Offload.Offset = udpChecksum }},
		{"UDP in the header", tcp, func(p *Packet) { p.Head[9] = protoUDP }},
		{"a fragment", tcp, func(p *Packet) { p.Head[6] |= 0x20 }},
		{"a Total Length that is not", tcp, func(p *Packet) { p.Head[3]++ }},
		{"options that are not", tcp, func(p *Packet) { p.Head[0] = 0x46 }},
		{"a data offset too small", tcp, func(p *Packet) { p.Head[32] = 4 << 4 }},
		{"headers longer than the packet", tcp, func(p *Packet) { p.Head = p.Head[:30]; p.Offload.Size = 1 }},
		{"version 5", tcp, func(p *Packet) { p.Head[0] = 0x55 }},
		{"a Payload Length that is not", udp6, func(p *Packet) { p.Head[5]++ }},
		{"another next header", udp6, func(p *Packet) { p.Head[6] = protoTCP }},
		{"IPv6 called TCP over IPv4", udp6, func(p *Packet) { p.Offload.GSO = TCP4; p.Offload.Offset = tcpChecksum }},
		{"headers too long", udp6, func(p *Packet) { p.Offload.Start = 300 }},
	} {
		p := tt.from
		p.Head = bytes.Clone(p.Head)
		tt.change(&p)
		var s Segmenter
		if got, _, err := cutAll(&s, &p, &Caps{MTU: 1500}, 4); !errors.Is(err, ErrSegment) || s.Next(make([]Packet, 1)) != 0 {
			t.Errorf("%s: %d packets, %v, want ErrSegment", tt.name, len(got), err)
		}
	}
}

func TestFit(t *testing.T) {
	tcp := func(n, size int) Packet {
		p, _ := superSegment{gso: TCP4, text: n - 40, size: size}.whole()
		return p
	}
	hinted := tcp(9000, 1460)
	hinted.Offload.HeaderLen = 200 // as a kernel that forwards says it
	partial := tcp(1500, 1460)
	partial.Offload.GSO = None
	tag := append(make([]byte, 12, 12+2), 0x81, 0)
	all := Caps{MTU: 1500, Checksum: true, GSO4: 65535}
	for _, tt := range []struct {
		name string
		p    Packet
		c    Caps
		want Fit
	}{
		{"MTU", Packet{Head: make([]byte, 1500)}, Caps{MTU: 1500}, FitWhole},
		{"one more", Packet{Head: make([]byte, 1501)}, Caps{MTU: 1500}, FitNot},
		{"in two pieces", Packet{Head: make([]byte, 20), Text: [][]byte{make([]byte, 1481)}}, Caps{MTU: 1500}, FitNot},
		{"frame", Packet{Head: make([]byte, 1514)}, Caps{MTU: 1500, Ethernet: true}, FitWhole},
		{"frame, one more", Packet{Head: make([]byte, 1515)}, Caps{MTU: 1500, Ethernet: true}, FitNot},
		{"frame with tag", Packet{Head: append(tag, make([]byte, 1504)...)}, Caps{MTU: 1500, Ethernet: true}, FitWhole},
		{"frame with tag, one more", Packet{Head: append(tag, make([]byte, 1505)...)}, Caps{MTU: 1500, Ethernet: true}, FitNot},
		{"no checksum", partial, Caps{MTU: 1500}, FitCut},
		{"checksum", partial, Caps{MTU: 1500, Checksum: true}, FitWhole},
		{"super-segment", tcp(9000, 1460), all, FitWhole},
		{"the kernel's idea of a header", hinted, all, FitWhole},
		{"super-segment, packets too long", tcp(9000, 1461), all, FitNot},
		{"super-segment, packets too long to cut", tcp(9000, 1461), Caps{MTU: 1500}, FitNot},
		{"super-segment of one short packet", tcp(400, 9000), all, FitWhole},
		{"too large", tcp(9000, 1460), Caps{MTU: 1500, Checksum: true, GSO4: 8999}, FitCut},
		{"no offload", tcp(9000, 1460), Caps{MTU: 1500}, FitCut},
		{"no checksum, but segments", tcp(9000, 1460), Caps{MTU: 1500, GSO4: 65535}, FitCut},
	} {
		if got := tt.c.Fit(&tt.p); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func FuzzSegmenter(f *testing.F) {
	for _, tt := range superSegments {
		p, _ := tt.whole()
		f.Add(p.Head, uint8(p.Offload.GSO), true, p.Offload.Start, p.Offload.Offset, p.Offload.Size, tt.frame != nil)
	}
	var s Segmenter
	f.Fuzz(func(t *testing.T, b []byte, gso uint8, partial bool, start, offset, size uint16, frame bool) {
		p := Packet{Head: b, Offload: Offload{Partial: partial, Start: start, Offset: offset, GSO: GSO(gso % 4), Size: size}}
		c := &Caps{MTU: 1500, Ethernet: frame}
		c.Fit(&p)
		got, _, err := cutAll(&s, &p, c, 64)
		if err != nil {
			return
		}
		if p.Offload.GSO == None {
			if len(got) != 1 || len(got[0]) != len(b) {
				t.Fatalf("one packet became %d, the first of %d octets, want %d", len(got), len(got[0]), len(b))
			}
			return
		}
		head, n := p.Offload.headers(b), 0
		for i, g := range got {
			if len(g) > head+int(size) || len(g) < head || i < len(got)-1 && len(g) != head+int(size) {
				t.Fatalf("packet %d of %d has %d octets, headers %d and %d of payload", i, len(got), len(g), head, size)
			}
			if !bytes.Equal(g[head:], b[head+n:][:len(g)-head]) {
				t.Fatalf("packet %d has other payload than the super-segment", i)
			}
			n += len(g) - head
		}
		if head+n != len(b) {
			t.Fatalf("%d octets of payload in packets, %d in the super-segment", n, len(b)-head)
		}
	})
}
