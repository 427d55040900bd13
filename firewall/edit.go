package firewall

import (
	"encoding/binary"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// setSource and setTarget put another address and port into the packet.
func (p *Packet) setSource(a [16]byte, port uint16) {
	if p.key.src == a && p.key.sport == port {
		return
	}
	p.rewrite(p.addressAt(false), &p.key.src, &a, 0, p.key.sport, port)
	p.key.src, p.key.sport = a, port
}

func (p *Packet) setTarget(a [16]byte, port uint16) {
	if p.key.dst == a && p.key.dport == port {
		return
	}
	p.rewrite(p.addressAt(true), &p.key.dst, &a, 2, p.key.dport, port)
	p.key.dst, p.key.dport = a, port
}

// addressAt is where the address is in Data.
func (p *Packet) addressAt(target bool) int {
	switch {
	case p.v6 && target:
		return 24 // RFC 8200 §3
	case p.v6:
		return 8
	case target:
		return 16 // RFC 791 §3.1
	default:
		return 12
	}
}

// rewrite replaces the address at octet at, and the port (of TCP and UDP portAt octets into the header), and brings every
// checksum that covers them up to date.
func (p *Packet) rewrite(at int, old, new *[16]byte, portAt int, oldPort, newPort uint16) {
	p.Edited = true
	was, is := p.replaceAddress(at, old, new)
	b := p.Data[p.l4:]
	switch p.key.proto {
	case ipv4.ProtoTCP:
		binary.BigEndian.PutUint16(b[portAt:], newPort)
		if len(b) >= 18 { // a quoted header may be cut off before; RFC 9293 §3.1 has the checksum there
			p.repair(b[16:], was, is, oldPort, newPort)
		}
	case ipv4.ProtoUDP:
		binary.BigEndian.PutUint16(b[portAt:], newPort)
		// RFC 768: "An all zero transmitted checksum value means that the transmitter generated no checksum"
		if p.Partial || b[6] != 0 || b[7] != 0 {
			p.repair(b[6:], was, is, oldPort, newPort)
			if b[6] == 0 && b[7] == 0 && !p.Partial {
				b[6], b[7] = 0xff, 0xff
			}
		}
	case ipv4.ProtoICMP:
		if oldPort != newPort {
			binary.BigEndian.PutUint16(b[4:], newPort)
			update(b[2:], oldPort, newPort)
		}
	case ipv6.ProtoICMP:
		update(b[2:], was, is) // RFC 4443 §2.3: the pseudo-header is covered
		if oldPort != newPort {
			binary.BigEndian.PutUint16(b[4:], newPort)
			update(b[2:], oldPort, newPort)
		}
	}
}

// replaceAddress writes the address and repairs the IP header's own checksum. It returns what the old and the new
// address add up to.
func (p *Packet) replaceAddress(at int, old, new *[16]byte) (was, is uint16) {
	if p.v6 {
		copy(p.Data[at:at+16], new[:])
		return checksum.Sum(old[:], 0), checksum.Sum(new[:], 0)
	}
	copy(p.Data[at:at+4], new[12:])
	was, is = checksum.Sum(old[12:], 0), checksum.Sum(new[12:], 0)
	update(p.Data[10:], was, is)
	return was, is
}

// repair brings the transport checksum at b up to date after a change of address and port.
func (p *Packet) repair(b []byte, was, is, oldPort, newPort uint16) {
	if p.Partial { // the sum of the pseudo-header, not complemented; ports come later
		sum := checksum.Combine(binary.BigEndian.Uint16(b), ^was)
		binary.BigEndian.PutUint16(b, checksum.Combine(sum, is))
		return
	}
	update(b, was, is)
	update(b, oldPort, newPort)
}

// update is RFC 1624 on the checksum at b.
func update(b []byte, old, new uint16) {
	binary.BigEndian.PutUint16(b, checksum.Update(binary.BigEndian.Uint16(b), old, new))
}

// option finds the TCP option of that kind and length, and returns where its value begins in Data, or 0.
func (p *Packet) option(kind, size uint8) int {
	at, end := p.l4+tcp.HeaderLen, p.l4+int(p.seg.header)
	for at < end {
		switch p.Data[at] {
		case 0: // RFC 9293 §3.1: end of option list
			return 0
		case 1: // no-operation
			at++
			continue
		}
		if at+2 > end || p.Data[at+1] < 2 || at+int(p.Data[at+1]) > end {
			return 0
		}
		if p.Data[at] == kind && p.Data[at+1] == size {
			return at + 2
		}
		at += int(p.Data[at+1])
	}
	return 0
}

// Kinds and lengths of TCP options.
const (
	optionMSS, sizeMSS     = 2, 4 // RFC 9293 §3.7.1
	optionScale, sizeScale = 3, 3 // RFC 7323 §2.2
	maxScale               = 14   // RFC 7323 §2.3
)

// clampMSS lowers the maximum segment size that a SYN announces.
func (p *Packet) clampMSS(limit int) {
	at := p.option(optionMSS, sizeMSS)
	if at == 0 || limit <= 0 || limit > 0xffff {
		return
	}
	old := binary.BigEndian.Uint16(p.Data[at:])
	if int(old) <= limit {
		return
	}
	p.Edited = true
	binary.BigEndian.PutUint16(p.Data[at:], uint16(limit))
	if p.Partial {
		return
	}
	// RFC 1071 §2 (B): words at an odd offset have their octets the other way round.
	new := uint16(limit)
	if (at-p.l4)%2 == 1 {
		old, new = old<<8|old>>8, new<<8|new>>8
	}
	update(p.Data[p.l4+16:], old, new)
}
