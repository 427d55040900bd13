package ipv4

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

// Lengths in octets.
const (
	MinHeaderLen = 20        // RFC 791 §3.1: an IHL of 5 words, no options
	MaxHeaderLen = 60        // RFC 791 §3.1: an IHL of 15 words
	MaxLen       = 1<<16 - 1 // RFC 791 §3.1: what the 16 bits of Total Length allow
	MinMTU       = 68        // RFC 791 §3.2: what every link carries, the longest header and one fragment of 8
)

// What a header can say that the packet carries (IANA, Assigned Internet Protocol Numbers).
const (
	ProtoICMP uint8 = 1  // RFC 792
	ProtoIGMP uint8 = 2  // RFC 1112
	ProtoTCP  uint8 = 6  // RFC 9293
	ProtoUDP  uint8 = 17 // RFC 768
)

// The options of RFC 791 §3.1 that mean something here, by the octet they begin with.
const (
	OptionEnd               uint8 = 0   // the list ends before the header does
	OptionNop               uint8 = 1   // one octet between options
	OptionRecordRoute       uint8 = 7   // ignored
	OptionTimestamp         uint8 = 68  // ignored
	OptionLooseSourceRoute  uint8 = 131 // see SourceRoute
	OptionStrictSourceRoute uint8 = 137 // see SourceRoute
	OptionRouterAlert       uint8 = 148 // RFC 2113: a router should look at what is inside
)

// Fields of the header, RFC 791 §3.1.
const (
	version        = 4
	fragmentDF     = 0x4000
	fragmentMF     = 0x2000
	fragmentOffset = 0x1fff // in units of 8 octets
)

// What a packet that Decode refuses has wrong.
var (
	ErrShort        = errors.New("ipv4: truncated")
	ErrVersion      = errors.New("ipv4: version is not 4")
	ErrHeaderLength = errors.New("ipv4: header length less than 20 octets or more than the packet")
	ErrLength       = errors.New("ipv4: total length less than the header or more than the packet")
	ErrChecksum     = errors.New("ipv4: wrong header checksum")
	ErrOptions      = errors.New("ipv4: option with a length below 2 or beyond the header")
)

// Header is the header of a packet, RFC 791 §3.1.
type Header struct {
	TOS           uint8      // differentiated services 6 bits (RFC 2474 §3), ECN 2 bits (RFC 3168 §5)
	Length        int        // of header and data in octets (Total Length)
	ID            uint16     // the same in all fragments of a packet
	DF, MF        bool       // Don't Fragment, More Fragments
	Offset        int        // where in the data of the whole packet this fragment's begins, octets, a multiple of 8
	TTL, Protocol uint8      // how many routers more; what the data is
	Src, Dst      netip.Addr // IPv4, never IPv4-mapped
	Options       []byte     // borrowed from the packet; nil if none
}

// Len is the length of h on the wire in octets, with the options padded to a multiple of 4.
func (h *Header) Len() int { return MinHeaderLen + (len(h.Options)+3)&^3 }

// IsFragment reports whether the packet is one part of several.
func (h *Header) IsFragment() bool { return h.MF || h.Offset != 0 }

// SourceRoute reports whether the options have the packet travel by addresses that its sender chose.
func (h *Header) SourceRoute() bool {
	// RFC 7126 §4.3.5: routers, security gateways and firewalls drop these by default; a host does well to do the same
	for o := h.Options; len(o) > 0 && o[0] != OptionEnd; {
		if o[0] == OptionLooseSourceRoute || o[0] == OptionStrictSourceRoute {
			return true
		}
		n := optionLen(o)
		if n == 0 {
			break
		}
		o = o[n:]
	}
	return false
}

// optionLen is the length of the option that o begins with in octets, or 0 if it is malformed. o is not empty.
func optionLen(o []byte) int {
	if o[0] == OptionEnd || o[0] == OptionNop {
		return 1
	}
	if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
		return 0
	}
	return int(o[1])
}

