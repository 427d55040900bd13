package ipv4

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

// ICMPLen is the length in octets of what every ICMP message begins with: type, code, checksum, and 4 octets whose
// meaning depends on the type (RFC 792).
const ICMPLen = 8

// Types of messages, RFC 792.
const (
	EchoReply    uint8 = 0
	Unreachable  uint8 = 3  // Destination Unreachable
	SourceQuench uint8 = 4  // deprecated: RFC 6633
	Redirect     uint8 = 5  // there is a nearer gateway
	Echo         uint8 = 8  // Echo Request
	TimeExceeded uint8 = 11 // in transit, or while waiting for fragments
	ParamProblem uint8 = 12 // Parameter Problem
)

// Codes of Unreachable: RFC 792, and from 6 on RFC 1122 §3.2.2.1 and RFC 1812 §5.2.7.1.
const (
	CodeNet              uint8 = 0
	CodeHost             uint8 = 1
	CodeProtocol         uint8 = 2
	CodePort             uint8 = 3
	CodeFragNeeded       uint8 = 4 // fragmentation needed and DF set
	CodeSourceRoute      uint8 = 5 // source route failed
	CodeNetUnknown       uint8 = 6
	CodeHostUnknown      uint8 = 7
	CodeHostIsolated     uint8 = 8
	CodeNetProhibited    uint8 = 9
	CodeHostProhibited   uint8 = 10
	CodeNetTOS           uint8 = 11
	CodeHostTOS          uint8 = 12
	CodeProhibited       uint8 = 13 // communication administratively prohibited
	CodePrecedence       uint8 = 14 // host precedence violation
	CodePrecedenceCutoff uint8 = 15
	CodeTTL              uint8 = 0 // of TimeExceeded: in transit
	CodeReassembly       uint8 = 1 // of TimeExceeded: fragments are missing
	CodePointer          uint8 = 0 // of ParamProblem: the pointer is the first octet of ID
	CodeRedirectNet      uint8 = 0 // of Redirect
	CodeRedirectHost     uint8 = 1 // of Redirect
)

// ICMP is a control message, RFC 792.
type ICMP struct {
	Type, Code uint8
	ID, Seq    uint16 // identifier and sequence number of an echo; else the halves of the four octets before Body
	Body       []byte // borrowed: an echo's data, or the packet that an error is about, from its header on, cut off
}

// Decode reads the message b, the data of a packet. The error is ErrShort or ErrChecksum, and then m holds nothing
// of use. Types and codes are not judged.
func (m *ICMP) Decode(b []byte) error {
	if len(b) < ICMPLen {
		return ErrShort
	}
	if checksum.Sum(b, 0) != 0xffff {
		return ErrChecksum
	}
	m.Type, m.Code = b[0], b[1]
	m.ID, m.Seq = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	m.Body = b[ICMPLen:]
	return nil
}

// Encode writes m with its checksum to b and returns the length of the whole, or 0 and writes nothing if b is shorter
// than that. Body may already be where it belongs, b[ICMPLen:].
func (m *ICMP) Encode(b []byte) int {
	n := ICMPLen + len(m.Body)
	if len(b) < n {
		return 0
	}
	copy(b[ICMPLen:], m.Body)
	b[0], b[1], b[2], b[3] = m.Type, m.Code, 0, 0
	binary.BigEndian.PutUint16(b[4:], m.ID)
	binary.BigEndian.PutUint16(b[6:], m.Seq)
	binary.BigEndian.PutUint16(b[2:], ^checksum.Sum(b[:n], 0))
	return n
}

// MTU is what a packet may measure at most on the link that an Unreachable with CodeFragNeeded is about, in octets. It is
// 0 if the router is older than RFC 1191 and does not say, and for any other message.
func (m *ICMP) MTU() int {
	if m.Type != Unreachable || m.Code != CodeFragNeeded {
		return 0
	}
	return int(m.Seq) // RFC 1191 §4: the low-order 16 bits of the field that RFC 792 calls unused
}

// Gateway is the address that a Redirect says to send to instead, and no address for any other message.
func (m *ICMP) Gateway() netip.Addr {
	if m.Type != Redirect {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte{uint8(m.ID >> 8), uint8(m.ID), uint8(m.Seq >> 8), uint8(m.Seq)})
}

// IsError reports whether m tells of an error in a packet, which it quotes, rather than asks or answers something.
func (m *ICMP) IsError() bool {
	// RFC 1122 §3.2.2 sorts the messages into errors and queries; types that it does not know count as queries
	switch m.Type {
	case Unreachable, Redirect, SourceQuench, TimeExceeded, ParamProblem:
		return true
	}
	return false
}
