package link

import (
	"encoding/binary"
	"errors"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
)

// ErrSegment says that a packet's Offload does not fit its headers, or the headers not each other: it cannot be cut, nor
// its checksum completed.
var ErrSegment = errors.New("link: headers and offload do not fit")

// Fit says in which form a device can carry a packet.
type Fit uint8

// The ways in which a packet fits a device.
const (
	FitWhole Fit = iota // as it is
	FitCut              // once a Segmenter has cut it, or completed its checksum
	FitNot              // not at all: a packet on the wire would be longer than the MTU
)

// Fit says whether a device with these Caps takes p as it is. It is judged by the packets on the wire: a super-segment's
// are its headers and Offload.Size of payload each. The MTU is for what follows the Ethernet header and its tags.
func (c *Caps) Fit(p *Packet) Fit {
	n, frame := p.Len(), 0
	if c.Ethernet {
		frame = frameHeader(p.Head)
	}
	one, limit := n, n
	if p.Offload.GSO != None {
		one = min(n, p.Offload.headers(p.Head)+int(p.Offload.Size))
	}
	switch p.Offload.GSO {
	case TCP4:
		limit = c.GSO4
	case TCP6:
		limit = c.GSO6
	case UDP:
		limit = c.GSOUDP
	}
	switch {
	case one > c.MTU+frame:
		return FitNot
	case p.Offload.Partial && !c.Checksum, limit == 0, n > limit+frame:
		return FitCut
	}
	return FitWhole
}

// headers is the length of all headers of a super-segment as its own TCP or UDP header has it; where that is not to be
// seen, what HeaderLen says. A kernel's HeaderLen is only a hint, and may count payload.
func (o *Offload) headers(head []byte) int {
	at := int(o.Start)
	switch {
	case !o.Partial:
	case o.GSO == UDP:
		return at + udpHeader
	case at+tcpDataOffset < len(head) && head[at+tcpDataOffset]>>4*4 >= tcpHeader:
		return at + int(head[at+tcpDataOffset]>>4)*4
	}
	if o.HeaderLen == 0 {
		return len(head)
	}
	return int(o.HeaderLen)
}

// The places in the headers that a Segmenter reads and writes, in octets from the start of each.
const (
	ip4Length, ip4ID, ip4Fragment, ip4Proto, ip4Checksum = 2, 4, 6, 9, 10 // RFC 791 §3.1

	ip4Header, ip6Header      = 20, 40 // without options; RFC 8200 §3
	ip6Length, ip6Next        = 4, 6
	tcpSeq, tcpDataOffset     = 4, 12 // RFC 9293 §3.1
	tcpFlags, tcpCheck        = 13, 16
	tcpFIN, tcpPSH, tcpCWR    = 0x01, 0x08, 0x80
	udpLength, udpCheck       = 4, 6 // RFC 768
	udpHeader, tcpHeader      = 8, 20
	protocolTCP, protocolUDP  = 6, 17
	ip4MoreFragmentsAndOffset = 0x3fff
)

const (
	// segmentBatch is how many packets a Segmenter makes at most at once: more than the 45 that 64 KB of TCP are on Ethernet.
	segmentBatch = 64
	// segmentHead is the most that all headers together may measure: Ethernet with tags 22, IPv6 40 with extension headers,
	// TCP with all its options 60.
	segmentHead = 256
)

// A Segmenter does in software what a packet's Offload leaves to a device, for a device that cannot: it cuts a
// super-segment of TCP or UDP into the packets that it stands for, and completes checksums. The packet itself is left as
// it is, for others to send.
//
// The zero value is ready; memory for headers, 16 KB, comes with the first use and stays. It is for one goroutine.
type Segmenter struct {
	packet Packet
	partly bool // the device completes checksums
	ip     int  // where the IP header begins
	head   int  // length of all headers
	size   int  // payload of a packet
	base   uint16

	number, at, total int // packets made, octets of payload in them, octets in all
	done              bool
	rest              []byte   // of the slice of payload that comes next
	texts             [][]byte // the slices after it

	heads  []byte
	pieces [][]byte
}

