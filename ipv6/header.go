package ipv6

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Lengths in octets.
const (
	HeaderLen  = 40        // RFC 8200 §3
	MaxPayload = 1<<16 - 1 // RFC 8200 §3: 16 bits. (not implemented: jumbograms, RFC 2675)
	MinMTU     = 1280      // RFC 8200 §5: what every link carries
)

// What a NextHeader field can say that follows (IANA, Assigned Internet Protocol Numbers).
const (
	ProtoHopByHop uint8 = 0  // RFC 8200 §4.3
	ProtoTCP      uint8 = 6  // RFC 9293
	ProtoUDP      uint8 = 17 // RFC 768
	ProtoRouting  uint8 = 43 // RFC 8200 §4.4
	ProtoFragment uint8 = 44 // RFC 8200 §4.5
	ProtoICMP     uint8 = 58 // RFC 4443
	ProtoNoNext   uint8 = 59 // RFC 8200 §4.7: nothing follows
	ProtoDestOpts uint8 = 60 // RFC 8200 §4.6
)

// What a packet or message that Decode or Walk refuses has wrong.
var (
	ErrShort      = errors.New("ipv6: truncated")
	ErrVersion    = errors.New("ipv6: version is not 6")
	ErrLength     = errors.New("ipv6: payload length more than the packet")
	ErrChecksum   = errors.New("ipv6: wrong ICMPv6 checksum")
	ErrHopByHop   = errors.New("ipv6: hop-by-hop options that do not come first")
	ErrOption     = errors.New("ipv6: unrecognized option that asks to be refused")
	ErrRouting    = errors.New("ipv6: routing header of an unrecognized type with segments left")
	ErrFragment   = errors.New("ipv6: fragment of an impossible length")
	ErrChain      = errors.New("ipv6: first fragment without the whole header chain")
	ErrNextHeader = errors.New("ipv6: unrecognized next header")
	ErrLimit      = errors.New("ipv6: more extension headers or options than are read")
)

// Header is the fixed header of a packet, RFC 8200 §3.
type Header struct {
	TrafficClass  uint8      // differentiated services 6 bits (RFC 2474 §3), ECN 2 bits (RFC 3168 §5)
	FlowLabel     uint32     // 20 bits, the same for all packets of a flow (RFC 6437)
	PayloadLength int        // of all that follows the fixed header, in octets
	NextHeader    uint8      // what follows
	HopLimit      uint8      // how many routers more
	Src, Dst      netip.Addr // IPv6 without a zone
}

// Decode reads the fixed header of the packet b. The payload is b[HeaderLen:HeaderLen+h.PayloadLength], and what
// follows it is padding of the frame. The error is ErrShort, ErrVersion or ErrLength, and then h holds nothing of
// use.
func (h *Header) Decode(b []byte) error {
	if err := h.DecodeQuoted(b); err != nil {
		return err
	}
	if h.PayloadLength > len(b)-HeaderLen {
		return ErrLength
	}
	return nil
}

// DecodeQuoted reads the fixed header of a packet that an ICMP message quotes, which is cut off somewhere: h.PayloadLength
// may be more than b has. The error is ErrShort or ErrVersion.
func (h *Header) DecodeQuoted(b []byte) error {
	if len(b) < HeaderLen {
		return ErrShort
	}
	w := binary.BigEndian.Uint32(b)
	if w>>28 != 6 {
		return ErrVersion
	}
	h.TrafficClass, h.FlowLabel = uint8(w>>20), w&0xfffff
	h.PayloadLength = int(binary.BigEndian.Uint16(b[4:]))
	h.NextHeader, h.HopLimit = b[6], b[7]
	h.Src, h.Dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	return nil
}

// Encode writes h to b and returns HeaderLen. It returns 0 and writes nothing if h cannot be a header: b is too short, Src
// or Dst is not IPv6, or PayloadLength or FlowLabel does not fit its field. The zone of an address is not written.
func (h *Header) Encode(b []byte) int {
	if len(b) < HeaderLen || !h.Src.Is6() || !h.Dst.Is6() || h.FlowLabel > 0xfffff {
		return 0
	}
	if h.PayloadLength < 0 || h.PayloadLength > MaxPayload {
		return 0
	}
	binary.BigEndian.PutUint32(b, 6<<28|uint32(h.TrafficClass)<<20|h.FlowLabel)
	binary.BigEndian.PutUint16(b[4:], uint16(h.PayloadLength))
	b[6], b[7] = h.NextHeader, h.HopLimit
	src, dst := h.Src.As16(), h.Dst.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	return HeaderLen
}

// SolicitedNode is the multicast address on which the owner of a listens for Neighbor Solicitations.
func SolicitedNode(a netip.Addr) netip.Addr {
	// RFC 4291 §2.7.1: "A Solicited-Node multicast address is formed by taking the low-order 24 bits of an address
	// (unicast or anycast) and appending those bits to the prefix FF02:0:0:0:0:1:FF00::/104"
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// LinkLocal is the link-local address whose interface identifier is made from the address of an Ethernet card.
func LinkLocal(mac [6]byte) netip.Addr {
	// RFC 4291 Appendix A: FFFE goes between the maker's half and the card's, and the universal/local bit is inverted
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe,
		13: mac[3], 14: mac[4], 15: mac[5]})
}
