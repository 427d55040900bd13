package firewall

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

const (
	replyTTL  = 64  // RFC 1700, the default that RFC 1122 §3.2.1.7 refers to
	maxReply4 = 576 // RFC 1812 §4.3.2.3: an ICMP error quotes as much as fits into 576 octets
)

// answer writes the packet that tells the sender of p that it was rejected into p.Reply, or nothing where none is to be
// sent.
func (f *Firewall) answer(now time.Duration, p *Packet, with Answer) {
	if p.conn == 0 && p.translated { // the sender knows the external address
		p.setTarget(p.before.dst, p.before.dport)
	}
	reset := p.key.proto == protoTCP && (with == Automatic || with == WithReset)
	if !reset && with == WithReset || !answerable(p) {
		return
	}
	if !f.rejects.Take(now, &f.rejected) {
		return
	}
	if reset {
		p.replyReset()
	} else {
		p.replyUnreachable(with)
	}
	f.stats.Replies++
}

// answerable reports whether an answer to the packet may be sent. RFC 1122 §3.2.2: "An ICMP error message MUST NOT be sent
// as the result of receiving: an ICMP error message, or a datagram destined to an IP broadcast or IP multicast address, …
// or a datagram whose source address does not define a single host". RFC 9293 §3.5.2 has no reset answer a reset.
func answerable(p *Packet) bool {
	src, dst := address(&p.key.src), address(&p.key.dst)
	if p.wrap || dst.IsMulticast() || src.IsMulticast() || src.IsUnspecified() || src.IsLoopback() != dst.IsLoopback() {
		return false
	}
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return src != broadcast && dst != broadcast && (p.key.proto != protoTCP || p.seg.flags&tcp.RST == 0)
}

// room makes p.Reply n octets long and zero, without a new allocation once it was that long.
func (p *Packet) room(n int) []byte {
	if cap(p.Reply) < n {
		p.Reply = make([]byte, 0, ipv6.MinMTU)
	}
	p.Reply = p.Reply[:n]
	clear(p.Reply)
	return p.Reply
}

// header writes the IP header of a reply of n octets in all, and returns what follows it.
func (p *Packet) header(n int, proto uint8) []byte {
	src, dst := address(&p.key.dst), address(&p.key.src)
	if p.v6 {
		b := p.room(n)
		h := ipv6.Header{PayloadLength: n - ipv6.HeaderLen, NextHeader: proto, HopLimit: replyTTL, Src: src, Dst: dst}
		h.Encode(b)
		return b[ipv6.HeaderLen:]
	}
	b := p.room(n)
	h := ipv4.Header{Length: n, DF: true, TTL: replyTTL, Protocol: proto, Src: src, Dst: dst}
	h.Encode(b)
	return b[ipv4.MinHeaderLen:]
}

func (p *Packet) headerLen() int {
	if p.v6 {
		return ipv6.HeaderLen
	}
	return ipv4.MinHeaderLen
}

// replyReset answers as a host without that port does. RFC 9293 §3.5.2: "If the incoming segment has an ACK field, the
// reset takes its sequence number from the ACK field of the segment; otherwise, the reset has sequence number zero and
// the ACK field is set to the sum of the sequence number and segment length of the incoming segment."
func (p *Packet) replyReset() {
	b := p.header(p.headerLen()+tcp.HeaderLen, protoTCP)
	binary.BigEndian.PutUint16(b, p.key.dport)
	binary.BigEndian.PutUint16(b[2:], p.key.sport)
	b[12] = tcp.HeaderLen / 4 << 4
	if p.seg.flags&tcp.ACK != 0 {
		binary.BigEndian.PutUint32(b[4:], p.seg.ack)
		b[13] = byte(tcp.RST)
	} else {
		binary.BigEndian.PutUint32(b[8:], p.seg.end())
		b[13] = byte(tcp.RST | tcp.ACK)
	}
	pseudo := checksum.Pseudo(address(&p.key.dst), address(&p.key.src), protoTCP, tcp.HeaderLen)
	binary.BigEndian.PutUint16(b[16:], ^checksum.Sum(b, pseudo))
}

// replyUnreachable quotes the packet in a Destination Unreachable.
func (p *Packet) replyUnreachable(with Answer) {
	whole := p.Data[:min(p.end, len(p.Data))]
	if p.v6 {
		code := [numAnswers]uint8{Automatic: ipv6.CodePort, WithPort: ipv6.CodePort, WithHost: ipv6.CodeAddress,
			WithNet: ipv6.CodeNoRoute, Prohibited: ipv6.CodeProhibited}[with]
		quote := whole[:min(len(whole), ipv6.MinMTU-ipv6.HeaderLen-ipv6.ICMPLen)] // RFC 4443 §3.1: up to the minimum MTU
		b := p.header(ipv6.HeaderLen+ipv6.ICMPLen+len(quote), protoICMP6)
		m := ipv6.ICMP{Type: ipv6.Unreachable, Code: code, Body: quote}
		m.Encode(b, address(&p.key.dst), address(&p.key.src))
		return
	}
	code := [numAnswers]uint8{Automatic: ipv4.CodePort, WithPort: ipv4.CodePort, WithHost: ipv4.CodeHost,
		WithNet: ipv4.CodeNet, Prohibited: ipv4.CodeProhibited}[with]
	quote := whole[:min(len(whole), maxReply4-ipv4.MinHeaderLen-ipv4.ICMPLen)]
	b := p.header(ipv4.MinHeaderLen+ipv4.ICMPLen+len(quote), protoICMP4)
	m := ipv4.ICMP{Type: ipv4.Unreachable, Code: code, Body: quote}
	m.Encode(b)
}
