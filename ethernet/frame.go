// Package ethernet is the frame of Ethernet II and the address resolution of IPv4 over it.
//
// A frame is the van that takes a parcel to the next house only. Its header has three fields: which card on this wire it
// is for, which card it is from, and what kind of thing is inside (IPv4, IPv6, ARP). Cards have addresses of their own,
// 6 octets burnt in by their makers, which say nothing about where a card is; so before it can send to the IP
// address of a neighbour, a host must ask the wire whose that is. The question is ARP's (RFC 826). IPv6 asks with ICMPv6
// instead (RFC 4861, package ipv6).
//
// Decode and Encode work on memory of the caller's and allocate nothing.
package ethernet

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
)

// Lengths in octets.
const (
	HeaderLen = 14 // RFC 894: destination 6, source 6, type 2
	TagLen    = 4  // IEEE 802.1Q §9.4: type 0x8100 and the tag control information, 2 octets each
)

// minType is the first EtherType: a smaller number is the length of an IEEE 802.3 frame (RFC 894, "Frame Format").
const minType = 0x0600

// What a frame that Decode refuses has wrong.
var (
	ErrShort   = errors.New("ethernet: truncated")
	ErrLength  = errors.New("ethernet: 802.3 length where the type should be")
	ErrAddress = errors.New("ethernet: malformed address")
)

// EtherType says what a frame carries (IEEE 802 numbers of IANA).
type EtherType uint16

// The types that a host of today meets.
const (
	TypeIPv4 EtherType = 0x0800 // RFC 894
	TypeARP  EtherType = 0x0806 // RFC 826
	TypeVLAN EtherType = 0x8100 // IEEE 802.1Q: a tag follows, and after it the type of what is inside
	TypeIPv6 EtherType = 0x86dd // RFC 2464 §3
	TypeQinQ EtherType = 0x88a8 // IEEE 802.1ad service tag, which Decode does not look into
)

// Addr is the address of a network card.
type Addr [6]byte

// Broadcast is the address of every card on the wire. It is never assigned to.
var Broadcast = Addr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ParseAddr reads six pairs of hexadecimal digits with a colon between, or a hyphen. The error is ErrAddress.
func ParseAddr(s string) (Addr, error) {
	var a Addr
	if len(s) != 17 {
		return Addr{}, ErrAddress
	}
	for i := range a {
		var pair [2]byte
		copy(pair[:], s[3*i:])
		if _, err := hex.Decode(a[i:i+1], pair[:]); err != nil {
			return Addr{}, ErrAddress
		}
		if i > 0 && s[3*i-1] != s[2] || s[2] != ':' && s[2] != '-' {
			return Addr{}, ErrAddress
		}
	}
	return a, nil
}

// String is a in the usual notation, 02:00:5e:10:00:01.
func (a Addr) String() string {
	var s [17]byte
	for i := range a {
		hex.Encode(s[3*i:], a[i:i+1])
		if i < 5 {
			s[3*i+2] = ':'
		}
	}
	return string(s[:])
}

// IsMulticast reports whether a stands for a group of cards, which the broadcast address does too: the first bit on
// the wire, the lowest of the first octet, is 1.
func (a Addr) IsMulticast() bool { return a[0]&1 == 1 }

// IsBroadcast reports whether a is Broadcast.
func (a Addr) IsBroadcast() bool { return a == Addr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff} }

// IsZero reports whether a is 00:00:00:00:00:00, which no card has.
func (a Addr) IsZero() bool { return a == Addr{} }

// Multicast is the address to which packets for the multicast address ip are sent.
func Multicast(ip netip.Addr) Addr {
	b := ip.As16()
	if ip.Is4() {
		// RFC 1112 §6.4: "An IP host group address is mapped to an Ethernet multicast address by placing the low-order 23-bits
		// of the IP address into the low-order 23 bits of the Ethernet multicast address 01-00-5E-00-00-00 (hex)."
		return Addr{0x01, 0x00, 0x5e, b[13] & 0x7f, b[14], b[15]}
	}
	// RFC 2464 §7: the first two octets are 3333 (hex), the last four those of the IPv6 address.
	return Addr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}

// Header is the header of a frame. With Tagged an IEEE 802.1Q tag stands between the addresses and the type.
type Header struct {
	Dst, Src Addr
	Type     EtherType // of what is inside, behind the tag
	Tagged   bool
	VLAN     uint16 // the tag control information: priority 3 bits, drop eligible 1, VLAN identifier 12
}

// Len is the length of h on the wire in octets, 14 or 18.
func (h *Header) Len() int {
	if h.Tagged {
		return HeaderLen + TagLen
	}
	return HeaderLen
}

// Decode reads the header of the frame b and returns its length; what the frame carries is b[n:], with the padding of
// short frames. The error is ErrShort or ErrLength, and then h holds nothing of use. Of several tags the first is
// read and Type is that of the second.
func (h *Header) Decode(b []byte) (n int, err error) {
	if len(b) < HeaderLen {
		return 0, ErrShort
	}
	h.Dst, h.Src = Addr(b[0:6]), Addr(b[6:12])
	h.Type = EtherType(binary.BigEndian.Uint16(b[12:]))
	h.Tagged, h.VLAN = false, 0
	n = HeaderLen
	if h.Type == TypeVLAN {
		if len(b) < HeaderLen+TagLen {
			return 0, ErrShort
		}
		h.Tagged, h.VLAN = true, binary.BigEndian.Uint16(b[14:])
		h.Type = EtherType(binary.BigEndian.Uint16(b[16:]))
		n += TagLen
	}
	// not implemented: IEEE 802.3 framing, which RFC 1122 §2.3.3 leaves optional
	if h.Type < minType {
		return 0, ErrLength
	}
	return n, nil
}

// Encode writes h to b and returns its length, or 0 and writes nothing if b is shorter than that.
func (h *Header) Encode(b []byte) int {
	n := h.Len()
	if len(b) < n {
		return 0
	}
	copy(b[0:], h.Dst[:])
	copy(b[6:], h.Src[:])
	if h.Tagged {
		binary.BigEndian.PutUint16(b[12:], uint16(TypeVLAN))
		binary.BigEndian.PutUint16(b[14:], h.VLAN)
	}
	binary.BigEndian.PutUint16(b[n-2:], uint16(h.Type))
	return n
}
