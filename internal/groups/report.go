package groups

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// Query takes a router's question, of which the caller has found that it may come from one. The answer comes from Next, a
// random while later.
func (h *Host) Query(now time.Duration, q *Query) {
	h.turn(now)
	general := !q.Group.IsValid() || q.Group.IsUnspecified()
	switch {
	case q.Version == h.newest():
		// RFC 9776 §4.1.6 has the querier's value adopted, "unless that most recently received QRV was zero, in which case the
		// receivers use the default [Robustness Variable] value".
		h.robustness, h.interval = defaultRobustness, defaultInterval
		if q.Robustness != 0 {
			h.robustness = int(q.Robustness)
		}
		if q.Interval != 0 {
			h.interval = q.Interval
		}
	case q.Version > 0 && q.Version < h.newest() && (general || h.config.IPv6):
		// RFC 9777 §9.12: "This value MUST be ([Robustness Variable] times [Query Interval] in the last Query received) plus
		// ([Query Response Interval])." For IPv4 it is RFC 3376 §8.12's and departs from RFC 9776 §8.12, which adds ten times
		// the Max Response Time of the query.
		h.older[q.Version] = now + time.Duration(h.robustness)*h.interval + responseInterval
		h.turn(now)
	}
	most := q.MaxResponse
	if q.Version == 1 && !h.config.IPv6 {
		most = responseInterval
	}
	at := max(h.random(now, most), h.floor)
	switch {
	case h.mode != h.newest():
		h.askedOlder(now, most, q.Group, general)
	case h.answerAt != 0 && h.answerAt <= at: // RFC 9776 §5.2, rule 1
	case general: // rule 2
		if len(h.groups) > 0 {
			h.answerAt = at
		}
	default:
		if g := h.groups[q.Group]; g != nil && g.filter.listens() && h.reportable(g.addr) {
			h.ask(g, at, q.Sources)
		}
	}
}

// ask schedules an answer about one group: rules 3 to 5 of RFC 9776 §5.2. Where more sources are asked for than are kept, the
// answer is about all.
func (h *Host) ask(g *group, at time.Duration, sources []netip.Addr) {
	switch {
	case g.answerAt == 0:
		g.asked = sorted(sources)
	case len(sources) == 0 || len(g.asked) == 0:
		at, g.asked = min(at, g.answerAt), nil
	default:
		at, g.asked = min(at, g.answerAt), union(g.asked, sources)
	}
	if len(g.asked) > h.config.MaxSources {
		g.asked = nil
	}
	h.schedule(g, at)
}

// askedOlder schedules reports in an older version, each after a while of its own. RFC 2236 §3: "If a timer for the group is
// already running, it is reset to the random value only if the requested Max Response Time is less than the remaining value
// of the running timer."
func (h *Host) askedOlder(now, most time.Duration, addr netip.Addr, general bool) {
	for _, g := range h.groups {
		if (general || g.addr == addr) && g.filter.listens() && h.reportable(g.addr) && (g.answerAt == 0 || now+most < g.answerAt) {
			h.schedule(g, max(h.random(now, most), h.floor))
		}
	}
}

// turn finds the version to speak. RFC 9776 §7.2.1: "Whenever a host changes its compatibility mode, it cancels all its pending
// response and retransmission timers."
func (h *Host) turn(now time.Duration) {
	mode := h.newest()
	for v := mode - 1; v > 0; v-- {
		if h.older[v] > now {
			mode = v // the oldest prevails
		}
	}
	if mode == h.mode {
		return
	}
	h.mode, h.answerAt, h.changeAt, h.groupsAt = mode, 0, 0, 0
	for _, g := range h.groups {
		g.answerAt, g.asked, g.changes, g.repeats, g.last = 0, nil, 0, 0, false
		clear(g.sources)
		h.forget(g)
	}
}

// Next is the next message to send, if any is due. room is how many octets of records a report can carry; it has at least
// those of one record with one source. What m holds is good until the next call of any method.
func (h *Host) Next(now time.Duration, room int, m *Message) bool {
	h.turn(now)
	if len(h.out) == 0 {
		h.expire(now, room)
	}
	if len(h.out) == 0 {
		return false
	}
	*m = h.out[0]
	h.out[0] = Message{}
	if h.out = h.out[1:]; len(h.out) == 0 {
		h.out = nil
	}
	return true
}

// expire makes the messages that are due.
func (h *Host) expire(now time.Duration, room int) {
	due := func(t time.Duration) bool { return t != 0 && t <= now }
	if h.mode != h.newest() {
		h.expireOlder(now, due)
		return
	}
	if due(h.changeAt) {
		h.tellChanges(now, room)
	}
	general := due(h.answerAt)
	if !general && !due(h.groupsAt) {
		return
	}
	if general {
		h.answerAt = 0
	}
	h.groupsAt = 0
	var answer []Record
	for _, g := range h.sorted() {
		if !general && !due(g.answerAt) {
			if g.answerAt != 0 {
				h.schedule(g, g.answerAt)
			}
			continue
		}
		if general {
			g.asked = nil // all is said now, whoever has asked
		}
		if r, ok := g.state(); ok && h.reportable(g.addr) {
			answer = append(answer, r)
		}
		g.answerAt, g.asked = 0, nil
	}
	if len(answer) > 0 {
		h.floor = now + gap
		h.pack(answer, room)
	}
}

