// Package groups is the host's part of IGMP and of MLD: which multicast groups an interface listens to, and what its routers are
// told about it (RFC 9776 and RFC 9777, and towards older routers RFC 2236, RFC 1112 and RFC 2710).
//
// Nobody sends to a list of hosts: a packet to a group goes to whoever listens. So the routers of a link have to know which
// groups somebody there wants to hear. They ask now and then, a host answers after a random while, and says by itself what it
// begins and ceases to listen to, several times, since packets get lost.
//
// The two protocols are one state machine with two spellings, so a [Host] is either, for one interface. It is a value: what
// happens goes in with the time, messages come out.
package groups

import (
	"errors"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
)

// Timers and counters: RFC 9776 §8, RFC 9777 §9, which have the same ones.
const (
	defaultRobustness = 2                 // §8.1, Robustness Variable
	defaultInterval   = 125 * time.Second // §8.2, Query Interval
	responseInterval  = 10 * time.Second  // §8.3, Query Response Interval; also what an IGMPv1 query allows
	unsolicited       = time.Second       // §8.11, Unsolicited Report Interval
	unsolicitedOlder  = 10 * time.Second  // RFC 2236 §8.10, RFC 2710 §7.10
)

// gap is how long answers to queries lie apart at least. A query may ask for an answer at once; as often as somebody
// likes, that would be. It is the unit of IGMP's Max Resp Code.
const gap = 100 * time.Millisecond

// Bounds on what is kept, ours.
const (
	defaultGroups  = 1024
	defaultSources = 256
)

// Config is what a Host is made with.
type Config struct {
	IPv6       bool
	Rand       func() uint64 // random bits
	MaxGroups  int           // groups; 0 means 1024
	MaxSources int           // sources of a group that all sockets together name, and that queries do; 0 means 256
}

// ErrFull says that there are as many groups, or sources of one, as are kept.
var ErrFull = errors.New("groups: too many groups or sources")

// Host is which groups one interface listens to over one protocol, and what it has to say of them.
type Host struct {
	config     Config
	groups     map[netip.Addr]*group
	robustness int
	interval   time.Duration    // between the querier's queries
	older      [3]time.Duration // until when a querier of version 1 or 2 is taken to be there
	mode       uint8            // version that we speak now: Host Compatibility Mode (RFC 9776 §7.2.1)
	answerAt   time.Duration    // when to answer a general query; 0: never
	changeAt   time.Duration    // when to tell of changes; 0: never
	floor      time.Duration    // the next answer is not before
	groupsAt   time.Duration    // no group's answerAt is before; 0: none has one
	out        []Message
}

// group is what is known of one group.
type group struct {
	addr     netip.Addr
	sockets  map[uint64]Filter
	filter   Filter             // of all sockets together
	changes  int                // Filter Mode Retransmission Counter
	sources  map[netip.Addr]int // Retransmission List, with each source's counter
	answerAt time.Duration      // when to answer a query about this group, or in an older version to report it; 0: never
	asked    []netip.Addr       // the sources that the query named; none: all
	repeats  int                // older versions: reports that are still to be sent, unasked
	last     bool               // older versions: nobody has reported it since we did
}

// Message is something to tell the link's routers.
type Message struct {
	Type    uint8      // as ipv4.IGMP or ipv6.MLD has it: a report, or of an older version a leave or done
	Dst     netip.Addr // whom to send it to
	Group   netip.Addr // of an older version
	Records []Record   // of the newest version
}

// Record is what a report of the newest version says of one group.
type Record struct {
	Type    uint8 // ipv4.ModeIsInclude to ipv4.BlockOldSources, the same numbers as in package ipv6
	Group   netip.Addr
	Sources []netip.Addr
}

// Query is a router's question.
type Query struct {
	Version     uint8         // 1 to 3 for IGMP, 1 or 2 for MLD
	Group       netip.Addr    // unspecified or invalid: all groups
	MaxResponse time.Duration // how long the answer may take; of no meaning in IGMP's version 1
	Robustness  uint8         // newest version; 0: not said
	Interval    time.Duration // newest version; 0: not said
	Sources     []netip.Addr  // newest version; none: all
}

// New makes a Host that listens to nothing.
func New(c Config) *Host {
	if c.MaxGroups <= 0 {
		c.MaxGroups = defaultGroups
	}
	if c.MaxSources <= 0 {
		c.MaxSources = defaultSources
	}
	h := &Host{config: c, groups: map[netip.Addr]*group{}, robustness: defaultRobustness, interval: defaultInterval}
	h.mode = h.newest()
	return h
}

// newest is the version that we speak to routers that do.
func (h *Host) newest() uint8 {
	if h.config.IPv6 {
		return 2
	}
	return 3
}

// Listen is RFC 9776 §2's IPMulticastListen: the socket, which is any number, wants to hear the group as the filter says
// from now on; the zero Filter: no longer. now is greater than 0, here and everywhere. The error is ErrFull, and then nothing
// has changed.
func (h *Host) Listen(now time.Duration, socket uint64, addr netip.Addr, f Filter) error {
	h.turn(now)
	g := h.groups[addr]
	if g == nil {
		if !f.listens() {
			return nil
		}
		if len(h.groups) >= h.config.MaxGroups {
			return ErrFull
		}
		g = &group{addr: addr, sockets: map[uint64]Filter{}, sources: map[netip.Addr]int{}}
	}
	before, had := g.sockets[socket]
	if f.Sources = sorted(f.Sources); f.listens() {
		g.sockets[socket] = f
	} else {
		delete(g.sockets, socket)
	}
	merged := merge(g.sockets)
	if len(merged.Sources) > h.config.MaxSources {
		delete(g.sockets, socket)
		if had {
			g.sockets[socket] = before
		}
		return ErrFull
	}
	h.groups[addr] = g
	h.change(now, g, merged)
	return nil
}