// Start begins with p, for a device with Caps c; with c.Ethernet p begins with an Ethernet header. Head has at least all
// headers. p and its bytes must stay as they are until Next has returned 0. The error is ErrSegment.
func (s *Segmenter) Start(p *Packet, c *Caps) error {
	o := &p.Offload
	s.packet, s.partly, s.done = *p, c.Checksum, true
	n, start := p.Len(), int(o.Start)
	switch {
	case !o.Partial && o.GSO == None:
		s.head = min(len(p.Head), segmentHead)
	case !o.Partial, o.Offset&1 == 1, !o.fits(n):
		return ErrSegment
	case o.GSO == None:
		s.head = start + int(o.Offset) + 2
	default:
		s.head = o.headers(p.Head)
	}
	if s.head > len(p.Head) || s.head > segmentHead {
		return ErrSegment
	}
	s.total = n - s.head
	s.size = s.total
	if o.GSO != None {
		s.size = int(o.Size)
		if !s.locate(p, c.Ethernet) || !s.check(p, n) {
			return ErrSegment
		}
	}
	if o.Partial {
		// What stands in the field is the sum of the pseudo-header, whose length is that of the whole.
		s.base = checksum.Combine(binary.BigEndian.Uint16(p.Head[start+int(o.Offset):]), ^uint16(n-start))
	}
	if s.heads == nil {
		s.heads = make([]byte, segmentBatch*segmentHead)
	}
	s.rest, s.texts = p.Head[s.head:], p.Text
	s.number, s.at, s.done = 0, 0, false
	return nil
}

// locate finds the IP header.
func (s *Segmenter) locate(p *Packet, frame bool) bool {
	s.ip = 0
	if frame {
		s.ip = frameHeader(p.Head)
	}
	return s.ip < s.head
}

// frameHeader is the length of the Ethernet header of b and of all its VLAN tags.
func frameHeader(b []byte) int {
	n := ethernet.HeaderLen
	for ; n+ethernet.TagLen <= len(b); n += ethernet.TagLen {
		if t := ethernet.EtherType(binary.BigEndian.Uint16(b[n-2:])); t != ethernet.TypeVLAN && t != ethernet.TypeQinQ {
			break
		}
	}
	return n
}

// check holds the headers of a super-segment of n octets against each other and against Offload.
func (s *Segmenter) check(p *Packet, n int) bool {
	o, start := &p.Offload, int(p.Offload.Start)
	proto, field, least := byte(protocolTCP), tcpCheck, start+tcpHeader
	if o.GSO == UDP {
		proto, field, least = protocolUDP, udpCheck, start+udpHeader
	}
	if s.size == 0 || int(o.Offset) != field || s.head < least {
		return false
	}
	if o.GSO != UDP && start+int(p.Head[start+tcpDataOffset]>>4)*4 != s.head {
		return false
	}
	h := p.Head[s.ip:s.head]
	switch {
	case h[0]>>4 == 4 && o.GSO != TCP6:
		return len(h) >= ip4Header && start == s.ip+int(h[0]&15)*4 && start >= s.ip+ip4Header && h[ip4Proto] == proto &&
			int(binary.BigEndian.Uint16(h[ip4Length:])) == n-s.ip &&
			binary.BigEndian.Uint16(h[ip4Fragment:])&ip4MoreFragmentsAndOffset == 0
	case h[0]>>4 == 6 && o.GSO != TCP4:
		return start >= s.ip+ip6Header && (start > s.ip+ip6Header || h[ip6Next] == proto) &&
			int(binary.BigEndian.Uint16(h[ip6Length:])) == n-s.ip-ip6Header
	}
	return false
}

