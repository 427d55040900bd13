// Package checksum is the Internet checksum (RFC 1071) of IPv4, ICMP, UDP and TCP.
//
// A message is read as a row of big-endian 16-bit words, which are added in ones' complement: what overflows on the left
// comes in again on the right. The sender stores the complement of that sum, so that the receiver, who adds the stored
// word as well, gets 0xffff for a message that arrived whole.
//
// Everything here works on plain sums. They are complemented once, where they are stored, and a partial sum (of the
// pseudo-header, for example) can be handed on: to the next slice, or to a device that completes it.
//
// A sum is 0 only if every word of it was 0; any other sum that is zero in ones' complement is 0xffff. So equal
// bytes give equal sums, however they were cut.
package checksum

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Sum adds the 16-bit words of b, as they stand on the wire, to sum, and returns the sum, not complemented. An odd octet
// at the end counts as the high half of a word whose low half is 0.
func Sum(b []byte, sum uint16) uint16 {
	// RFC 1071 §2 (B): the sum of words whose octets are swapped is the sum with its octets swapped, so words are loaded as
	// the usual machine has them. §2 (C): words of 64 bits are as good as words of 16, if the carry of each goes into the
	// next. Two chains of carries keep two adders busy.
	acc, carry := uint64(bits.ReverseBytes16(sum)), uint64(0)
	if len(b) >= 64 {
		var acc2, carry2 uint64
		for len(b) >= 64 {
			acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), carry)
			acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[8:]), carry)
			acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[16:]), carry)
			acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b[24:]), carry)
			acc2, carry2 = bits.Add64(acc2, binary.LittleEndian.Uint64(b[32:]), carry2)
			acc2, carry2 = bits.Add64(acc2, binary.LittleEndian.Uint64(b[40:]), carry2)
			acc2, carry2 = bits.Add64(acc2, binary.LittleEndian.Uint64(b[48:]), carry2)
			acc2, carry2 = bits.Add64(acc2, binary.LittleEndian.Uint64(b[56:]), carry2)
			b = b[64:]
		}
		acc, carry = bits.Add64(acc, acc2, carry)
		acc, carry = bits.Add64(acc, carry2, carry)
	}
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	tail := uint64(0) // at most 3 words and an octet
	for len(b) >= 2 {
		tail += uint64(binary.LittleEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(b[0])
	}
	acc, carry = bits.Add64(acc, tail, carry)
	return bits.ReverseBytes16(fold(acc, carry))
}

// fold brings a sum of 64 bits and its last carry down to 16, each overflow coming in again on the right.
func fold(acc, carry uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff + carry
	acc = acc>>16 + acc&0xffff // three rounds, as each leaves a smaller overflow: 33 bits, 18, 17, 16
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// Vec is Sum over the slices of bs as if they were one run of octets: a slice of odd length shares a word with the slice
// after it.
func Vec(bs [][]byte, sum uint16) uint16 {
	odd := false
	for _, b := range bs {
		s := Sum(b, 0)
		if odd {
			// RFC 1071 §2 (B): "The sum of 16-bit integers can be computed in either byte order." Here each octet stands
			// in the other half of its word, so the sum comes out with its octets swapped.
			s = bits.ReverseBytes16(s)
		}
		sum = Combine(sum, s)
		odd = odd != (len(b)%2 == 1)
	}
	return sum
}

// Combine adds two sums in ones' complement.
func Combine(a, b uint16) uint16 {
	s := uint32(a) + uint32(b)
	return uint16(s>>16 + s&0xffff)
}

// Pseudo is the sum of the pseudo-header that TCP, UDP and ICMPv6 cover besides their own octets: that of RFC 9293 §3.1
// for IPv4 addresses, that of RFC 8200 §8.1 for IPv6. length counts the transport header and its data. An IPv4-mapped
// IPv6 address counts as IPv6, since that is what stands in the header.
func Pseudo(src, dst netip.Addr, proto uint8, length int) uint16 {
	sum := Combine(address(src), address(dst))
	sum = Combine(sum, uint16(proto))
	sum = Combine(sum, uint16(length))
	return Combine(sum, uint16(length>>16)) // the length is 32 bits wide in IPv6; the upper half is 0 in IPv4
}

// address sums the octets of a, 4 or 16.
func address(a netip.Addr) uint16 {
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])
	if a.Is4() {
		hi, lo = 0, lo&0xffffffff
	}
	return fold(bits.Add64(hi, lo, 0))
}

// Update is the checksum check, as stored in a header, after one 16-bit word that it covers changes from old to new.
func Update(check, old, new uint16) uint16 {
	// RFC 1624 §3: "HC' = ~(~HC + ~m + m')"
	return ^Combine(Combine(^check, ^old), new)
}
