package ipv6

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

// ICMPLen is the length in octets of what every ICMPv6 message begins with that is read here: type, code, checksum
// (RFC 4443 §2.1), and 4 octets more, which all messages of RFC 4443, 4861 and 2710 have.
const ICMPLen = 8

// Types of messages. Those below 128 are errors (RFC 4443 §2.1).
const (
	Unreachable  uint8 = 1   // RFC 4443 §3.1, Destination Unreachable
	PacketTooBig uint8 = 2   // RFC 4443 §3.2
	TimeExceeded uint8 = 3   // RFC 4443 §3.3
	ParamProblem uint8 = 4   // RFC 4443 §3.4, Parameter Problem
	Echo         uint8 = 128 // RFC 4443 §4.1, Echo Request
	EchoReply    uint8 = 129 // RFC 4443 §4.2

	RouterSolicitation    uint8 = 133 // RFC 4861 §4.1
	RouterAdvertisement   uint8 = 134 // RFC 4861 §4.2
	NeighborSolicitation  uint8 = 135 // RFC 4861 §4.3
	NeighborAdvertisement uint8 = 136 // RFC 4861 §4.4
	Redirect              uint8 = 137 // RFC 4861 §4.5
)

// Codes of errors, RFC 4443 §3.
const (
	CodeNoRoute      uint8 = 0 // of Unreachable
	CodeProhibited   uint8 = 1 // communication administratively prohibited
	CodeScope        uint8 = 2 // beyond scope of source address
	CodeAddress      uint8 = 3 // address unreachable
	CodePort         uint8 = 4 // port unreachable
	CodeSourcePolicy uint8 = 5 // source address failed ingress/egress policy
	CodeReject       uint8 = 6 // reject route to destination

	CodeHopLimit   uint8 = 0 // of TimeExceeded: hop limit exceeded in transit
	CodeReassembly uint8 = 1 // of TimeExceeded: fragments are missing

	CodeHeader     uint8 = 0 // of ParamProblem: erroneous header field
	CodeNextHeader uint8 = 1 // of ParamProblem: unrecognized Next Header type
	CodeOption     uint8 = 2 // of ParamProblem: unrecognized IPv6 option
	CodeChain      uint8 = 3 // of ParamProblem: first fragment has incomplete header chain (RFC 7112 §5)
)

// ICMP is a control message, RFC 4443.
type ICMP struct {
	Type, Code uint8
	Rest       uint32 // the four octets before Body: see ID, Seq and MTU
	Body       []byte // borrowed: an echo's data, or the packet that an error is about, from its fixed header on, cut off
}

// Decode reads the message b, what the packet from src to dst carries. The error is ErrShort or ErrChecksum, and then m
// holds nothing of use. Types and codes are not judged.
func (m *ICMP) Decode(b []byte, src, dst netip.Addr) error {
	if len(b) < ICMPLen {
		return ErrShort
	}
	// RFC 4443 §2.3: the checksum covers a pseudo-header too, unlike that of IPv4's ICMP
	if checksum.Sum(b, checksum.Pseudo(src, dst, ProtoICMP, len(b))) != 0xffff {
		return ErrChecksum
	}
	m.Type, m.Code = b[0], b[1]
	m.Rest = binary.BigEndian.Uint32(b[4:])
	m.Body = b[ICMPLen:]
	return nil
}

// Encode writes m to b, with the checksum for a packet from src to dst, and returns the length of the whole, or 0 and
// writes nothing if b is shorter than that. Body may already be where it belongs, b[ICMPLen:].
func (m *ICMP) Encode(b []byte, src, dst netip.Addr) int {
	n := ICMPLen + len(m.Body)
	if len(b) < n {
		return 0
	}
	copy(b[ICMPLen:], m.Body)
	b[0], b[1], b[2], b[3] = m.Type, m.Code, 0, 0
	binary.BigEndian.PutUint32(b[4:], m.Rest)
	binary.BigEndian.PutUint16(b[2:], ^checksum.Sum(b[:n], checksum.Pseudo(src, dst, ProtoICMP, n)))
	return n
}

// ID is the identifier of an echo.
func (m *ICMP) ID() uint16 { return uint16(m.Rest >> 16) }

// Seq is the sequence number of an echo.
func (m *ICMP) Seq() uint16 { return uint16(m.Rest) }

// MTU is what a packet may measure at most on the link that a PacketTooBig is about, in octets, and 0 for any other
// message. It may be below MinMTU, and then says nothing (RFC 8201 §4).
func (m *ICMP) MTU() int {
	if m.Type != PacketTooBig {
		return 0
	}
	return int(min(m.Rest, 1<<31-1)) // 32 bits on the wire, and an int may have no more
}

// IsError reports whether m tells of an error in a packet, which it quotes.
func (m *ICMP) IsError() bool {
	// RFC 4443 §2.1: "Thus, error messages have message types from 0 to 127"
	return m.Type < 128
}