// Next fills out with the next packets and says how many they are: 0 once there are no more. Their Head is the Segmenter's
// until the next call, their Text is a view of the packet that is being cut.
func (s *Segmenter) Next(out []Packet) (n int) {
	clear(s.pieces)
	s.pieces = s.pieces[:0]
	for ; n < min(len(out), segmentBatch) && !s.done; n++ {
		h := s.heads[n*segmentHead:][:s.head:s.head]
		copy(h, s.packet.Head)
		k := min(s.size, s.total-s.at)
		s.at += k
		s.done = s.at == s.total
		out[n] = Packet{Head: h, Text: s.take(k), Comment: s.packet.Comment}
		if s.packet.Offload.GSO != None {
			s.header(h, k)
		}
		s.sum(&out[n], k)
		s.number++
	}
	return n
}

// take is the next n octets of payload.
func (s *Segmenter) take(n int) [][]byte {
	first := len(s.pieces)
	for n > 0 {
		if len(s.rest) == 0 {
			s.rest, s.texts = s.texts[0], s.texts[1:]
			continue
		}
		k := min(n, len(s.rest))
		s.pieces = append(s.pieces, s.rest[:k:k])
		s.rest = s.rest[k:]
		n -= k
	}
	return s.pieces[first:len(s.pieces):len(s.pieces)]
}

// header writes into the headers h what is a packet's own; n is its payload.
func (s *Segmenter) header(h []byte, n int) {
	ip, transport := h[s.ip:], h[s.packet.Offload.Start:]
	if ip[0]>>4 == 4 {
		binary.BigEndian.PutUint16(ip[ip4Length:], uint16(len(ip)+n))
		// RFC 6864 §4.3 asks for an identification of its own for each packet that may be fragmented.
		binary.BigEndian.PutUint16(ip[ip4ID:], binary.BigEndian.Uint16(ip[ip4ID:])+uint16(s.number))
		ip[ip4Checksum], ip[ip4Checksum+1] = 0, 0
		options := len(ip) - len(transport)
		binary.BigEndian.PutUint16(ip[ip4Checksum:], ^checksum.Sum(ip[:options], 0))
	} else {
		binary.BigEndian.PutUint16(ip[ip6Length:], uint16(len(ip)-ip6Header+n))
	}
	if s.packet.Offload.GSO == UDP {
		binary.BigEndian.PutUint16(transport[udpLength:], uint16(udpHeader+n))
		return
	}
	seq := binary.BigEndian.Uint32(transport[tcpSeq:]) + uint32(s.number*s.size)
	binary.BigEndian.PutUint32(transport[tcpSeq:], seq)
	if s.number > 0 {
		// RFC 3168 §6.1.2: "the TCP sender sets the CWR flag in the TCP header of the first new data packet sent after the
		// window reduction."
		transport[tcpFlags] &^= tcpCWR
	}
	if !s.done {
		transport[tcpFlags] &^= tcpFIN | tcpPSH
	}
}

// sum writes the checksum of p, whose payload behind the headers is n octets, or leaves it to the device.
func (s *Segmenter) sum(p *Packet, n int) {
	o := &s.packet.Offload
	if !o.Partial {
		p.Offload = Offload{Valid: o.Valid}
		return
	}
	transport := p.Head[o.Start:]
	sum := checksum.Combine(s.base, uint16(len(transport)+n))
	field := transport[o.Offset:]
	if s.partly {
		p.Offload = Offload{Partial: true, Valid: o.Valid, Start: o.Start, Offset: o.Offset}
	} else {
		field[0], field[1] = 0, 0
		sum = ^checksum.Vec(p.Text, checksum.Sum(transport, sum))
		if sum == 0 && o.Offset == udpCheck {
			sum = 0xffff // RFC 768: "If the computed checksum is zero, it is transmitted as all ones"
		}
	}
	binary.BigEndian.PutUint16(field, sum)
}
