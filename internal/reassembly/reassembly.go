// Package reassembly puts the fragments of IP packets together again: RFC 791 §3.2 for IPv4, RFC 8200 §4.5 for IPv6.
//
// A packet that is too long for a link travels in pieces, which arrive in any order, or twice, or not at all. All pieces of
// a packet carry its identification, each its place, and the last says that it is the last. What is missing after a
// while never comes, and the rest is thrown away.
//
// Strangers can send fragments of packets that they never finish, so a Table is bounded in octets, overhead included, both
// in all and for each source. Where there is no room, the packet goes that has waited longest for its next fragment: an
// honest packet's fragments follow each other closely, and those of an attack do not come. Fragments that overlap are
// never mixed, since receivers that mixed them differently were what evaders lived on (RFC 5722, RFC 8900 §3.7): a packet of
// which two disagree is abandoned, and so are those of its fragments that come later.
//
// A Table has no clock, lock or goroutine. Its caller says what time it is and what arrived, and gets packets:
//
//	r := t.IPv4(now, &h, packet, way, buf)        // for each fragment; t.IPv6 likewise
//	at, ok := t.Deadline()                        // when to do the following, after each of the above
//	e, ok := t.Expire(now)                        // this packet never became whole; again until !ok
//
// Packets are found by a map of Go's, whose hash has a random key, so nobody outside can choose identifications that meet.
package reassembly

