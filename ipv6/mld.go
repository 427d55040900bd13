package ipv6

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"net/netip"
)

// Types of ICMPv6 messages that are Multicast Listener Discovery's, RFC 9777 §5.
const (
	ListenerQuery    uint8 = 130 // of either version
	ListenerReportV1 uint8 = 131 // RFC 2710 §3
	ListenerDone     uint8 = 132 // RFC 2710 §3
	ListenerReportV2 uint8 = 143 // RFC 9777 §5.2
)

// Types of records in a report of version 2, RFC 9777 §5.2.13; IGMP's are the same.
const (
	ModeIsInclude   uint8 = 1 // state: only from these sources
	ModeIsExclude   uint8 = 2 // state: from all but these sources
	ChangeToInclude uint8 = 3 // the state has become INCLUDE; without sources, the group is left
	ChangeToExclude uint8 = 4 // the state has become EXCLUDE
	AllowNewSources uint8 = 5 // these are wanted besides
	BlockOldSources uint8 = 6 // these are no longer wanted
)

// GroupRecordLen is the length of a record without sources, in octets (RFC 9777 §5.2).
const GroupRecordLen = 20

// Lengths in octets, of what follows the first eight of the message.
const (
	mldLen      = 16 // RFC 2710 §3: a message of version 1
	mldQueryLen = 20 // RFC 9777 §5.1: a query of version 2, without sources
)

// What a message that Decode refuses has wrong.
var (
	ErrMLDType   = errors.New("ipv6: not a Multicast Listener Discovery message")
	ErrMLDLength = errors.New("ipv6: Multicast Listener Discovery message of a length that no version has")
	ErrMLDGroup  = errors.New("ipv6: Multicast Listener Discovery message about an address that is no group")
)

// MLD is a message of Multicast Listener Discovery, versions 1 and 2 (RFC 2710, RFC 9777): what IGMP is to IPv4.
type MLD struct {
	Type        uint8
	Group       netip.Addr // :: in a general query, and in a report of version 2
	Version     uint8      // of a query: 1 or 2
	MaxResponse int        // of a query: milliseconds that the answer may take
	Suppress    bool       // of a query, version 2: other routers are not to act on it
	Robustness  uint8      // of a query, version 2: how often things are said, as packets get lost; 0: not said
	Interval    int        // of a query, version 2: seconds between general queries; 0: not said
	Sources     []byte     // of a query, version 2: borrowed, 16 octets each
	Records     []byte     // of a report of version 2: borrowed, GroupRecord after GroupRecord
	NumRecords  int
}

// Decode reads m from the message msg, whose checksum was verified. The error is ErrMLDType, ErrMLDLength or ErrMLDGroup, and
// then m holds nothing of use. The records of a report are not judged, nor is what RFC 9777 §6.2 asks of the packet.
func (m *MLD) Decode(msg *ICMP) error {
	*m = MLD{Type: msg.Type, Group: netip.IPv6Unspecified()}
	b := msg.Body
	switch m.Type {
	case ListenerReportV2:
		m.NumRecords, m.Records = int(uint16(msg.Rest)), b
		return nil
	case ListenerQuery, ListenerReportV1, ListenerDone:
		if len(b) < mldLen {
			return ErrMLDLength
		}
		m.Group = netip.AddrFrom16([16]byte(b))
		if !m.Group.IsMulticast() && (m.Type != ListenerQuery || !m.Group.IsUnspecified()) {
			return ErrMLDGroup
		}
	default:
		return ErrMLDType
	}
	if m.Type != ListenerQuery {
		return nil
	}
	// RFC 9777 §8.1 tells the versions apart by the length; "Query messages that do not match any of the above conditions
	// (e.g., a Query of length 26 octets) MUST be silently ignored".
	code := uint16(msg.Rest >> 16)
	if len(b) == mldLen {
		m.Version, m.MaxResponse = 1, int(code)
		return nil
	}
	if len(b) < mldQueryLen {
		return ErrMLDLength
	}
	n := int(binary.BigEndian.Uint16(b[18:]))
	if len(b) < mldQueryLen+16*n {
		return ErrMLDLength
	}
	m.Version, m.MaxResponse = 2, responseValue(code)
	m.Suppress, m.Robustness, m.Interval = b[16]&8 != 0, b[16]&7, intervalValue(b[17])
	m.Sources = b[mldQueryLen : mldQueryLen+16*n]
	return nil
}

// responseValue is what a Maximum Response Code stands for: RFC 9777 §5.1.3, itself below 32768, from there on a
// floating-point number of 3 bits of exponent and 12 of mantissa.
func responseValue(c uint16) int {
	if c < 1<<15 {
		return int(c)
	}
	return int(c&0xfff|0x1000) << (c>>12&7 + 3)
}

// responseCode is the greatest code whose value is not above n.
func responseCode(n int) uint16 {
	exponent := bits.Len(uint(max(n, 0))) - 16
	switch {
	case exponent < 0:
		return uint16(max(n, 0))
	case exponent > 7:
		return 0xffff
	}
	return uint16(0x8000 | exponent<<12 | n>>(exponent+3)&0xfff)
}

