package groups

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// room is what a report has on Ethernet, about.
const room = 1400

// protocol is what a test of both protocols writes down for either.
type protocol struct {
	*testing.T
	h       *Host
	six     bool
	newest  uint8
	g, g2   netip.Addr
	s       []netip.Addr // 300 sources, in order
	general netip.Addr
}

// both runs a test for IGMP and for MLD. The random number is one less than a multiple of 1 to 20 seconds: every delay is as long
// as it may be.
func both(t *testing.T, f func(p *protocol)) {
	for _, six := range []bool{false, true} {
		p := &protocol{six: six, newest: 3, g: netip.MustParseAddr("233.252.0.1"), g2: netip.MustParseAddr("233.252.0.2"), general: netip.IPv4Unspecified()}
		if six {
			p.newest, p.g, p.g2, p.general = 2, netip.MustParseAddr("ff0e::db8:1"), netip.MustParseAddr("ff0e::db8:2"), netip.IPv6Unspecified()
		}
		for k := range 300 {
			a := netip.AddrFrom4([4]byte{203, 0, byte(k >> 8), byte(k)})
			if six {
				a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(k >> 8), 15: byte(k)})
			}
			p.s = append(p.s, a)
		}
		p.h = New(Config{IPv6: six, Rand: func() uint64 { return 232_792_560_000_000_000 - 1 }})
		t.Run(map[bool]string{false: "IGMP", true: "MLD"}[six], func(t *testing.T) { p.T = t; f(p) })
	}
}

var recordNames = []string{"", "IS_IN", "IS_EX", "TO_IN", "TO_EX", "ALLOW", "BLOCK"}

// say writes a message down as the RFC writes records: TO_EX g {}, with g and h for the groups and a, b, c … for the sources.
func (p *protocol) say(m *Message) string {
	group := func(a netip.Addr) string { return map[netip.Addr]string{p.g: "g", p.g2: "h"}[a] }
	switch m.Type {
	case ipv4.IGMPLeave, ipv6.ListenerDone:
		return "leave " + group(m.Group)
	case ipv4.IGMPReportV1:
		return "v1 " + group(m.Group)
	case ipv4.IGMPReportV2, ipv6.ListenerReportV1:
		if m.Dst != m.Group {
			p.Errorf("the report of %v goes to %v", m.Group, m.Dst)
		}
		return "older " + group(m.Group)
	}
	var all []string
	for _, r := range m.Records {
		var b strings.Builder
		for _, s := range r.Sources {
			b.WriteByte('a' + byte(slices.Index(p.s, s)))
		}
		all = append(all, fmt.Sprintf("%s %s {%s}", recordNames[r.Type], group(r.Group), b.String()))
	}
	return strings.Join(all, " ")
}

// sent is what is due by now, message by message.
func (p *protocol) sent(now time.Duration) string {
	var all []string
	var m Message
	for p.h.Next(now, room, &m) {
		all = append(all, p.say(&m))
	}
	return strings.Join(all, " | ")
}

func (p *protocol) want(now time.Duration, want string) {
	p.Helper()
	if got := p.sent(now); got != want {
		p.Errorf("at %v: sent %q, want %q", now, got, want)
	}
}

// deadline fails the test unless the next thing is due at that time; 0: never.
func (p *protocol) deadline(want time.Duration) {
	p.Helper()
	if at, ok := p.h.Deadline(); at != want || ok != (want != 0) {
		p.Errorf("deadline %v, %v, want %v", at, ok, want)
	}
}

func (p *protocol) set(names string) []netip.Addr {
	var all []netip.Addr
	for _, c := range names {
		all = append(all, p.s[c-'a'])
	}
	return all
}

func (p *protocol) include(names string) Filter { return Filter{Sources: p.set(names)} }
func (p *protocol) exclude(names string) Filter { return Filter{Exclude: true, Sources: p.set(names)} }

func (p *protocol) listen(now time.Duration, socket uint64, g netip.Addr, f Filter) {
	p.Helper()
	if err := p.h.Listen(now, socket, g, f); err != nil {
		p.Fatal(err)
	}
}

