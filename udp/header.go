// Package udp is the header of the User Datagram Protocol, RFC 768.
//
// UDP adds to a packet the least that a program needs: two port numbers, so that the datagram finds its program on the
// host, a length, and a checksum. A datagram arrives whole or not at all, perhaps twice, perhaps out of order, and nobody
// tells the sender. What more a program wants it does itself (DNS asks again, QUIC builds a whole transport on it).
//
// Decode and Encode work on memory of the caller's and allocate nothing.
package udp

import (
	"encoding/binary"
	"errors"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

// HeaderLen is the length of the header in octets: ports, length and checksum, 2 each (RFC 768, "Format").
const HeaderLen = 8

// MaxLen is the greatest Length, which the 16 bits of the field allow. (not implemented: jumbograms, RFC 2675)
const MaxLen = 1<<16 - 1

// What a datagram that Decode refuses has wrong.
var (
	ErrShort  = errors.New("udp: truncated")
	ErrLength = errors.New("udp: length field less than the header or more than the packet")
)

// Header is the header of a datagram.
type Header struct {
	Src, Dst uint16 // ports; a source of 0 is one that wants no answer
	Length   int    // of header and data in octets
	Checksum uint16 // as on the wire; over IPv4, 0 says that the sender made none
}

// Decode reads the header of the datagram b, whose data is b[HeaderLen:h.Length]; what an IP packet carries beyond it is
// no part of the datagram. The error is ErrShort or ErrLength, and then h holds nothing of use. The checksum is
// not looked at: see Verify.
func (h *Header) Decode(b []byte) error {
	if len(b) < HeaderLen {
		return ErrShort
	}
	h.Src, h.Dst = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	h.Length = int(binary.BigEndian.Uint16(b[4:]))
	h.Checksum = binary.BigEndian.Uint16(b[6:])
	// RFC 768, "Fields": "(This means the minimum value of the length is eight.)"
	if h.Length < HeaderLen || h.Length > len(b) {
		return ErrLength
	}
	return nil
}

// Encode writes h to b and returns HeaderLen, or 0 and writes nothing if b is shorter than that or Length does not
// fit its field. Checksum is written as it is.
func (h *Header) Encode(b []byte) int {
	if len(b) < HeaderLen || h.Length < HeaderLen || h.Length > MaxLen {
		return 0
	}
	binary.BigEndian.PutUint16(b, h.Src)
	binary.BigEndian.PutUint16(b[2:], h.Dst)
	binary.BigEndian.PutUint16(b[4:], uint16(h.Length))
	binary.BigEndian.PutUint16(b[6:], h.Checksum)
	return HeaderLen
}

// Verify reports whether the checksum of the datagram b, header and data and no octet more, is right, given the sum of
// its pseudo-header (internal/checksum, Pseudo). A Checksum of 0 is for the caller to judge first: IPv4 accepts such a
// datagram unchecked (RFC 1122 §4.1.3.4), IPv6 drops it (RFC 8200 §8.1).
func Verify(b []byte, pseudo uint16) bool {
	return checksum.Sum(b, pseudo) == 0xffff
}

// Checksum is what belongs into the header of a datagram whose pseudo-header, header (with a Checksum of 0) and data add
// up to sum.
func Checksum(sum uint16) uint16 {
	// RFC 768, "Fields": "If the computed checksum is zero, it is transmitted as all ones (the equivalent in one's
	// complement arithmetic)."
	if sum == 0xffff {
		return 0xffff
	}
	return ^sum
}
