package neighbor

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

const second = time.Second

var (
	ip4 = netip.MustParseAddr("198.51.100.7")
	ip6 = netip.MustParseAddr("2001:db8::7")
	hw1 = ethernet.Addr{2, 0, 0, 0, 0, 1}
	hw2 = ethernet.Addr{2, 0, 0, 0, 0, 2}
)

// host returns the n-th of many addresses.
func host(n int) netip.Addr {
	return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 11: 1, 12: byte(n >> 24), 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)})
}

// find returns what the cache says of ip; the zero Entry if nothing.
func find(c *Cache, ip netip.Addr) Entry {
	for e := range c.All() {
		if e.IP == ip {
			return e
		}
	}
	return Entry{}
}

// in returns a cache with ip in state s at now = 0, at hw1 unless there is none.
func in(t *testing.T, s State, ip netip.Addr) *Cache {
	t.Helper()
	c := New(Config{})
	solicited := Message{IP: ip, HW: hw1, HasHW: true, Kind: NA, Solicited: true, Override: true}
	switch s {
	case Incomplete:
		c.Resolve(0, ip)
		c.Next(0)
	case Reachable:
		c.Resolve(0, ip)
		c.Update(0, solicited)
	case Stale:
		c.Update(0, Message{IP: ip, HW: hw1, HasHW: true, Kind: NS})
	case Delay:
		c.Update(0, Message{IP: ip, HW: hw1, HasHW: true, Kind: NS})
		c.Resolve(0, ip)
	case Probe:
		c.Update(-5*second, Message{IP: ip, HW: hw1, HasHW: true, Kind: NS})
		c.Resolve(-5*second, ip)
		c.Next(0)
	case Permanent:
		c.Set(ip, hw1)
	case Unreachable:
		c.Resolve(-3*second, ip)
		for at := -3 * second; at <= 0; at += second {
			c.Expire(at)
			c.Next(at)
		}
	}
	if e := find(c, ip); e.State != s || e.IP != ip {
		t.Fatalf("set-up: %+v, want %v", e, s)
	}
	return c
}

// run lets time pass from from to to as a stack would, and returns the solicitations.
type sent struct {
	at time.Duration
	Solicit
}

func run(t *testing.T, c *Cache, to time.Duration) (out []sent, failed map[netip.Addr]time.Duration) {
	t.Helper()
	failed = map[netip.Addr]time.Duration{}
	last := time.Duration(-1 << 62)
	for range 100_000 {
		at, ok := c.Deadline()
		if !ok || at > to {
			return out, failed
		}
		at = max(at, last)
		last = at
		for _, ip := range c.Expire(at) {
			failed[ip] = at
		}
		for s, ok := c.Next(at); ok; s, ok = c.Next(at) {
			out = append(out, sent{at, s})
		}
	}
	t.Fatal("the deadline does not move on")
	return nil, nil
}

