package firewall

import (
	"encoding/binary"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// Direction is where a packet goes.
type Direction uint8

// The directions.
const (
	In      Direction = iota // to the host itself
	Out                      // from the host itself
	Forward                  // through it
	numDirections
)

var directionNames = [...]string{"in", "out", "forward"}

// String is the direction as rules have it.
func (d Direction) String() string {
	if d < numDirections {
		return directionNames[d]
	}
	return "unknown"
}

// A Packet is what a Firewall judges: a buffer of the owner's, used again for one packet after the other. For each, Reset
// comes first, then the fields down to MTU are set, then Arrive, Filter or both are called.
type Packet struct {
	// Data is the packet from its IP header on, and is edited in place. What follows the transport header may be missing,
	// since it is not looked at; but ICMP messages are whole.
	Data []byte
	// Partial says that the transport checksum is the sum of the pseudo-header alone, and is completed later.
	Partial   bool
	Direction Direction
	In, Out   string // the interface it came in by, and the one it goes out by; "" where there is none
	MTU       int    // of the path as far as it is known, in octets: what "clamp mss" goes by. 0: not known

	// What the Firewall says besides its verdict.
	Reason Reason // why the packet is dropped or rejected
	Rule   int    // the index in Rules.Filter of the rule that decided; −1: the policy, or no rule was asked
	State  State  // what the packet is to the connections: StateNew, StateEstablished, StateRelated, StateInvalid, perhaps Translated; 0: not tracked
	Edited bool   // Data was changed
	Reply  []byte // with Reject: a packet to send back to the source, if not empty. It holds until Reset

	key    tuple // as Data has it now
	before tuple // as it had it at first
	l4     int   // where the transport header is
	end    int   // where the packet ends, maybe behind Data
	stage  uint8
	v6     bool
	wrap   bool // ICMP error: conn is that of the packet it quotes, not of key

	kind, code uint8 // of ICMP
	seg        segment

	conn, gen  uint32 // the connection, if there is one, and which of those that had its place
	side       uint8  // of the connection, that sent it
	way        uint16 // of a packet that came in and begins a connection: who pays for that, by place in the tables
	sender     uint16
	translated bool   // the destination of a packet that begins a connection
	target     uint32 // the mapping that it came in through
	targetGen  uint32
	newSrc     [16]byte // of a related error, if hasNewSrc
	hasNewSrc  bool
}

// Stages of a packet.
const (
	fresh = iota
	arrived
	done
)

// Reset makes p ready for the packet data, which begins with its IP header. The memory of Reply is kept.
func (p *Packet) Reset(data []byte) {
	*p = Packet{Data: data, Reply: p.Reply[:0], Rule: -1}
}

// Before is the flow that the packet had when it came, and After the one that it has now. They are of use after Arrive or
// Filter.
func (p *Packet) Before() Flow { return p.before.flow() }

// After is the flow that the packet has now: see Before.
func (p *Packet) After() Flow { return p.key.flow() }

// parse reads the headers of p.Data.
func (p *Packet) parse() Reason {
	b := p.Data
	if len(b) == 0 {
		return Malformed
	}
	var r Reason
	switch b[0] >> 4 {
	case 4:
		r = p.parse4(b)
	case 6:
		r = p.parse6(b)
	default:
		return Malformed
	}
	if r != 0 {
		return r
	}
	if r = p.parseTransport(); r != 0 {
		return r
	}
	if isLinkLocal(&p.key.src) || isLinkLocal(&p.key.dst) {
		name := p.In
		if p.In == "" {
			name = p.Out
		}
		p.key.zone = zone(name)
	}
	p.before = p.key
	return 0
}

func (p *Packet) parse4(b []byte) Reason {
	if len(b) < ipv4.MinHeaderLen {
		return Malformed
	}
	p.l4, p.end = int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if p.l4 < ipv4.MinHeaderLen || p.l4 > len(b) || p.end < p.l4 {
		return Malformed
	}
	if binary.BigEndian.Uint16(b[6:])&0x3fff != 0 { // RFC 791 §3.1: more fragments, fragment offset
		return Fragment
	}
	if p.l4 > ipv4.MinHeaderLen {
		h := ipv4.Header{Options: b[ipv4.MinHeaderLen:p.l4]}
		if h.SourceRoute() {
			return SourceRoute
		}
	}
	p.key.proto = b[9]
	p.key.src[10], p.key.src[11], p.key.dst[10], p.key.dst[11] = 0xff, 0xff, 0xff, 0xff
	copy(p.key.src[12:], b[12:16])
	copy(p.key.dst[12:], b[16:20])
	return 0
}

func (p *Packet) parse6(b []byte) Reason {
	if len(b) < ipv6.HeaderLen {
		return Malformed
	}
	p.v6 = true
	p.end = ipv6.HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	copy(p.key.src[:], b[8:24])
	copy(p.key.dst[:], b[24:40])
	proto, at, r := walk6(b[6], b[:min(p.end, len(b))])
	p.key.proto, p.l4 = proto, at
	return r
}

// walk6 goes along the extension headers of the packet b, and says what follows them, and where. Unlike a host (ipv6.Chain)
// it judges no options, which are for the destination.
func walk6(next uint8, b []byte) (proto uint8, at int, r Reason) {
	at = ipv6.HeaderLen
	for range ipv6.MaxHeaders + 1 {
		switch next {
		case ipv6.ProtoFragment:
			if len(b) < at+8 {
				return 0, 0, Malformed
			}
			if binary.BigEndian.Uint16(b[at+2:])&^6 != 0 { // RFC 8200 §4.5: offset and M; RFC 6946: an atomic one has neither
				return 0, 0, Fragment
			}
			next, at = b[at], at+8
			continue
		case ipv6.ProtoHopByHop, ipv6.ProtoRouting, ipv6.ProtoDestOpts:
		default:
			return next, at, 0
		}
		if len(b) < at+8 {
			return 0, 0, Malformed
		}
		if next == ipv6.ProtoRouting && b[at+3] != 0 { // segments left: Dst is not where the packet ends up
			return 0, 0, SourceRoute
		}
		next, at = b[at], at+8+int(b[at+1])*8
		if at > len(b) {
			return 0, 0, Malformed
		}
	}
	return 0, 0, Malformed
}

// parseTransport reads the transport header.
func (p *Packet) parseTransport() Reason {
	b := p.Data[p.l4:]
	size := p.end - p.l4 // what the IP header says that there is
	switch p.key.proto {
	case ipv4.ProtoTCP:
		if len(b) < tcp.HeaderLen {
			return Malformed
		}
		n := int(b[12]>>4) * 4
		if n < tcp.HeaderLen || n > len(b) || n > size {
			return Malformed
		}
		p.seg = segment{
			seq: binary.BigEndian.Uint32(b[4:]), ack: binary.BigEndian.Uint32(b[8:]), window: uint32(binary.BigEndian.Uint16(b[14:])),
			flags: tcp.Flags(b[13]), header: uint8(n), text: uint32(size - n), scale: noScale,
		}
		p.key.sport, p.key.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case ipv4.ProtoUDP:
		if len(b) < udp.HeaderLen || size < udp.HeaderLen {
			return Malformed
		}
		p.key.sport, p.key.dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	case ipv4.ProtoICMP, ipv6.ProtoICMP:
		if p.key.proto == ipv6.ProtoICMP != p.v6 { // the one family's ICMP in the other's packet is nobody's
			return Malformed
		}
		if len(b) < ipv4.ICMPLen || size < ipv4.ICMPLen {
			return Malformed
		}
		p.kind, p.code = b[0], b[1]
		switch role(p.v6, p.kind) {
		case question:
			p.key.sport = binary.BigEndian.Uint16(b[4:])
		case answer:
			p.key.dport = binary.BigEndian.Uint16(b[4:])
		}
	}
	return 0
}

// What an ICMP message is.
const (
	notice   = iota // tells something
	question        // has an identifier and is answered
	answer
	failure // about a packet that it quotes
	discovery
)

// Types of ICMP queries besides echo, RFC 792.
const (
	timestampRequest = 13
	timestampReply   = 14
)

// role is what an ICMP message of that type is.
func role(v6 bool, kind uint8) int {
	if v6 {
		switch {
		case kind < 128: // RFC 4443 §2.1
			return failure
		case kind == ipv6.Echo:
			return question
		case kind == ipv6.EchoReply:
			return answer
		case kind >= ipv6.RouterSolicitation && kind <= ipv6.Redirect:
			return discovery
		}
		return notice
	}
	switch kind {
	case ipv4.Echo, timestampRequest:
		return question
	case ipv4.EchoReply, timestampReply:
		return answer
	case ipv4.Unreachable, ipv4.SourceQuench, ipv4.Redirect, ipv4.TimeExceeded, ipv4.ParamProblem:
		return failure
	}
	return notice
}

// isLinkLocal reports whether an IPv6 address means something on one link only: fe80::/10, ff02::/16 (RFC 4291 §2.4, §2.7).
func isLinkLocal(a *[16]byte) bool {
	return a[0] == 0xfe && a[1]&0xc0 == 0x80 || a[0] == 0xff && a[1]&0x0f == 2
}

// zone stands for an interface in tuples of link-local addresses. Two names that came to the same would only share entries.
func zone(name string) uint16 {
	h := uint32(2166136261) // FNV-1a, 32 bits
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return uint16(h ^ h>>16)
}