// RFC 9776 §5.1, C149, C194: a change is told at once, and once more within the Unsolicited Report Interval.
func TestStateChange(t *testing.T) {
	both(t, func(p *protocol) {
		for _, c := range []struct {
			socket    uint64
			f         Filter
			want, two string
		}{
			{1, p.exclude(""), "TO_EX g {}", "TO_EX g {}"},
			{1, p.exclude(""), "", ""},
			{1, p.exclude("ab"), "BLOCK g {ab}", "BLOCK g {ab}"},
			{1, p.exclude("bc"), "ALLOW g {a} BLOCK g {c}", "ALLOW g {a} BLOCK g {c}"},
			{2, p.include("b"), "ALLOW g {b}", "ALLOW g {b}"}, // EXCLUDE(bc) and INCLUDE(b) are EXCLUDE(c)
			{3, p.exclude("cd"), "", ""},                      // and EXCLUDE(cd) besides changes nothing
			{1, p.include(""), "BLOCK g {d}", "BLOCK g {d}"},
			{3, p.include("de"), "TO_IN g {bde}", "TO_IN g {bde}"},
			{2, p.include(""), "BLOCK g {b}", "BLOCK g {b}"},
			{2, p.include("ae"), "ALLOW g {a}", "ALLOW g {a}"},
			{3, p.exclude("z"), "TO_EX g {z}", "TO_EX g {z}"},
			{2, p.include(""), "", ""},
			{3, p.include(""), "TO_IN g {}", "TO_IN g {}"},
			{3, p.include(""), "", ""},
			{4, p.include("c"), "ALLOW g {c}", "ALLOW g {c}"},
			{4, p.include(""), "BLOCK g {c}", "BLOCK g {c}"},
		} {
			now := time.Duration(1e9)
			p.listen(now, c.socket, p.g, c.f)
			p.want(now, c.want)
			p.want(now+500*time.Millisecond, "")
			p.want(now+time.Second, c.two)
			p.deadline(0)
		}
		if len(p.h.groups) != 0 {
			t.Errorf("%d groups are left", len(p.h.groups))
		}
	})
}

// RFC 9776 §5.1: what changes before all is told of the change before is told with it.
func TestStateChangeMerged(t *testing.T) {
	both(t, func(p *protocol) {
		now := time.Duration(1e9)
		p.listen(now, 1, p.g, p.exclude(""))
		p.listen(now, 1, p.g2, p.include("a"))
		p.want(now, "TO_EX g {} ALLOW h {a}")
		p.listen(now+1, 1, p.g, p.exclude("b"))
		p.listen(now+1, 1, p.g2, p.include("b"))
		p.want(now+1, "TO_EX g {b} ALLOW h {b} BLOCK h {a}")
		p.want(now+1+time.Second, "BLOCK g {b} ALLOW h {b} BLOCK h {a}")
		p.listen(now+2+time.Second, 1, p.g, p.include(""))
		p.want(now+2+time.Second, "TO_IN g {}")
		p.listen(now+3+time.Second, 1, p.g, p.exclude("")) // back before the second word about it
		p.want(now+3+time.Second, "TO_EX g {}")
		p.want(now+4+2*time.Second, "TO_EX g {}")
		p.want(now+time.Hour, "")
	})
}

// RFC 9776 §5.2, C149, C194: answers to queries, by its five rules.
func TestQuery(t *testing.T) {
	const s = time.Second
	both(t, func(p *protocol) {
		now := time.Duration(1e9)
		p.listen(now, 1, p.g, p.exclude("a"))
		p.listen(now, 1, p.g2, p.include("bc"))
		p.sent(now)
		p.sent(now + s)
		now += time.Minute
		query := func(g netip.Addr, most time.Duration, names string) {
			p.h.Query(now, &Query{Version: p.newest, Group: g, MaxResponse: most, Sources: p.set(names)})
		}
		query(p.general, 10*s, "")
		query(p.g, 20*s, "") // rule 1
		p.deadline(now + 10*s)
		query(p.general, 5*s, "") // rule 2
		p.want(now+5*s-1, "")
		p.want(now+5*s, "IS_EX g {a} IS_IN h {bc}")
		p.deadline(0)
		now += time.Minute
		for _, c := range []struct {
			first, second string
			g             netip.Addr
			want          string
		}{
			{"", "-", p.g, "IS_EX g {a}"},
			{"", "-", p.g2, "IS_IN h {bc}"},
			{"ab", "-", p.g, "IS_IN g {b}"}, // rule 3
			{"a", "-", p.g, ""},
			{"ab", "-", p.g2, "IS_IN h {b}"},
			{"d", "-", p.g2, ""},
			{"ab", "", p.g, "IS_EX g {a}"}, // rule 4
			{"", "ab", p.g, "IS_EX g {a}"},
			{"ab", "cd", p.g, "IS_IN g {bcd}"}, // rule 5
		} {
			query(c.g, 4*s, c.first)
			if c.second != "-" {
				query(c.g, 2*s, c.second)
				p.deadline(now + 2*s)
			}
			p.want(now+4*s, c.want)
			p.deadline(0)
			now += time.Minute
		}
		query(netip.MustParseAddr("233.252.0.77"), s, "") // nobody listens
		p.deadline(0)
		p.listen(now, 1, p.g, p.include(""))
		p.sent(now)
		query(p.g, 500*time.Millisecond, "") // left, though not all is told
		p.want(now+500*time.Millisecond, "")
		p.want(now+s, "TO_IN g {}")
	})
}