// RFC 4861 §7.2.5 and appendix C: all flags, in all states.
func TestC183NeighborAdvertisement(t *testing.T) {
	const none, same, other = 0, 1, 2
	type want struct {
		state  State
		hw     ethernet.Addr
		change Change
	}
	tests := []struct {
		state State
		s, o  bool
		hw    int
		want  want
	}{
		// "In any other way" nothing happens where the address is missing.
		{Incomplete, true, true, none, want{Incomplete, ethernet.Addr{}, Change{}}},
		{Incomplete, false, false, none, want{Incomplete, ethernet.Addr{}, Change{}}},
		{Incomplete, false, false, same, want{Stale, hw1, Change{Resolved: true}}},
		{Incomplete, false, true, same, want{Stale, hw1, Change{Resolved: true}}},
		{Incomplete, true, false, same, want{Reachable, hw1, Change{Resolved: true}}},
		{Incomplete, true, true, same, want{Reachable, hw1, Change{Resolved: true}}},
		// I. Override clear and another address.
		{Reachable, false, false, other, want{Stale, hw1, Change{}}},
		{Reachable, true, false, other, want{Stale, hw1, Change{}}},
		{Stale, true, false, other, want{Stale, hw1, Change{}}},
		{Delay, true, false, other, want{Delay, hw1, Change{}}},
		{Probe, true, false, other, want{Probe, hw1, Change{}}},
		{Probe, false, false, other, want{Probe, hw1, Change{}}},
		// II. The same address or none, whatever Override says.
		{Reachable, false, false, same, want{Reachable, hw1, Change{}}},
		{Reachable, false, true, none, want{Reachable, hw1, Change{}}},
		{Stale, false, true, same, want{Stale, hw1, Change{}}},
		{Stale, true, false, same, want{Reachable, hw1, Change{}}},
		{Stale, true, false, none, want{Reachable, hw1, Change{}}},
		{Delay, true, true, none, want{Reachable, hw1, Change{}}},
		{Delay, false, true, same, want{Delay, hw1, Change{}}},
		{Probe, true, false, same, want{Reachable, hw1, Change{}}},
		{Probe, false, true, none, want{Probe, hw1, Change{}}},
		// II. Override set and another address.
		{Reachable, true, true, other, want{Reachable, hw2, Change{Updated: true}}},
		{Reachable, false, true, other, want{Stale, hw2, Change{Updated: true}}},
		{Stale, true, true, other, want{Reachable, hw2, Change{Updated: true}}},
		{Stale, false, true, other, want{Stale, hw2, Change{Updated: true}}},
		{Delay, false, true, other, want{Stale, hw2, Change{Updated: true}}},
		{Probe, false, true, other, want{Stale, hw2, Change{Updated: true}}},
		{Probe, true, true, other, want{Reachable, hw2, Change{Updated: true}}},
		// Not in the RFC: A53, static entries win; and a late answer is an answer.
		{Permanent, true, true, other, want{Permanent, hw1, Change{}}},
		{Unreachable, true, true, same, want{Reachable, hw1, Change{Resolved: true}}},
	}
	for _, tt := range tests {
		name := fmt.Sprintf("C183 %v S=%v O=%v %s", tt.state, tt.s, tt.o, [...]string{"no TLLA", "same TLLA", "other TLLA"}[tt.hw])
		t.Run(name, func(t *testing.T) {
			c := in(t, tt.state, ip6)
			m := Message{IP: ip6, HasHW: tt.hw != none, Kind: NA, Solicited: tt.s, Override: tt.o}
			if m.HasHW {
				m.HW = [...]ethernet.Addr{{}, hw1, hw2}[tt.hw]
			}
			change := c.Update(0, m)
			e := find(c, ip6)
			if got := (want{e.State, e.HW, change}); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestC183RouterFlag(t *testing.T) {
	c := in(t, Reachable, ip6)
	na := Message{IP: ip6, HW: hw1, HasHW: true, Kind: NA, Router: true}
	if change := c.Update(0, na); change != (Change{}) || !find(c, ip6).Router {
		t.Errorf("R=1: %+v, router %v", change, find(c, ip6).Router)
	}
	other := Message{IP: ip6, HW: hw2, HasHW: true, Kind: NA} // O=0: ignored, R as well
	if change := c.Update(0, other); change != (Change{}) || !find(c, ip6).Router {
		t.Errorf("O=0, other address: %+v, router %v", change, find(c, ip6).Router)
	}
	na.Router = false
	if change := c.Update(0, na); change != (Change{NotRouter: true}) || find(c, ip6).Router {
		t.Errorf("R=0 after R=1: %+v, router %v", change, find(c, ip6).Router)
	}
	c = in(t, Incomplete, ip6)
	if c.Update(0, Message{IP: ip6, HW: hw1, HasHW: true, Kind: NA, Router: true}); !find(c, ip6).Router {
		t.Error("the answer's R=1 was lost")
	}
	c = in(t, Stale, ip6)
	c.Update(0, Message{IP: ip6, Kind: RA})
	if !find(c, ip6).Router {
		t.Error("an RA without a link-layer address did not make its sender a router")
	}
}

// Who may create, complete and change an entry.
func TestC151WhoSpeaks(t *testing.T) {
	const absent = State(100)
	stale1, stale2 := Entry{State: Stale, HW: hw1}, Entry{State: Stale, HW: hw2}
	tests := []struct {
		name   string
		from   State
		m      Message // IP and HasHW are filled in
		want   Entry   // State and HW
		change Change
	}{
		{"C151 request to us creates", absent, Message{Kind: ARPRequest, HW: hw1}, stale1, Change{Created: true}},
		{"C151 request to another creates nothing", absent, Message{Kind: ARPOther, HW: hw1}, Entry{}, Change{}},
		{"C151 unsolicited reply creates nothing", absent, Message{Kind: ARPReply, HW: hw1}, Entry{}, Change{}},
		{"C151 request to another updates", Stale, Message{Kind: ARPOther, HW: hw2}, stale2, Change{Updated: true}},
		{"C151 request to another, same address", Reachable, Message{Kind: ARPOther, HW: hw1}, Entry{State: Reachable, HW: hw1}, Change{}},
		{"C153 MAC changes, gratuitous", Reachable, Message{Kind: ARPOther, HW: hw2}, stale2, Change{Updated: true}},
		{"C153 MAC changes, request", Delay, Message{Kind: ARPRequest, HW: hw2}, stale2, Change{Updated: true}},
		{"C153 MAC changes, reply to a poll", Probe, Message{Kind: ARPReply, HW: hw2}, Entry{State: Reachable, HW: hw2}, Change{Updated: true}},
		{"C153 unicast poll answered", Probe, Message{Kind: ARPReply, HW: hw1}, Entry{State: Reachable, HW: hw1}, Change{}},
		{"reply without a question is no confirmation", Delay, Message{Kind: ARPReply, HW: hw1}, Entry{State: Delay, HW: hw1}, Change{}},
		{"A51 unsolicited reply updates only", Reachable, Message{Kind: ARPReply, HW: hw2}, stale2, Change{Updated: true}},
		{"A51 static entry wins", Permanent, Message{Kind: ARPReply, HW: hw2}, Entry{State: Permanent, HW: hw1}, Change{}},
		{"reply resolves", Incomplete, Message{Kind: ARPReply, HW: hw1}, Entry{State: Reachable, HW: hw1}, Change{Resolved: true}},
		{"request to us resolves", Incomplete, Message{Kind: ARPRequest, HW: hw1}, stale1, Change{Resolved: true}},
		{"request to another resolves", Incomplete, Message{Kind: ARPOther, HW: hw1}, stale1, Change{Resolved: true}},
		{"request to us after failure", Unreachable, Message{Kind: ARPRequest, HW: hw1}, stale1, Change{Resolved: true}},
		{"C182 NS creates", absent, Message{Kind: NS, HW: hw1}, stale1, Change{Created: true}},
		{"RA creates", absent, Message{Kind: RA, HW: hw1}, stale1, Change{Created: true}},
		{"NA creates nothing", absent, Message{Kind: NA, HW: hw1, Solicited: true, Override: true}, Entry{}, Change{}},
		{"NS resolves", Incomplete, Message{Kind: NS, HW: hw1}, stale1, Change{Resolved: true}},
		{"NS with another address", Reachable, Message{Kind: NS, HW: hw2}, stale2, Change{Updated: true}},
		{"NS with the same address", Probe, Message{Kind: NS, HW: hw1}, Entry{State: Probe, HW: hw1}, Change{}},
		{"C152 group source", Reachable, Message{Kind: ARPRequest, HW: ethernet.Addr{1, 0, 0x5e, 0, 0, 1}}, Entry{State: Reachable, HW: hw1}, Change{}},
		{"C152 broadcast source", absent, Message{Kind: ARPRequest, HW: ethernet.Broadcast}, Entry{}, Change{}},
		{"C152 zero source", Incomplete, Message{Kind: NS}, Entry{State: Incomplete}, Change{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := New(Config{})
			if tt.from != absent {
				c = in(t, tt.from, ip4)
			}
			tt.m.IP, tt.m.HasHW = ip4, true
			change := c.Update(0, tt.m)
			e := find(c, ip4)
			if got := (Entry{State: e.State, HW: e.HW}); got != tt.want || change != tt.change {
				t.Errorf("got %v %v %+v\nwant %v %v %+v", e.State, e.HW, change, tt.want.State, tt.want.HW, tt.change)
			}
			if there := e.IP == ip4; there != (tt.from != absent || tt.change.Created) {
				t.Errorf("in the cache: %v", there)
			}
		})
	}
	c := New(Config{})
	for _, bad := range []string{"0.0.0.0", "::", "224.0.0.1", "ff02::1"} {
		c.Update(0, Message{IP: netip.MustParseAddr(bad), HW: hw1, HasHW: true, Kind: ARPRequest})
	}
	c.Update(0, Message{HW: hw1, HasHW: true, Kind: NS})
	c.Update(0, Message{IP: ip6, Kind: NS})
	if c.Len() != 0 {
		t.Errorf("addresses that no neighbour has were cached: %v", slices.Collect(c.All()))
	}
}

// RFC 4861 §7.3.3, from the first packet to deletion.
func TestC184Unreachability(t *testing.T) {
	c := in(t, Reachable, ip6)
	if _, ok := c.Deadline(); ok {
		t.Error("C184: a reachable neighbour needs a timer")
	}
	if hw, r := c.Resolve(30*second-1, ip6); hw != hw1 || r != Resolved || find(c, ip6).State != Reachable {
		t.Errorf("C184: REACHABLE within 30 s: %v %v %v", hw, r, find(c, ip6).State)
	}
	if hw, r := c.Resolve(30*second, ip6); hw != hw1 || r != Resolved || find(c, ip6).State != Delay {
		t.Errorf("C184: sent after 30 s: %v %v %v, want DELAY", hw, r, find(c, ip6).State)
	}
	c.Resolve(31*second, ip6) // a second packet does not prolong the delay
	probes, failed := run(t, c, time.Minute)
	want := []sent{
		{35 * second, Solicit{ip6, hw1, true}}, {36 * second, Solicit{ip6, hw1, true}}, {37 * second, Solicit{ip6, hw1, true}},
	}
	if !slices.Equal(probes, want) {
		t.Errorf("C184: probes %v\nwant %v", probes, want)
	}
	if failed[ip6] != 38*second || c.Len() != 0 {
		t.Errorf("C184: given up %v, %d entries left; want 38s, none", failed, c.Len())
	}
	if _, r := c.Resolve(38*second, ip6); r != Pending {
		t.Errorf("C184: the next packet: %v, want Pending, all are asked again", r)
	}
	if s, ok := c.Next(38 * second); !ok || s.Unicast {
		t.Errorf("C184: asked %+v, want multicast", s)
	}
}

func TestC184ConfirmationSuppressesProbes(t *testing.T) {
	for _, s := range []State{Reachable, Stale, Delay, Probe} {
		t.Run("C184 "+s.String(), func(t *testing.T) {
			c := in(t, s, ip6)
			c.Confirm(0, ip6)
			if e := find(c, ip6); e.State != Reachable || e.Until != 30*second {
				t.Errorf("after Confirm %v until %v, want REACHABLE until 30s", e.State, e.Until)
			}
			for now := second; now < 5*time.Minute; now += 20 * second {
				c.Resolve(now, ip6)
				c.Confirm(now, ip6)
			}
			if probes, _ := run(t, c, 5*time.Minute); len(probes) != 0 {
				t.Errorf("probes in spite of progress: %v", probes)
			}
		})
	}
	for _, s := range []State{Incomplete, Permanent, Unreachable} {
		c := in(t, s, ip6)
		if c.Confirm(0, ip6); find(c, ip6).State != s {
			t.Errorf("C184: Confirm changed %v to %v", s, find(c, ip6).State)
		}
	}
	New(Config{}).Confirm(0, ip6) // nobody is nobody
}

func TestStaleIsLeftAlone(t *testing.T) {
	c := in(t, Stale, ip6)
	if at, ok := c.Deadline(); ok {
		t.Errorf("a STALE entry that nobody uses has a deadline %v", at)
	}
	if _, ok := c.Next(time.Hour); ok {
		t.Error("a STALE entry that nobody uses was probed")
	}
}

// Three requests a second apart, then the caller is told, and for a second whoever asks.
func TestC154C185Resolution(t *testing.T) {
	for _, ip := range []netip.Addr{ip4, ip6} {
		name := "C154 ARP"
		if ip.Is6() {
			name = "C185 NDP"
		}
		t.Run(name, func(t *testing.T) {
			c := New(Config{})
			if _, r := c.Resolve(0, ip); r != Pending {
				t.Fatalf("first packet: %v, want Pending", r)
			}
			var asked []time.Duration
			var results []Result
			failedAt := time.Duration(-1)
			// A caller that sends every 10 ms for 6 s.
			for now := time.Duration(0); now < 6*second; now += 10 * time.Millisecond {
				if slices.Contains(c.Expire(now), ip) && failedAt < 0 {
					failedAt = now
				}
				for s, ok := c.Next(now); ok; s, ok = c.Next(now) {
					if s != (Solicit{IP: ip}) {
						t.Errorf("asked %+v, want for %v, not unicast", s, ip)
					}
					asked = append(asked, now)
				}
				if _, r := c.Resolve(now, ip); len(results) == 0 || results[len(results)-1] != r {
					results = append(results, r)
				}
			}
			if failedAt != 3*second {
				t.Errorf("given up at %v, want 3s", failedAt)
			}
			if !slices.Equal(results, []Result{Pending, Failed, Pending}) {
				t.Errorf("results %v, want Pending, Failed, Pending", results)
			}
			if len(asked) != 5 || asked[2] != 2*second {
				t.Errorf("asked at %v, want at 0, 1 s, 2 s, and again after 4 s", asked)
			}
			for i := 1; i < len(asked); i++ {
				if asked[i]-asked[i-1] < second {
					t.Errorf("asked at %v and %v: more than one request a second", asked[i-1], asked[i])
				}
			}
		})
	}
}

func TestLateAnswerIsNotAFailure(t *testing.T) {
	c := in(t, Incomplete, ip6)
	for _, at := range []time.Duration{1, 2, 3} {
		c.Next(at * second) // Next alone notices that it is over
	}
	if at, ok := c.Deadline(); !ok || at > 3*second {
		t.Errorf("Deadline = %v, %v; want at once, for Expire", at, ok)
	}
	c.Update(3*second, Message{IP: ip6, HW: hw1, HasHW: true, Kind: NA, Solicited: true})
	if failed := c.Expire(3 * second); len(failed) != 0 {
		t.Errorf("failed %v, though it has answered", failed)
	}
}

func TestReachableTimeIsRandom(t *testing.T) {
	for _, tt := range []struct {
		rand uint64
		want time.Duration
	}{{0, 15*second + 1}, {uint64(15 * second), 30*second + 1}, {uint64(30*second) - 1, 45 * second}} {
		c := New(Config{Rand: func() uint64 { return tt.rand }})
		c.Update(0, Message{IP: ip6, HW: hw1, HasHW: true, Kind: NS})
		c.Confirm(0, ip6)
		if got := find(c, ip6).Until; got != tt.want {
			t.Errorf("reachable for %v, want %v (0.5 to 1.5 times 30 s)", got, tt.want)
		}
	}
	draws := uint64(0)
	c := New(Config{Rand: func() uint64 { draws++; return draws }})
	c.Update(0, Message{IP: ip6, HW: hw1, HasHW: true, Kind: NS})
	for now := time.Duration(0); now < 4*time.Hour; now += time.Minute {
		c.Confirm(now, ip6)
	}
	if draws != 2 {
		t.Errorf("drawn %d times in 4 hours, want 2", draws)
	}
	c.SetTimers(10*second, 0)
	c.Confirm(4*time.Hour, ip6)
	if got := find(c, ip6).Until - 4*time.Hour; got > 15*second {
		t.Errorf("after SetTimers(10s): reachable for %v", got)
	}
}

func TestDeadlineIsTheEarliest(t *testing.T) {
	c := in(t, Delay, ip6) // until 5 s
	if at, ok := c.Deadline(); !ok || at != 5*second {
		t.Errorf("in DELAY: Deadline = %v, %v; want 5s", at, ok)
	}
	c.Resolve(second, ip4)
	if at, ok := c.Deadline(); !ok || at != second {
		t.Errorf("one is to be asked for: Deadline = %v, %v; want 1s", at, ok)
	}
	c.Next(second)
	if at, ok := c.Deadline(); !ok || at != 2*second {
		t.Errorf("one was asked for: Deadline = %v, %v; want 2s", at, ok)
	}
	c.Next(4*second + second/2) // asked again, until 5.5 s
	if at, ok := c.Deadline(); !ok || at != 5*second {
		t.Errorf("asked again: Deadline = %v, %v; want 5s, of DELAY", at, ok)
	}
}

func TestSetTimersKeepsOrder(t *testing.T) {
	c := New(Config{})
	c.Resolve(0, ip4)
	c.Next(0)
	c.SetTimers(0, second/4)
	c.Resolve(0, ip6)
	c.Next(0)
	if at, ok := c.Deadline(); !ok || at != second/4 {
		t.Errorf("Deadline = %v, %v; want 250ms, the shorter wait", at, ok)
	}
}

// RFC 9293 §3.8.3, MUST-20: TCP doubts that the next hop is there, and it is asked at once.
func TestC184Doubt(t *testing.T) {
	for _, s := range []State{Reachable, Stale, Delay} {
		c := in(t, s, ip6)
		now := find(c, ip6).Since + second
		if c.Doubt(now-1, ip6); find(c, ip6).State != s {
			t.Errorf("C184: %v is doubted before a RetransTimer is over", s)
		}
		c.Doubt(now, ip6)
		if q, ok := c.Next(now); !ok || q != (Solicit{ip6, hw1, true}) || find(c, ip6).State != Probe {
			t.Errorf("C184: %v in doubt: asked %+v, %v, %v; want a probe", s, q, ok, find(c, ip6).State)
		}
	}
	for _, s := range []State{Incomplete, Probe, Permanent, Unreachable} {
		c := in(t, s, ip6)
		if c.Doubt(time.Hour, ip6); find(c, ip6).State != s {
			t.Errorf("C184: Doubt changed %v to %v", s, find(c, ip6).State)
		}
	}
	New(Config{}).Doubt(0, ip6) // nobody is nobody
}
