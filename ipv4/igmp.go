package ipv4

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"net/netip"

	"github.com/seed87e66d9f/waybill/internal/checksum"
)

// Lengths in octets.
const (
	IGMPLen        = 8  // RFC 2236 §2: a message of version 1 or 2, and what every message begins with
	igmpQueryLen   = 12 // RFC 9776 §4.1: a query of version 3, without sources
	GroupRecordLen = 8  // RFC 9776 §4.2: a record, without sources
)

// Types of messages, RFC 9776 §4.
const (
	IGMPQuery    uint8 = 0x11 // Membership Query, of any version
	IGMPReportV1 uint8 = 0x12 // Version 1 Membership Report (RFC 1112)
	IGMPReportV2 uint8 = 0x16 // Version 2 Membership Report (RFC 2236)
	IGMPLeave    uint8 = 0x17 // Version 2 Leave Group (RFC 2236)
	IGMPReportV3 uint8 = 0x22 // Version 3 Membership Report
)

// Types of records in a report of version 3, RFC 9776 §4.2.13; MLD's are the same.
const (
	ModeIsInclude   uint8 = 1 // state: only from these sources
	ModeIsExclude   uint8 = 2 // state: from all but these sources
	ChangeToInclude uint8 = 3 // the state has become INCLUDE; without sources, the group is left
	ChangeToExclude uint8 = 4 // the state has become EXCLUDE
	AllowNewSources uint8 = 5 // these are wanted besides
	BlockOldSources uint8 = 6 // these are no longer wanted
)

// What a message that Decode refuses has wrong, besides ErrShort and ErrChecksum.
var (
	ErrIGMPType   = errors.New("ipv4: not an IGMP message that is known")
	ErrIGMPLength = errors.New("ipv4: IGMP query of a length that no version has, or shorter than its sources")
	ErrIGMPGroup  = errors.New("ipv4: IGMP message about an address that is no group")
)

// IGMP is a message of the Internet Group Management Protocol, versions 1 to 3 (RFC 1112, RFC 2236, RFC 9776): how hosts tell
// the routers on their link which groups they want to hear.
type IGMP struct {
	Type        uint8
	Group       netip.Addr // 0.0.0.0 in a general query, and in a report of version 3
	Version     uint8      // of a query: 1, 2 or 3
	MaxResponse int        // of a query: tenths of a second that the answer may take; 0 in version 1, which knows of none
	Suppress    bool       // of a query, version 3: other routers are not to act on it
	Robustness  uint8      // of a query, version 3: how often things are said, as packets get lost; 0: not said
	Interval    int        // of a query, version 3: seconds between general queries; 0: not said
	Sources     []byte     // of a query, version 3: borrowed, 4 octets each
	Records     []byte     // of a report of version 3: borrowed, GroupRecord after GroupRecord
	NumRecords  int
}

// Decode reads the message b, the data of a packet. The error is ErrShort, ErrChecksum, ErrIGMPType, ErrIGMPLength or
// ErrIGMPGroup, and then m holds nothing of use. The records of a report are not judged.
func (m *IGMP) Decode(b []byte) error {
	if len(b) < IGMPLen {
		return ErrShort
	}
	// RFC 9776 §4.1.2: "When receiving packets, the checksum MUST be verified before processing a packet."
	if checksum.Sum(b, 0) != 0xffff {
		return ErrChecksum
	}
	*m = IGMP{Type: b[0], Group: netip.AddrFrom4([4]byte(b[4:]))}
	switch m.Type {
	case IGMPQuery:
		return m.decodeQuery(b)
	case IGMPReportV1, IGMPReportV2, IGMPLeave:
		if !m.Group.IsMulticast() {
			return ErrIGMPGroup
		}
		return nil
	case IGMPReportV3:
		m.Group = netip.IPv4Unspecified()
		m.NumRecords, m.Records = int(binary.BigEndian.Uint16(b[6:])), b[IGMPLen:]
		return nil
	}
	return ErrIGMPType
}

// decodeQuery tells the versions apart as RFC 9776 §7.1 does, by the length and the Max Resp Code.
func (m *IGMP) decodeQuery(b []byte) error {
	if !m.Group.IsMulticast() && !m.Group.IsUnspecified() {
		return ErrIGMPGroup
	}
	switch {
	case len(b) == IGMPLen && b[1] == 0:
		m.Version = 1
		return nil
	case len(b) == IGMPLen:
		m.Version, m.MaxResponse = 2, int(b[1])
		return nil
	case len(b) < igmpQueryLen:
		return ErrIGMPLength // §7.1: "Query Messages that do not match any of the above conditions […] MUST be silently ignored"
	}
	n := int(binary.BigEndian.Uint16(b[10:]))
	if len(b) < igmpQueryLen+4*n {
		return ErrIGMPLength
	}
	m.Version, m.MaxResponse = 3, codeValue(b[1])
	m.Suppress, m.Robustness, m.Interval = b[8]&8 != 0, b[8]&7, codeValue(b[9])
	m.Sources = b[igmpQueryLen : igmpQueryLen+4*n]
	return nil
}