// intervalValue is what a QQIC stands for: RFC 9777 §5.1.9, as with IGMP.
func intervalValue(c uint8) int {
	if c < 128 {
		return int(c)
	}
	return int(c&15|16) << (c>>4&7 + 3)
}

// intervalCode is the greatest code whose value is not above n.
func intervalCode(n int) uint8 {
	exponent := bits.Len(uint(max(n, 0))) - 8
	switch {
	case exponent < 0:
		return uint8(max(n, 0))
	case exponent > 7:
		return 0xff
	}
	return uint8(0x80 | exponent<<4 | n>>(exponent+3)&15)
}

// Source is the k-th source of a query.
func (m *MLD) Source(k int) netip.Addr { return netip.AddrFrom16([16]byte(m.Sources[16*k:])) }

// Len is how many octets Encode needs.
func (m *MLD) Len() int {
	switch {
	case m.Type == ListenerReportV2:
		return len(m.Records)
	case m.Type == ListenerQuery && m.Version == 2:
		return mldQueryLen + len(m.Sources)
	}
	return mldLen
}

// Encode makes a message of m, whose body is written to b; it has no type if b is shorter than Len or Group is not IPv6. Values
// that have no code are rounded down. Records may already be where they belong, at the start of b.
func (m *MLD) Encode(b []byte) ICMP {
	n := m.Len()
	if len(b) < n || !m.Group.Is6() {
		return ICMP{}
	}
	msg := ICMP{Type: m.Type, Body: b[:n]}
	if m.Type == ListenerReportV2 {
		copy(b, m.Records)
		msg.Rest = uint32(uint16(m.NumRecords))
		return msg
	}
	group := m.Group.As16()
	copy(b, group[:])
	if m.Type != ListenerQuery {
		return msg
	}
	if m.Version != 2 {
		msg.Rest = uint32(min(max(m.MaxResponse, 0), 1<<16-1)) << 16
		return msg
	}
	msg.Rest = uint32(responseCode(m.MaxResponse)) << 16
	b[16], b[17] = m.Robustness&7, intervalCode(m.Interval)
	if m.Suppress {
		b[16] |= 8
	}
	binary.BigEndian.PutUint16(b[18:], uint16(len(m.Sources)/16))
	copy(b[mldQueryLen:], m.Sources)
	return msg
}

// GroupRecord is a part of a report of version 2: what its sender wants to hear, or no longer, of one group.
type GroupRecord struct {
	Type    uint8 // ModeIsInclude to BlockOldSources
	Group   netip.Addr
	Sources []netip.Addr
}

// Decode reads the record that b begins with and returns its length; the sources are written over what r.Sources has. The error
// is ErrShort, and then r holds nothing of use. A type that is not known is for the caller to pass over (RFC 9777 §5.2.13).
func (r *GroupRecord) Decode(b []byte) (n int, err error) {
	if len(b) < GroupRecordLen {
		return 0, ErrShort
	}
	sources := int(binary.BigEndian.Uint16(b[2:]))
	n = GroupRecordLen + 16*sources + 4*int(b[1]) // the auxiliary data, of which there is none (§5.2.11)
	if len(b) < n {
		return 0, ErrShort
	}
	r.Type, r.Group, r.Sources = b[0], netip.AddrFrom16([16]byte(b[4:])), r.Sources[:0]
	for k := range sources {
		r.Sources = append(r.Sources, netip.AddrFrom16([16]byte(b[GroupRecordLen+16*k:])))
	}
	return n, nil
}

// Append appends the record to b. Addresses that are not IPv6 are left out.
func (r *GroupRecord) Append(b []byte) []byte {
	if !r.Group.Is6() {
		return b
	}
	at := len(b)
	group := r.Group.As16()
	b = append(append(b, r.Type, 0, 0, 0), group[:]...)
	n := 0
	for _, s := range r.Sources {
		if s.Is6() {
			a := s.As16()
			b = append(b, a[:]...)
			n++
		}
	}
	binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	return b
}

// RouterAlert reports whether p, a packet's payload that begins with a header of type next, has the hop-by-hop option that asks
// routers to look at what is inside (RFC 2711). Walk has found p well-formed.
func RouterAlert(next uint8, p []byte) bool {
	h := extension(p)
	if next != ProtoHopByHop || h == nil {
		return false
	}
	for i := 2; i+1 < len(h); {
		switch h[i] {
		case OptionPad1:
			i++
			continue
		case OptionRouterAlert:
			return h[i+1] == 2
		}
		i += 2 + int(h[i+1])
	}
	return false
}

// RouterAlertMLD is the Hop-by-Hop Options header that every message of Multicast Listener Discovery stands behind (RFC 9777 §5),
// the Router Alert of RFC 2711 §2.1 with its value 0, "Datagram contains a Multicast Listener Discovery message", and padding.
func RouterAlertMLD() [8]byte {
	return [8]byte{ProtoICMP, 0, OptionRouterAlert, 2, 0, 0, OptionPadN, 0}
}
