package firewall

import (
	"encoding/binary"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// relate finds the connection that an ICMP error is about, and undoes in the packet it quotes what was done to that. With
// false the packet is dropped.
func (f *Firewall) relate(now time.Duration, p *Packet) bool {
	p.wrap = true
	outer := p.key
	if p.end > len(p.Data) || p.l4+ipv4.ICMPLen > p.end {
		return f.lose(p, Malformed)
	}
	message := p.Data[p.l4:p.end]
	// RFC 5508 REQ-3: "When an ICMP Error packet is received, if the ICMP checksum fails to validate, the NAT SHOULD silently
	// drop the ICMP Error packet."
	if checksum.Sum(message, outer.pseudo(len(message))) != 0xffff {
		return f.lose(p, BadChecksum)
	}
	quote := Packet{Data: message[ipv4.ICMPLen:]}
	if !quote.parseQuoted(outer.proto) {
		p.State = StateInvalid
		if p.stage == fresh { // the host's own
			p.State = StateRelated
		}
		return true
	}
	// RFC 5508 REQ-3a: "If the IP checksum of the embedded packet fails to validate, the NAT SHOULD silently drop"
	if !quote.v6 && checksum.Sum(quote.Data[:quote.l4], 0) != 0xffff {
		return f.lose(p, BadChecksum)
	}
	quote.key.zone = outer.zone
	back := quote.key.inverse()
	ref, side := f.find(now, &back)
	if ref == 0 {
		p.State = StateInvalid
		if ref, _ = f.find(now, &quote.key); ref != 0 || p.stage == fresh {
			p.State = StateRelated
		}
		return true
	}
	// The error is about a packet that the other side sent and that left as quoted, so it travels as this side does. RFC 5508
	// REQ-6 has it refresh nothing.
	c := f.at(ref)
	p.conn, p.gen, p.side, p.State = ref, c.gen, uint8(side), StateRelated
	sent := c.tuples[1-side]
	if quote.key != sent {
		quote.setSource(sent.src, sent.sport)
		quote.setTarget(sent.dst, sent.dport)
	}
	if outer.dst != sent.src && outer.dst == back.dst {
		p.replaceAddress(p.addressAt(true), &outer.dst, &sent.src)
		p.key.dst = sent.src
		p.Edited = true
	}
	if sent.dst != back.src {
		// RFC 5508 REQ-5: an error from inside has an external address, that of the host it is about.
		p.newSrc, p.hasNewSrc = sent.dst, true
	}
	if p.Edited = p.Edited || quote.Edited; p.Edited {
		p.sumICMP()
	}
	return true
}

// setOuterSource gives a related error the source address that it has outside.
func (p *Packet) setOuterSource() {
	p.Edited = true
	p.replaceAddress(p.addressAt(false), &p.key.src, &p.newSrc)
	p.key.src = p.newSrc
	p.sumICMP()
}

// sumICMP computes the checksum of the whole message, in which much may have changed.
func (p *Packet) sumICMP() {
	b := p.Data[p.l4:p.end]
	b[2], b[3] = 0, 0
	binary.BigEndian.PutUint16(b[2:], ^checksum.Sum(b, p.key.pseudo(len(b))))
}

// pseudo is the sum of the pseudo-header of an ICMP message: ICMPv4 has none.
func (t *tuple) pseudo(length int) uint16 {
	if t.proto == ipv4.ProtoICMP {
		return 0
	}
	return checksum.Pseudo(address(&t.src), address(&t.dst), t.proto, length)
}

// parseQuoted reads the headers of a packet that an ICMP message of the protocol quotes, cut off somewhere. Fragments
// other than the first tell nothing.
func (p *Packet) parseQuoted(proto uint8) bool {
	b := p.Data
	if len(b) == 0 {
		return false
	}
	var r Reason
	switch {
	case b[0]>>4 == 4 && proto == ipv4.ProtoICMP:
		r = p.parse4(b)
	case b[0]>>4 == 6 && proto == ipv6.ProtoICMP:
		r = p.parse6(b)
	default:
		return false
	}
	if r != 0 || len(b) < p.l4+8 { // RFC 792: the header and 64 bits of what follows
		return false
	}
	b = b[p.l4:]
	switch p.key.proto {
	case protoTCP, protoUDP:
		p.key.sport, p.key.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case protoICMP4, protoICMP6:
		switch role(p.v6, b[0]) {
		case question:
			p.key.sport = binary.BigEndian.Uint16(b[4:])
		case answer:
			p.key.dport = binary.BigEndian.Uint16(b[4:])
		default: // RFC 1122 §3.2.2: no error is sent about an error
			return false
		}
	}
	return true
}