import (
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// How long after its first fragment a packet waits for the others.
const (
	// Timeout4 is Linux's net.ipv4.ipfrag_time. RFC 791 §3.2 begins at 15 s; RFC 1122 §3.3.2 would have 60 to 120 s, which is
	// from a time of slower links: within 30 s a sender of some Mbit/s has used all 65,536 identifications.
	Timeout4 = 30 * time.Second
	// Timeout6: RFC 8200 §4.5, "If insufficient fragments are received to complete reassembly of a packet within 60 seconds of
	// the reception of the first-arriving fragment of that packet, reassembly of that packet must be abandoned".
	Timeout6 = 60 * time.Second
)

// Bounds. MaxFragments and DefaultOctets are those that Linux and FreeBSD came to after CVE-2018-5391, or near them.
const (
	// MaxFragments is how many fragments a packet may come in: the longest in the packets of a link of 576 octets takes 119.
	MaxFragments = 128
	// DefaultOctets is Config.Octets where that is 0: Linux's net.ipv4.ipfrag_high_thresh.
	DefaultOctets = 4 << 20
	// maxPacket is the longest IPv4 packet, and the longest payload of one of IPv6.
	maxPacket = ipv4.MaxLen
	// packetOverhead and fragmentOverhead are what a packet and each of its fragments cost besides their octets: what
	// TestA35Overhead measures, rounded up.
	packetOverhead   = 512
	fragmentOverhead = 96
	// longest is what a packet of the greatest length costs in the greatest number of fragments.
	longest = packetOverhead + MaxFragments*fragmentOverhead + maxPacket + ipv6.HeaderLen
)

// Config bounds a Table.
type Config struct {
	Octets    int // held in all, with overhead; 0: DefaultOctets
	PerSource int // held of one IPv4 source address, or one IPv6 /64; 0: a quarter, but room for a packet of the greatest length
}

// Verdict says what became of a fragment.
type Verdict uint8

// The verdicts.
const (
	Waiting   Verdict = iota // for the rest of its packet
	Whole                    // it was the last that was missing
	Duplicate                // it was there already, octet for octet
	Malformed                // its length or its place is impossible (RFC 791 §3.1); an IPv4 packet of which one is so is abandoned
	Overlap                  // it covers octets that another has brought, or disagrees about where the packet ends
	Abandoned                // its packet was given up before
	Congested                // some fragments came by routers that know ECN, others not, and one met congestion (RFC 3168 §5.3)
	Full                     // no room, or too many fragments
)

// Result is what became of a fragment, and what it did to others.
type Result struct {
	Verdict Verdict
	Packet  []byte // Whole: the packet from its IP header on, in the caller's buffer or a longer one
	Lost    int    // fragments held before that are gone with it, without those of the packet that became whole
}

// Expired is a packet that did not become whole in time.
type Expired struct {
	First     []byte // the packet that its first fragment came in, from the IP header on; nil: that never came, or see Overlap
	Iface     uint32 // where the fragment came in that came first
	Fragments int    // how many had come
}

// Way is how a fragment came.
type Way struct {
	Iface  uint32 // the interface's number
	Scoped bool   // its addresses mean something on one link only, so fragments from another belong to another packet
}

// link is what a key says of the way.
func (w Way) link() uint32 {
	if w.Scoped {
		return w.Iface
	}
	return 0
}

// Table holds the packets of which some fragments have come. New makes it.
type Table struct {
	octets    int
	limit     int
	perSource int
	packets   map[key]*datagram
	sources   map[[16]byte]*source
	used      queue // least recently first
	age4      queue // oldest first
	age6      queue
	most      int // packets since the maps were made
}

// New makes an empty table.
func New(c Config) *Table {
	if c.Octets <= 0 {
		c.Octets = DefaultOctets
	}
	if c.PerSource <= 0 {
		c.PerSource = max(c.Octets/4, longest)
	}
	t := &Table{limit: c.Octets, perSource: min(c.PerSource, c.Octets), used: queue{by: byUse}, age4: queue{by: byAge}, age6: queue{by: byAge}}
	t.empty()
	return t
}

// empty makes the maps anew: a map keeps the room that it once needed.
func (t *Table) empty() {
	t.packets, t.sources, t.most = map[key]*datagram{}, map[[16]byte]*source{}, 0
}

// Octets is what the table holds, with overhead.
func (t *Table) Octets() int { return t.octets }

// Len is how many packets wait for fragments, abandoned ones among them.
func (t *Table) Len() int { return len(t.packets) }

// Cost is what a fragment in a packet of n octets may add to Octets at most.
func Cost(n int) int { return n + packetOverhead + fragmentOverhead }

// IPv4 takes a fragment: the packet b with the header h, which was decoded from it and says IsFragment. A packet that becomes
// whole is written to buf, or to a longer slice; both b and buf are the caller's again.
func (t *Table) IPv4(now time.Duration, h *ipv4.Header, b []byte, w Way, buf []byte) Result {
	f := fragment{
		key:    key{src: h.Src.As16(), dst: h.Dst.As16(), id: uint32(h.ID), link: w.link(), proto: h.Protocol, four: true},
		packet: b[:h.Length], head: h.Len(), data: h.Len(), offset: h.Offset, more: h.MF, ecn: h.TOS & 3, iface: w.Iface,
	}
	return t.add(now, &f, buf)
}

// IPv6 takes a fragment: the packet b with the fixed header h and the headers c, which says Fragment. The rest is as in
// IPv4. The packet that becomes whole has no Fragment header; what follows the fixed header is for Walk to read again.
func (t *Table) IPv6(now time.Duration, h *ipv6.Header, c *ipv6.Chain, b []byte, w Way, buf []byte) Result {
	// RFC 8200 §4.5: "The Next Header field of the last header of the Per-Fragment headers is obtained from the Next Header
	// field of the first fragment's Fragment header."
	named := nextHeader
	if c.Pointer != ipv6.PointerNextHeader {
		named = ipv6.HeaderLen + c.Pointer
	}
	f := fragment{
		key:    key{src: h.Src.As16(), dst: h.Dst.As16(), id: c.FragID, link: w.link()},
		packet: b[:ipv6.HeaderLen+h.PayloadLength], head: ipv6.HeaderLen + c.FragHeader, data: ipv6.HeaderLen + c.Offset,
		offset: c.FragOffset, more: c.More, ecn: h.TrafficClass & 3, named: named, inside: c.Protocol, iface: w.Iface,
	}
	return t.add(now, &f, buf)
}

// Deadline is when Expire is to be called.
func (t *Table) Deadline() (at time.Duration, ok bool) {
	if d := t.oldest(); d != nil {
		return d.deadline, true
	}
	return 0, false
}

// oldest is the packet whose time is up first.
func (t *Table) oldest() *datagram {
	a, b := t.age4.first, t.age6.first
	if a == nil || b != nil && b.deadline < a.deadline {
		return b
	}
	return a
}

// Expire gives up a packet whose time is up, if there is one.
func (t *Table) Expire(now time.Duration) (e Expired, ok bool) {
	d := t.oldest()
	if d == nil || d.deadline > now {
		return e, false
	}
	t.remove(d)
	return Expired{First: d.first, Iface: d.iface, Fragments: len(d.pieces)}, true
}