// change notes what a group's filter has become, and what is to be said about it.
func (h *Host) change(now time.Duration, g *group, to Filter) {
	from := g.filter
	g.filter = to
	switch {
	case from.equal(&to):
	case !h.reportable(g.addr):
	case h.mode != h.newest():
		h.changeOlder(now, g, &from)
	case from.Exclude != to.Exclude:
		// RFC 9777 §6.1: "When the filter-mode changes, the counter is set to [Robustness Variable]."; the record names all
		// sources that matter, so none is to be said besides.
		g.changes, h.changeAt = h.robustness, now
		clear(g.sources)
	default:
		for _, s := range union(minus(from.Sources, to.Sources), minus(to.Sources, from.Sources)) {
			g.sources[s] = h.robustness
		}
		h.changeAt = now
	}
	h.forget(g)
}

// changeOlder is change for an older version, which knows of no sources.
func (h *Host) changeOlder(now time.Duration, g *group, from *Filter) {
	switch {
	case from.listens() == g.filter.listens():
	case g.filter.listens():
		g.repeats = h.robustness
		h.schedule(g, now)
	default:
		// RFC 2236 §3: "When a host leaves a multicast group, if it was the last host to reply to a Query with a Membership Report
		// for that group, it SHOULD send a Leave Group message to the all-routers multicast group (224.0.0.2)." Version 1 has none.
		if t := h.leaveType(); g.last && t != 0 {
			h.out = append(h.out, Message{Type: t, Dst: h.allRouters(), Group: g.addr})
		}
		g.answerAt = 0
	}
}

// forget removes a group that nobody listens to once all is said about it.
func (h *Host) forget(g *group) {
	if !g.filter.listens() && g.changes == 0 && len(g.sources) == 0 {
		delete(h.groups, g.addr)
	}
}

// reportable reports whether routers are told of a group. RFC 9776 §5: "The all-systems multicast address, 224.0.0.1, is handled
// as a special case." RFC 9777 §6 has the same of ff02::1 and of those whose scope is not even the link.
func (h *Host) reportable(a netip.Addr) bool {
	if !h.config.IPv6 {
		return a != allSystems
	}
	b := a.As16()
	return a != allNodes && b[1]&0xf > 1
}

var (
	allSystems = netip.AddrFrom4([4]byte{224, 0, 0, 1})
	allNodes   = netip.MustParseAddr("ff02::1")
)

// Heard says that another host has reported the group, in an older version. RFC 2236 §3: "If the host receives another host's
// Report (version 1 or 2) while it has a timer running, it stops its timer for the specified group and does not send a Report".
func (h *Host) Heard(now time.Duration, addr netip.Addr) {
	h.turn(now)
	if g := h.groups[addr]; g != nil && h.mode != h.newest() {
		g.answerAt, g.last, g.repeats = 0, false, 0
	}
}

// Announce tells of all that is listened to anew: the link has returned, or has an address to speak from only now.
func (h *Host) Announce(now time.Duration) {
	h.turn(now)
	for _, g := range h.groups {
		switch {
		case !h.reportable(g.addr) || !g.filter.listens():
			continue
		case h.mode != h.newest():
			g.repeats = h.robustness
			h.schedule(g, now)
			continue
		case g.filter.Exclude:
			g.changes = h.robustness
		default:
			for _, s := range g.filter.Sources {
				g.sources[s] = h.robustness
			}
		}
		h.changeAt = now
	}
}

// Listens reports whether somebody here wants to hear the group, from whomever.
func (h *Host) Listens(addr netip.Addr) bool {
	g := h.groups[addr]
	return g != nil && g.filter.listens()
}

// All lists the groups that are listened to, in order, with the filter of all sockets together.
func (h *Host) All() iter.Seq2[netip.Addr, Filter] {
	return func(yield func(netip.Addr, Filter) bool) {
		for _, g := range h.sorted() {
			if g.filter.listens() && !yield(g.addr, g.filter) {
				return
			}
		}
	}
}

// sorted lists the groups in order, so that a report does not depend on chance.
func (h *Host) sorted() []*group {
	all := make([]*group, 0, len(h.groups))
	for _, g := range h.groups {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *group) int { return a.addr.Compare(b.addr) })
	return all
}

// Deadline says when to ask Next again: there may be something to say then, and there is not before.
func (h *Host) Deadline() (at time.Duration, ok bool) {
	if len(h.out) > 0 {
		return 1, true
	}
	soonest := func(t time.Duration) {
		if t != 0 && (!ok || t < at) {
			at, ok = t, true
		}
	}
	soonest(h.answerAt)
	soonest(h.changeAt)
	soonest(h.groupsAt)
	return at, ok
}

// schedule sets when to say something of one group.
func (h *Host) schedule(g *group, at time.Duration) {
	g.answerAt = at
	if h.groupsAt == 0 || at < h.groupsAt {
		h.groupsAt = at
	}
}

// random is an instant up to d after now, never now itself (RFC 9777 §6.3: "MUST NOT send a Report immediately upon
// reception of a General Query").
func (h *Host) random(now, d time.Duration) time.Duration {
	if d <= 0 {
		d = 1
	}
	return now + 1 + time.Duration(h.config.Rand()%uint64(d))
}

// record types, which both protocols share
const (
	isInclude = ipv4.ModeIsInclude
	isExclude = ipv4.ModeIsExclude
	toInclude = ipv4.ChangeToInclude
	toExclude = ipv4.ChangeToExclude
	allowNew  = ipv4.AllowNewSources
	blockOld  = ipv4.BlockOldSources
)