// RFC 9776 §4.1.6: the querier says how often things are told.
func TestRobustness(t *testing.T) {
	both(t, func(p *protocol) {
		now := time.Duration(1e9)
		p.h.Query(now, &Query{Version: p.newest, Group: p.general, MaxResponse: time.Second, Robustness: 5})
		p.listen(now, 1, p.g, p.exclude(""))
		n := 0
		for at, ok := now, true; ok; at, ok = p.h.Deadline() {
			n += strings.Count(p.sent(at), "TO_EX")
		}
		if n != 5 {
			t.Errorf("told %d times, want 5", n)
		}
	})
}

// RFC 9776 §7.2.1, RFC 2236 §3, RFC 9777 §8.2.1: to an older querier, older words; what is pending is forgotten, and after the Older
// Version Querier Interval all is new again.
func TestOlder(t *testing.T) {
	const s = time.Second
	both(t, func(p *protocol) {
		v := p.newest - 1
		now := s
		p.listen(now, 1, p.g, p.exclude(""))
		p.want(now, "TO_EX g {}")
		p.h.Query(now, &Query{Version: v, Group: p.general, MaxResponse: 10 * s})
		p.want(now+s, "")
		p.want(now+10*s, "older g")
		p.deadline(0)

		now += time.Minute
		p.listen(now, 2, p.g2, p.include("a")) // sources cannot be told
		p.want(now, "older h")
		p.listen(now, 2, p.g2, p.include("b"))
		p.want(now+10*s, "older h")
		p.deadline(0)
		p.listen(now+11*s, 2, p.g2, p.include(""))
		p.want(now+11*s, "leave h")

		p.h.Query(now+11*s, &Query{Version: v, Group: p.g, MaxResponse: 10 * s})
		p.h.Query(now+12*s, &Query{Version: v, Group: p.g, MaxResponse: 10 * s}) // not before: the timer stays
		p.deadline(now + 21*s)
		p.h.Query(now+12*s, &Query{Version: p.newest, Group: p.g, MaxResponse: 2 * s}) // a newer querier is answered in the older way
		p.deadline(now + 14*s)
		p.h.Heard(now+13*s, p.g) // somebody else was faster
		p.want(now+14*s, "")
		p.deadline(0)
		p.listen(now+14*s, 1, p.g, p.include("")) // so there is nothing to take back
		p.want(now+14*s, "")

		now += 2*125*s + 10*s + 12*s
		p.listen(now, 1, p.g, p.exclude(""))
		p.want(now, "TO_EX g {}")
	})
}

// RFC 9776 §7.2.1: a querier of version 1 has ten seconds for the answer, and no leaves.
func TestVersion1(t *testing.T) {
	const s = time.Second
	both(t, func(p *protocol) {
		if p.six {
			return // MLD has no third version
		}
		p.listen(s, 1, p.g, p.exclude(""))
		p.h.Query(s, &Query{Version: 2, Group: p.general, MaxResponse: s})
		p.h.Query(s, &Query{Version: 1, Group: p.general})
		p.want(11*s, "v1 g")
		p.listen(12*s, 1, p.g, p.include(""))
		p.want(12*s, "")
		p.deadline(0)
	})
}

