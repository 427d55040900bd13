package stack

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/udp"
)

// cut is what an IP header says of a fragment; the zero cut is a packet that routers may not cut either.
type cut struct {
	is     bool // a fragment
	more   bool
	offset int
	id     uint32
}

// cutter is a packet that leaves in fragments, as it is longer than the link carries.
type cutter struct {
	m    meta
	h    *hop
	head [transportLen]byte // of the transport, its checksum complete
	text []byte             // what has not left
	room int                // octets in each fragment but the last
}

// transportLen is how long the headers are of what is ever cut: UDP and ICMP.
const transportLen = udp.HeaderLen

// fragmentLen is the length of IPv6's Fragment header (RFC 8200 §4.5).
const fragmentLen = 8

// newCutter is a packet with the transport header head, to be sent by h.
func (s *Stack) newCutter(m *meta, h *hop, head, text []byte) *cutter {
	c := &cutter{m: *m, h: h, text: text, head: [transportLen]byte(head)}
	extra := 0
	if m.dst.Is6() {
		extra = fragmentLen
	}
	c.room = (s.mtu(h, m.dst) - ipHeader(m.dst) - extra) &^ 7
	c.m.cut = cut{is: true, more: true, id: s.ids.next(&s.secret, m)}
	return c
}

// next is the next fragment, nil after the last.
func (c *cutter) next(s *Stack) *packet {
	if !c.m.cut.more {
		return nil
	}
	p := s.newPacket()
	p.toward(c.h, c.m.dst)
	m, n := c.m, 0 // octets in front of the text, as wrap sees it
	if m.dst.Is6() {
		n = fragmentLen
		m.proto = ipv6.ProtoFragment
	}
	room := c.room
	if m.cut.offset == 0 {
		n += copy(p.head[headroom+n:], c.head[:])
		room -= len(c.head)
	}
	k := min(room, len(c.text))
	m.cut.more = k < len(c.text)
	if m.dst.Is6() {
		b := p.head[headroom:]
		b[0], b[1] = c.m.proto, 0
		at := uint16(m.cut.offset)
		if m.cut.more {
			at |= 1
		}
		binary.BigEndian.PutUint16(b[2:], at)
		binary.BigEndian.PutUint32(b[4:], m.cut.id)
	}
	p.one[0] = c.text[:k]
	p.wrap(&m, n, p.one[:], -1, 0)
	c.text = c.text[k:]
	c.m.cut.more, c.m.cut.offset = m.cut.more, c.m.cut.offset+c.room
	s.stats.fragmentsOut.Add(1)
	return p
}

// sendCut sends a datagram that is longer than the link carries.
func (u *UDPConn) sendCut(m *meta, h *hop, hdr *udp.Header, b []byte) error {
	s := u.stack
	var head [udp.HeaderLen]byte
	hdr.Encode(head[:])
	hdr.Checksum = udp.Checksum(checksum.Combine(checksum.Sum(head[:], checksum.Pseudo(m.src, m.dst, m.proto, hdr.Length)), checksum.Sum(b, 0)))
	hdr.Encode(head[:])
	s.stats.datagramsOut.Add(1)
	return u.sendPieces(m, h, head[:], b)
}

// sendPieces sends the fragments of a datagram or of an ICMP message; head is its header, with the checksum.
func (u *UDPConn) sendPieces(m *meta, h *hop, head, b []byte) error {
	s := u.stack
	if err := s.leavesCut(m, h, head, b); err != nil {
		return err
	}
	c := s.newCutter(m, h, head, b)
	for p := c.next(s); p != nil; p = c.next(s) {
		if err := u.transmit(p, h.ifc); err != nil {
			return err
		}
	}
	return nil
}

// maxDatagram is how much text a datagram to dst can have: what the 16 bits of IPv4's Total Length, and of UDP's Length,
// leave.
func maxDatagram(dst netip.Addr) int {
	if dst.Is4() {
		return ipv4.MaxLen - ipv4.MinHeaderLen - udp.HeaderLen
	}
	return udp.MaxLen - udp.HeaderLen
}

// sendCut sends a message that is longer than the link carries; head is its header, with the checksum.
func (s *Stack) sendCut(now time.Duration, m *meta, h *hop, head, body []byte) {
	if s.leavesCut(m, h, head, body) != nil {
		return
	}
	c := s.newCutter(m, h, head, body)
	for p := c.next(s); p != nil; p = c.next(s) {
		h.ifc.send(now, p)
	}
}