// checkOptions proves that each option ends within the header.
func checkOptions(o []byte) error {
	for len(o) > 0 && o[0] != OptionEnd {
		n := optionLen(o)
		if n == 0 {
			return ErrOptions
		}
		o = o[n:] // RFC 1122 §3.2.1.8: options that are not understood are passed over
	}
	return nil
}

// Decode reads the header of the packet b and returns its length; the data is b[n:h.Length], and what follows it is
// padding of the frame. The error says which check of RFC 1122 §3.2.1.1 failed, ErrShort, ErrVersion, ErrHeaderLength,
// ErrLength, ErrChecksum or ErrOptions, and then h holds nothing of use.
func (h *Header) Decode(b []byte) (n int, err error) {
	n, err = h.read(b)
	if err != nil {
		return 0, err
	}
	if h.Length > len(b) {
		return 0, ErrLength
	}
	// RFC 1122 §3.2.1.2: "A host MUST verify the IP header checksum on every received datagram and silently discard
	// every datagram that has a bad checksum."
	if checksum.Sum(b[:n], 0) != 0xffff {
		return 0, ErrChecksum
	}
	if err := checkOptions(h.Options); err != nil {
		return 0, err
	}
	return n, nil
}

// DecodeQuoted reads the header of a packet that an ICMP message quotes and returns its length. Such a packet is cut
// off somewhere, and routers on its way changed it, so h.Length may be more than len(b) and neither checksum nor
// options are looked at. The errors are ErrShort, ErrVersion, ErrHeaderLength and ErrLength.
func (h *Header) DecodeQuoted(b []byte) (n int, err error) { return h.read(b) }

// read takes the fields from b and returns the length of the header, which is proved to be in b.
func (h *Header) read(b []byte) (n int, err error) {
	if len(b) < MinHeaderLen {
		return 0, ErrShort
	}
	if b[0]>>4 != version {
		return 0, ErrVersion
	}
	n = int(b[0]&0x0f) * 4
	if n < MinHeaderLen || n > len(b) {
		return 0, ErrHeaderLength
	}
	h.Length = int(binary.BigEndian.Uint16(b[2:]))
	if h.Length < n {
		return 0, ErrLength
	}
	h.TOS = b[1]
	h.ID = binary.BigEndian.Uint16(b[4:])
	f := binary.BigEndian.Uint16(b[6:]) // the first bit is reserved; RFC 791 has nobody look at it
	h.DF, h.MF = f&fragmentDF != 0, f&fragmentMF != 0
	h.Offset = int(f&fragmentOffset) * 8
	h.TTL, h.Protocol = b[8], b[9]
	h.Src, h.Dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	h.Options = nil
	if n > MinHeaderLen {
		h.Options = b[MinHeaderLen:n:n]
	}
	return n, nil
}

// Encode writes h with its checksum to b and returns its length. It returns 0 and writes nothing if h cannot be a header:
// b is too short, Src or Dst is not IPv4, Options are longer than 40 octets, or Length or Offset does not fit its
// field. Options are written as they are and padded with the end-of-list option.
func (h *Header) Encode(b []byte) int {
	n := h.Len()
	if n > len(b) || n > MaxHeaderLen || h.Length < n || h.Length > MaxLen || !h.Src.Is4() || !h.Dst.Is4() {
		return 0
	}
	if h.Offset < 0 || h.Offset%8 != 0 || h.Offset/8 > fragmentOffset {
		return 0
	}
	copy(b[MinHeaderLen:n], h.Options)
	clear(b[MinHeaderLen+len(h.Options) : n])
	b[0] = version<<4 | uint8(n/4)
	b[1] = h.TOS
	binary.BigEndian.PutUint16(b[2:], uint16(h.Length))
	binary.BigEndian.PutUint16(b[4:], h.ID)
	f := uint16(h.Offset / 8)
	if h.DF {
		f |= fragmentDF
	}
	if h.MF {
		f |= fragmentMF
	}
	binary.BigEndian.PutUint16(b[6:], f)
	b[8], b[9] = h.TTL, h.Protocol
	src, dst := h.Src.As4(), h.Dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], 0)
	binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b[:n], 0))
	return n
}