// state is the group's Current-State Record (RFC 9777 §6.3), about the sources that were asked for.
func (g *group) state() (Record, bool) {
	r := Record{Type: isInclude, Group: g.addr, Sources: g.filter.Sources}
	switch {
	case len(g.asked) > 0 && g.filter.Exclude:
		r.Sources = minus(g.asked, g.filter.Sources)
	case len(g.asked) > 0:
		r.Sources = intersection(g.asked, g.filter.Sources)
	case g.filter.Exclude:
		r.Type = isExclude
		return r, true
	}
	return r, len(r.Sources) > 0 // "If the resulting Current-State Record has an empty set of source addresses, then no response is sent."
}

// tellChanges makes the State-Change Report that is due, and schedules the next where there is more to say: RFC 9776 §5.1, the
// report is "retransmitted [Robustness Variable] - 1 more times, at intervals chosen at random from the range (0, [Unsolicited
// Report Interval])".
func (h *Host) tellChanges(now time.Duration, room int) {
	h.changeAt = 0
	var all []Record
	for _, g := range h.sorted() {
		all = append(all, g.told()...)
		if g.changes > 0 || len(g.sources) > 0 {
			h.changeAt = -1
		}
		h.forget(g)
	}
	if h.changeAt != 0 {
		h.changeAt = h.random(now, unsolicited)
	}
	h.pack(all, room)
}

// told is what is to be said of changes of a group (RFC 9777 §6.1, table 2), and counts it as said once more.
func (g *group) told() []Record {
	if g.changes > 0 {
		g.changes--
		t := toInclude
		if g.filter.Exclude {
			t = toExclude
		}
		return []Record{{Type: t, Group: g.addr, Sources: g.filter.Sources}}
	}
	var allow, block []netip.Addr
	for s, n := range g.sources {
		if g.filter.Accepts(s) {
			allow = append(allow, s)
		} else {
			block = append(block, s)
		}
		if g.sources[s] = n - 1; n <= 1 {
			delete(g.sources, s)
		}
	}
	var all []Record
	if len(allow) > 0 {
		all = append(all, Record{Type: allowNew, Group: g.addr, Sources: sorted(allow)})
	}
	if len(block) > 0 {
		all = append(all, Record{Type: blockOld, Group: g.addr, Sources: sorted(block)})
	}
	return all
}

// pack puts records into reports of at most room octets. RFC 9776 §4.2.17: a record that is too long for one "is split into
// multiple Group Records", but of one that excludes sources only the first part is sent.
func (h *Host) pack(all []Record, room int) {
	m := Message{Type: ipv4.IGMPReportV3, Dst: reportsV3}
	head, each := ipv4.GroupRecordLen, 4
	if h.config.IPv6 {
		m = Message{Type: ipv6.ListenerReportV2, Dst: reportsMLD2}
		head, each = ipv6.GroupRecordLen, 16
	}
	left := room
	flush := func() {
		if len(m.Records) > 0 {
			h.out = append(h.out, m)
		}
		m.Records, left = nil, room
	}
	for _, r := range all {
		for {
			if left < room && left < head+each*min(len(r.Sources), (room-head)/each) {
				flush()
			}
			n := min(len(r.Sources), max((left-head)/each, 1))
			m.Records = append(m.Records, Record{Type: r.Type, Group: r.Group, Sources: r.Sources[:n]})
			left -= head + each*n
			if r.Sources = r.Sources[n:]; len(r.Sources) == 0 || r.Type == isExclude || r.Type == toExclude {
				break
			}
		}
	}
	flush()
}

// expireOlder makes the reports that are due in an older version: one for each group, to the group.
func (h *Host) expireOlder(now time.Duration, due func(time.Duration) bool) {
	if !due(h.groupsAt) {
		return
	}
	h.groupsAt = 0
	for _, g := range h.sorted() {
		if due(g.answerAt) {
			h.out = append(h.out, Message{Type: h.reportType(), Dst: g.addr, Group: g.addr})
			h.floor = now + gap
			g.answerAt, g.last = 0, true
			if g.repeats--; g.repeats > 0 {
				g.answerAt = h.random(now, unsolicitedOlder)
			}
			g.repeats = max(g.repeats, 0)
		}
		if g.answerAt != 0 {
			h.schedule(g, g.answerAt)
		}
	}
}

func (h *Host) reportType() uint8 {
	switch {
	case h.config.IPv6:
		return ipv6.ListenerReportV1
	case h.mode == 1:
		return ipv4.IGMPReportV1
	}
	return ipv4.IGMPReportV2
}

// leaveType is the message that says that a group is left, 0 where there is none.
func (h *Host) leaveType() uint8 {
	switch {
	case h.config.IPv6:
		return ipv6.ListenerDone
	case h.mode == 1:
		return 0
	}
	return ipv4.IGMPLeave
}

func (h *Host) allRouters() netip.Addr {
	if h.config.IPv6 {
		return allRouters6
	}
	return allRouters4
}

var (
	reportsV3   = netip.AddrFrom4([4]byte{224, 0, 0, 22}) // RFC 9776 §4.2.15
	reportsMLD2 = netip.MustParseAddr("ff02::16")         // RFC 9777 §5.2.15
	allRouters4 = netip.AddrFrom4([4]byte{224, 0, 0, 2})
	allRouters6 = netip.MustParseAddr("ff02::2")
)