// RFC 9776 §5, RFC 9777 §6: of some groups nothing is ever said.
func TestNeverReported(t *testing.T) {
	for _, name := range []string{"224.0.0.1", "ff02::1", "ff01::fb", "ff00::1"} {
		a := netip.MustParseAddr(name)
		h := New(Config{IPv6: a.Is6(), Rand: func() uint64 { return 0 }})
		var m Message
		for v := uint8(3); v > 0; v-- {
			h.Listen(1, 1, a, Filter{Exclude: true})
			h.Query(1, &Query{Version: v})
			h.Query(1, &Query{Version: v, Group: a})
			h.Announce(1)
			if h.Next(time.Minute, room, &m) {
				t.Errorf("%v: sent %+v", a, m)
			}
			h.Listen(1, 1, a, Filter{})
		}
		if len(h.groups) != 0 {
			t.Errorf("%v stays", a)
		}
	}
}

// What Announce is for: a link that returned may have other routers.
func TestAnnounce(t *testing.T) {
	both(t, func(p *protocol) {
		p.listen(1, 1, p.g, p.exclude("a"))
		p.listen(1, 1, p.g2, p.include("b"))
		p.sent(time.Second)
		p.sent(time.Minute)
		p.h.Announce(time.Hour)
		p.want(time.Hour, "TO_EX g {a} ALLOW h {b}")
		p.want(time.Hour+time.Second, "TO_EX g {a} ALLOW h {b}")
		p.deadline(0)
	})
}

// RFC 9776 §4.2.17: what does not fit into one report goes into several, but sources that are excluded only as far as they fit.
func TestPacking(t *testing.T) {
	both(t, func(p *protocol) {
		p.h.config.MaxSources = 300
		p.listen(1, 1, p.g, Filter{Sources: p.s})
		p.listen(1, 1, p.g2, Filter{Exclude: true, Sources: p.s})
		head, each := 8, 4
		if p.six {
			head, each = 20, 16
		}
		const room = 500
		var wanted []netip.Addr
		excluded := 0
		var m Message
		for p.h.Next(1, room, &m) {
			n := 0
			for _, r := range m.Records {
				n += head + each*len(r.Sources)
				if r.Group == p.g {
					wanted = append(wanted, r.Sources...)
				} else {
					excluded += len(r.Sources)
				}
			}
			if n > room {
				t.Errorf("a report of %d octets, of %d", n, room)
			}
		}
		if !slices.Equal(wanted, p.s) || excluded != (room-head)/each {
			t.Errorf("%d sources included, want 300; %d excluded, want %d", len(wanted), excluded, (room-head)/each)
		}
	})
}

// A58: however often and however hastily somebody asks, the answers are few and what is kept is bounded.
func TestFlood(t *testing.T) {
	both(t, func(p *protocol) {
		p.listen(1, 1, p.g, p.exclude(""))
		p.sent(1)
		p.sent(time.Minute)
		const queries, span = 1_000_000, 10 * time.Second
		reports, all := 0, slices.Clone(p.s)
		for k := range queries {
			now := time.Hour + span*time.Duration(k)/queries
			q := Query{Version: p.newest, Group: p.general}
			if k%2 == 1 {
				q.Group = p.g
			}
			if k%1000 == 1 {
				q.Sources = all
			}
			p.h.Query(now, &q)
			if at, ok := p.h.Deadline(); ok && at <= now && p.sent(now) != "" {
				reports++
			}
		}
		if most := int(span/gap) + 1; reports > most || reports == 0 {
			t.Errorf("%d queries cost %d reports, want 1 to %d", queries, reports, most)
		}
		if n := len(p.h.groups[p.g].asked); n > defaultSources {
			t.Errorf("%d sources are kept", n)
		}
	})
}

// Too many groups, or sources, are an error that changes nothing.
func TestFull(t *testing.T) {
	both(t, func(p *protocol) {
		p.h.config.MaxGroups, p.h.config.MaxSources = 1, 2
		p.listen(1, 1, p.g, p.include("a"))
		p.listen(1, 2, p.g, p.include("b"))
		if err := p.h.Listen(1, 1, p.g2, p.exclude("")); err != ErrFull {
			t.Errorf("a second group: %v", err)
		}
		if err := p.h.Listen(1, 2, p.g, p.include("bc")); err != ErrFull {
			t.Errorf("a third source: %v", err)
		}
		for g, f := range p.h.All() {
			if want := p.include("ab"); g != p.g || !f.equal(&want) {
				t.Errorf("%v %+v, want %+v", g, f, want)
			}
		}
		if !p.h.Listens(p.g) || p.h.Listens(p.g2) {
			t.Error("what is listened to is not what was asked for")
		}
	})
}