// codeValue is what a Max Resp Code or a QQIC stands for: RFC 9776 §4.1.1, itself below 128, from there on a
// floating-point number of 3 bits of exponent and 4 of mantissa.
func codeValue(c uint8) int {
	if c < 128 {
		return int(c)
	}
	return int(c&15|16) << (c>>4&7 + 3)
}

// valueCode is the greatest code whose value is not above n.
func valueCode(n int) uint8 {
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
func (m *IGMP) Source(k int) netip.Addr { return netip.AddrFrom4([4]byte(m.Sources[4*k:])) }

// Encode writes m with its checksum to b and returns the length of the whole, or 0 and writes nothing if b is shorter than that
// or Group is not IPv4. Values that have no code are rounded down. Records may already be where they belong, b[IGMPLen:].
func (m *IGMP) Encode(b []byte) int {
	n, v3 := IGMPLen, m.Type == IGMPQuery && m.Version == 3
	switch {
	case m.Type == IGMPReportV3:
		n += len(m.Records)
	case v3:
		n = igmpQueryLen + len(m.Sources)
	}
	if len(b) < n || !m.Group.Is4() {
		return 0
	}
	if m.Type == IGMPReportV3 {
		copy(b[IGMPLen:], m.Records)
	}
	clear(b[:IGMPLen])
	b[0] = m.Type
	group := m.Group.As4()
	copy(b[4:], group[:])
	switch {
	case m.Type == IGMPReportV3:
		binary.BigEndian.PutUint32(b[4:], uint32(uint16(m.NumRecords)))
	case v3:
		b[1], b[8], b[9] = valueCode(m.MaxResponse), m.Robustness&7, valueCode(m.Interval)
		if m.Suppress {
			b[8] |= 8
		}
		binary.BigEndian.PutUint16(b[10:], uint16(len(m.Sources)/4))
		copy(b[igmpQueryLen:], m.Sources)
	case m.Type == IGMPQuery && m.Version == 2:
		b[1] = uint8(min(max(m.MaxResponse, 1), 255)) // RFC 2236 §2.2: tenths of a second; 0 would be version 1
	}
	binary.BigEndian.PutUint16(b[2:], ^checksum.Sum(b[:n], 0))
	return n
}

// GroupRecord is a part of a report of version 3: what its sender wants to hear, or no longer, of one group.
type GroupRecord struct {
	Type    uint8 // ModeIsInclude to BlockOldSources
	Group   netip.Addr
	Sources []netip.Addr
}

// Decode reads the record that b begins with and returns its length; the sources are written over what r.Sources has. The error
// is ErrShort, and then r holds nothing of use. A type that is not known is for the caller to pass over (RFC 9776 §4.2.13).
func (r *GroupRecord) Decode(b []byte) (n int, err error) {
	if len(b) < GroupRecordLen {
		return 0, ErrShort
	}
	sources := int(binary.BigEndian.Uint16(b[2:]))
	n = GroupRecordLen + 4*sources + 4*int(b[1]) // the auxiliary data, of which there is none (§4.2.11)
	if len(b) < n {
		return 0, ErrShort
	}
	r.Type, r.Group, r.Sources = b[0], netip.AddrFrom4([4]byte(b[4:])), r.Sources[:0]
	for k := range sources {
		r.Sources = append(r.Sources, netip.AddrFrom4([4]byte(b[GroupRecordLen+4*k:])))
	}
	return n, nil
}

// Append appends the record to b. Addresses that are not IPv4 are left out.
func (r *GroupRecord) Append(b []byte) []byte {
	if !r.Group.Is4() {
		return b
	}
	at := len(b)
	group := r.Group.As4()
	b = append(append(b, r.Type, 0, 0, 0), group[:]...)
	n := 0
	for _, s := range r.Sources {
		if s.Is4() {
			a := s.As4()
			b = append(b, a[:]...)
			n++
		}
	}
	binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	return b
}

// RouterAlert reports whether the options ask routers to look at what is inside (RFC 2113).
func (h *Header) RouterAlert() bool {
	for o := h.Options; len(o) > 0 && o[0] != OptionEnd; {
		n := optionLen(o)
		if n == 0 {
			break
		}
		if o[0] == OptionRouterAlert && n == 4 {
			return true
		}
		o = o[n:]
	}
	return false
}
