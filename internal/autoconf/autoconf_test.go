package autoconf

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv6"
)

// Numbers such as C186 are those of rows in the project's list of what a host must do, and A55 those of attacks.

var (
	router1 = netip.MustParseAddr("fe80::1")
	router2 = netip.MustParseAddr("fe80::2")
	router3 = netip.MustParseAddr("fe80::3")
	net1    = netip.MustParsePrefix("2001:db8:1::/64")
	net2    = netip.MustParsePrefix("2001:db8:2::/64")
)

// counter is randomness that is none.
func counter() func() uint64 {
	n := uint64(0x123456789abcdef)
	return func() uint64 { n = n*6364136223846793005 + 1442695040888963407; return n >> 1 }
}

func host(change ...func(*Config)) *Host {
	c := Config{Key: [32]byte{1}, Name: "eth0", MTU: 1500, Rand: counter()}
	for _, f := range change {
		f(&c)
	}
	h := New(c)
	h.Changed()
	return h
}

// ra is an advertisement of a router that serves for half an hour, with prefixes on the link to make addresses of.
func ra(prefixes ...ipv6.Prefix) *ipv6.NDP {
	n := &ipv6.NDP{Type: ipv6.RouterAdvertisement, Lifetime: 1800}
	n.NumPrefixes = copy(n.Prefixes[:], prefixes)
	return n
}

// prefix has both flags.
func prefix(p netip.Prefix, valid, preferred uint32) ipv6.Prefix {
	return ipv6.Prefix{Prefix: p, OnLink: true, Autonomous: true, Valid: valid, Preferred: preferred}
}

// from lists the addresses of a prefix.
func (h *Host) from(p netip.Prefix) (all []Addr) {
	for _, a := range h.Addrs() {
		if p.Contains(a.Prefix.Addr()) {
			all = append(all, a)
		}
	}
	return all
}

// vias lists the routers to dst, the best first, and checks that their ranks say so.
func (h *Host) vias(t *testing.T, dst netip.Prefix) (all []netip.Addr) {
	t.Helper()
	for _, r := range h.Routes() {
		if r.Dst == dst {
			if r.Rank != len(all) {
				t.Errorf("the route %+v has rank %d, want %d", r, r.Rank, len(all))
			}
			all = append(all, r.Via)
		}
	}
	return all
}

func TestC186RouterLifetime(t *testing.T) {
	h := host()
	h.Advertised(0, router1, ra())
	if got := h.vias(t, everywhere); !slices.Equal(got, []netip.Addr{router1}) || !h.Changed() {
		t.Fatalf("default routes over %v, want one over %v", got, router1)
	}
	h.Advertised(10*time.Minute, router1, ra())
	if h.Changed() {
		t.Error("a refresh is a change")
	}
	if at, ok := h.Deadline(); !ok || at != 40*time.Minute {
		t.Errorf("it ends at %v, want 40m", at)
	}
	h.Expire(40*time.Minute - 1)
	if len(h.Routers()) != 1 || h.Changed() {
		t.Error("the router is gone early")
	}
	h.Expire(40 * time.Minute)
	if len(h.Routers()) != 0 || !h.Changed() {
		t.Error("the router is still there after its lifetime")
	}
	h.Advertised(time.Hour, router1, ra())
	bye := ra()
	bye.Lifetime = 0
	h.Advertised(time.Hour, router1, bye)
	if got := h.vias(t, everywhere); len(got) != 0 {
		t.Errorf("a router with lifetime 0 stays: %v", got)
	}
}

func TestC186OnLinkPrefix(t *testing.T) {
	h := host()
	on := func() bool {
		return slices.ContainsFunc(h.Routes(), func(r Route) bool { return r.Dst == net1 && !r.Via.IsValid() })
	}
	p := ipv6.Prefix{Prefix: net1, OnLink: true, Valid: 100}
	h.Advertised(0, router1, ra(p))
	if !on() || len(h.from(net1)) != 0 {
		t.Fatal("a prefix with L and without A is on the link, and makes no address")
	}
	p.OnLink, p.Valid = false, 0
	h.Advertised(50*time.Second, router1, ra(p)) // RFC 4861 §6.3.4: without L, it says nothing of being on the link
	h.Expire(99 * time.Second)
	if !on() {
		t.Error("it is over early")
	}
	h.Expire(100 * time.Second)
	if on() {
		t.Error("it is still there after its lifetime")
	}
	p.OnLink, p.Valid = true, ipv6.Infinite
	h.Advertised(200*time.Second, router1, ra(p))
	h.Expire(1000000 * time.Hour)
	if !on() {
		t.Error("infinity is over")
	}
	p.Valid = 0
	h.Advertised(1000000*time.Hour, router1, ra(p))
	if on() {
		t.Error("lifetime 0 does not end it")
	}
	for _, bad := range []string{"::/0", "ff02::/16", "fe80::/64", "::/8", "::ffff:0:0/96"} {
		h.Advertised(1000000*time.Hour, router1, ra(prefix(netip.MustParsePrefix(bad), 1000, 1000)))
	}
	if got := h.Routes(); len(got) != 1 || len(h.Addrs()) != 1 {
		t.Errorf("A56: taken for a network of the link: %+v, %+v", got, h.Addrs())
	}
}

func TestC186A56Packets(t *testing.T) {
	for _, c := range []struct {
		name      string
		hops      uint8
		mtu       uint32
		reach, re uint32
		want      Link
	}{
		{"nothing", 0, 0, 0, 0, Link{}},
		{"all", 64, 1400, 30000, 1000, Link{1400, 64, 30 * time.Second, time.Second}},
		{"hop limit 1 (CVE-2015-2922)", 1, 0, 0, 0, Link{}},
		{"hop limit 255", 255, 0, 0, 0, Link{HopLimit: 255}},
		{"MTU 68", 0, 68, 0, 0, Link{}},
		{"MTU 1279", 0, 1279, 0, 0, Link{}},
		{"MTU 1280", 0, 1280, 0, 0, Link{MTU: 1280}},
		{"MTU 1500", 0, 1500, 0, 0, Link{MTU: 1500}},
		{"MTU 1501", 0, 1501, 0, 0, Link{}},
		{"MTU 65536", 0, 65536, 0, 0, Link{}},
		{"MTU 2^32-1", 0, 1<<32 - 1, 0, 0, Link{}},
		{"timers 1", 0, 0, 1, 1, Link{Reachable: time.Second, Retrans: 100 * time.Millisecond}},
		{"timers 2^32-1", 0, 0, 1<<32 - 1, 1<<32 - 1, Link{}},
		{"timers at their bounds", 0, 0, 3600000, 60000, Link{Reachable: time.Hour, Retrans: time.Minute}},
		{"timers above their bounds", 0, 0, 3600001, 60001, Link{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host()
			n := ra()
			n.HopLimit, n.MTU, n.Reachable, n.Retrans = c.hops, c.mtu, c.reach, c.re
			h.Advertised(0, router1, n)
			if got := h.Link(); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			before := h.Link()
			h.Advertised(0, router1, ra())
			if h.Link() != before {
				t.Errorf("RFC 4861 §6.3.4: what is not said became %+v, want it as it was", h.Link())
			}
		})
	}
	h := host()
	n := ra()
	n.MTU = 1400
	h.Advertised(0, router1, n)
	if h.SetMTU(1300); h.Link().MTU != 0 {
		t.Error("the routers' MTU is above that of the link")
	}
}

func TestC187Solicitations(t *testing.T) {
	for seed := range 20 {
		h := host()
		if _, ok := h.Deadline(); ok {
			t.Fatal("something is due before Start")
		}
		for range seed {
			h.conf.Rand()
		}
		start := time.Duration(seed) * 100 * time.Hour
		h.Start(start)
		last, wait := start, time.Duration(0)
		for k := range 20 {
			at, ok := h.Deadline()
			if !ok {
				t.Fatal("it gives up")
			}
			if _, early := h.Next(at - 1); early {
				t.Fatal("a question before its time")
			}
			if a, ok := h.Next(at); !ok || a.Probe.IsValid() {
				t.Fatalf("at %v: %+v, %v; want a solicitation", at, a, ok)
			}
			wait, last = at-last, at
			switch {
			case k == 0 && (at < start || at >= start+time.Second):
				t.Errorf("the first after %v, want up to 1s", at-start)
			case k == 1 && (wait < 3600*time.Millisecond || wait > 4400*time.Millisecond):
				t.Errorf("the second after %v, want about 4s", wait)
			case k == 2 && (wait < 6800*time.Millisecond || wait > 9300*time.Millisecond):
				t.Errorf("the third after %v, want about 8s (RFC 7559)", wait)
			case k > 14 && (wait < 54*time.Minute || wait > 66*time.Minute):
				t.Errorf("question %d after %v, want about an hour (RFC 7559)", k, wait)
			}
		}
		none := ra()
		none.Lifetime = 0
		h.Advertised(last, router1, none)
		if _, ok := h.Deadline(); !ok {
			t.Error("RFC 7559 §2.1: a router that is no default router ends the search")
		}
		h.Advertised(last, router1, ra())
		if _, ok := h.Next(last + 1000*time.Hour); ok {
			t.Error("it asks for routers though it has one")
		}
	}
}

func TestC187RouterSelection(t *testing.T) {
	h := host()
	is := func(when string, want ...netip.Addr) {
		t.Helper()
		if got := h.vias(t, everywhere); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	with := func(p ipv6.Preference) *ipv6.NDP {
		n := ra()
		n.Preference = p
		return n
	}
	h.Advertised(0, router1, ra())
	h.Advertised(0, router2, ra())
	is("equals", router1, router2)
	h.Advertised(0, router3, with(ipv6.High))
	is("RFC 4191 preference", router3, router1, router2)
	h.Advertised(0, router1, with(ipv6.Low))
	is("one becomes low", router3, router2, router1)
	h.Changed()
	h.Unreachable(0, router3)
	if !h.Changed() {
		t.Error("a silent router changes nothing")
	}
	is("RFC 4861 §6.3.6: the best is silent", router2, router1, router3)
	h.Unreachable(0, router2)
	h.Unreachable(0, router1)
	is("all are silent: in turn", router3, router2, router1)
	h.Unreachable(0, router3)
	is("silent again", router2, router1, router3)
	if a, ok := h.Next(time.Minute); !ok || !a.Probe.IsValid() {
		t.Errorf("RFC 4191 §3.5: %+v, %v after a minute, want a probe", a, ok)
	}
	probed := 1
	for _, ok := h.Next(time.Minute); ok; _, ok = h.Next(time.Minute) {
		probed++
	}
	if at, _ := h.Deadline(); probed != 3 || at != 2*time.Minute {
		t.Errorf("%d probes, the next at %v; want 3, 2m", probed, at)
	}
	h.Reachable(router3)
	is("the best has come back", router3, router2, router1)
	h.Reachable(router1)
	h.Reachable(router2)
	is("all are back", router3, router2, router1)
	h.NotRouter(router3)
	is("C183: one is no router any more", router2, router1)
	h.Unreachable(0, netip.MustParseAddr("2001:db8::5"))
	if h.Changed(); len(h.down) != 0 {
		t.Error("a neighbour that is no router is remembered")
	}
}

func TestRouteInformation(t *testing.T) {
	h := host()
	dst := netip.MustParsePrefix("2001:db8:77::/48")
	n := ra()
	n.Routes[0], n.NumRoutes = ipv6.Route{Prefix: dst, Preference: ipv6.Low, Lifetime: 600}, 1
	h.Advertised(0, router1, n)
	n.Routes[0].Preference = ipv6.High
	h.Advertised(0, router2, n)
	if got := h.vias(t, dst); !slices.Equal(got, []netip.Addr{router2, router1}) {
		t.Errorf("over %v", got)
	}
	n.Routes[0] = ipv6.Route{Prefix: everywhere, Preference: ipv6.Low, Lifetime: 0} // RFC 4191 §3.1: overrides the header
	h.Advertised(0, router2, n)
	if got := h.vias(t, everywhere); !slices.Equal(got, []netip.Addr{router1}) {
		t.Errorf("default routes over %v", got)
	}
	if got := h.vias(t, dst); len(got) != 2 {
		t.Errorf("what an advertisement does not name is over: %v", got)
	}
	h.Expire(10 * time.Minute)
	if got := h.vias(t, dst); len(got) != 0 {
		t.Errorf("after its lifetime: %v", got)
	}
	for _, bad := range []string{"ff00::/8", "fe80::/64", "::/1", "::1/128"} {
		n.Routes[0] = ipv6.Route{Prefix: netip.MustParsePrefix(bad), Lifetime: 600}
		h.Advertised(0, router1, n)
	}
	if len(h.routes) != 0 {
		t.Errorf("routes of no sense: %+v", h.routes)
	}
}

func TestC188Redirects(t *testing.T) {
	far, near := netip.MustParseAddr("2001:db8:9::9"), netip.MustParseAddr("2001:db8:1::77")
	other := netip.MustParseAddr("fe80::66")
	for _, c := range []struct {
		name      string
		from, hop netip.Addr
		n         ipv6.NDP
		valid     bool
		via       netip.Addr
	}{
		{"another router", router1, router1, ipv6.NDP{Target: router2, Dest: far}, true, router2},
		{"on the link", router1, router1, ipv6.NDP{Target: near, Dest: near}, true, netip.Addr{}},
		{"not from the first hop", other, router1, ipv6.NDP{Target: other, Dest: far}, false, router1},
		{"no first hop", router1, netip.Addr{}, ipv6.NDP{Target: router2, Dest: far}, false, router1},
		{"to itself", router1, router1, ipv6.NDP{Target: router1, Dest: far}, false, router1},
		{"of a link-local destination", router1, router1, ipv6.NDP{Target: other, Dest: netip.MustParseAddr("fe80::9")}, false, router1},
		{"of the loopback", router1, router1, ipv6.NDP{Target: other, Dest: netip.IPv6Loopback()}, false, router1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host()
			h.Advertised(0, router1, ra())
			if got := h.Redirected(0, c.from, c.hop, &c.n); got != c.valid {
				t.Errorf("valid: %v, want %v", got, c.valid)
			}
			got := h.vias(t, single(c.n.Dest))
			if c.valid != (len(got) == 1) || c.valid && got[0] != c.via {
				t.Fatalf("over %v, want %v", got, c.via)
			}
			if c.valid && c.via.IsValid() {
				if h.Unreachable(0, c.via); len(h.vias(t, single(c.n.Dest))) != 0 {
					t.Error("it stays though the target is silent")
				}
			}
			if h.Expire(redirectTime); len(h.redirects) != 0 {
				t.Error("it stays for ever")
			}
		})
	}
}

func TestC191PrefixRules(t *testing.T) {
	for _, c := range []struct {
		name string
		p    ipv6.Prefix
		want int
	}{
		{"good", prefix(net1, 1000, 500), 1},
		{"no preferred lifetime", prefix(net1, 1000, 0), 1},
		{"without A", ipv6.Prefix{Prefix: net1, OnLink: true, Valid: 1000, Preferred: 1000}, 0},
		{"A without L", ipv6.Prefix{Prefix: net1, Autonomous: true, Valid: 1000, Preferred: 1000}, 1},
		{"preferred longer than valid", prefix(net1, 1000, 1001), 0},
		{"valid 0", prefix(net1, 0, 0), 0},
		{"a /63", prefix(netip.MustParsePrefix("2001:db8::/63"), 1000, 1000), 0},
		{"a /65", prefix(netip.MustParsePrefix("2001:db8::/65"), 1000, 1000), 0},
		{"link-local", prefix(linkLocal, 1, 1), 0},
		{"multicast", prefix(netip.MustParsePrefix("ff02::/64"), 1000, 1000), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host()
			h.Advertised(0, router1, ra(c.p))
			got := h.from(c.p.Prefix)
			if c.p.Prefix == linkLocal {
				if len(got) != 1 || got[0].Valid != Forever {
					t.Errorf("the link-local address: %+v", got)
				}
				return
			}
			if len(got) != c.want || c.want == 1 && (got[0].Router != router1 || got[0].Deprecated != (c.p.Preferred == 0)) {
				t.Errorf("%+v, want %d", got, c.want)
			}
		})
	}
}

func TestC191TwoHours(t *testing.T) {
	const hour = 3600
	for _, c := range []struct {
		name          string
		first, second uint32 // valid lifetimes, the second advertised after an hour
		want          time.Duration
	}{
		{"longer", 3 * hour, 4 * hour, 5 * time.Hour},
		{"above two hours", 10 * hour, 3 * hour, 4 * time.Hour},
		{"1 s of nine hours", 10 * hour, 1, 3 * time.Hour},
		{"0 s of nine hours", 10 * hour, 0, 3 * time.Hour},
		{"1 s of one hour", 2 * hour, 1, 2 * time.Hour},
		{"longer than what is left of one hour", 2 * hour, hour + 1, 2*time.Hour + time.Second},
		{"infinity", 10 * hour, ipv6.Infinite, Forever},
		{"1 s of infinity", ipv6.Infinite, 1, 3 * time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := host()
			h.Advertised(0, router1, ra(prefix(net1, c.first, min(c.first, hour/2))))
			h.Advertised(time.Hour, router1, ra(prefix(net1, c.second, 0)))
			got := h.from(net1)
			if len(got) != 1 || got[0].Valid != c.want || !got[0].Deprecated {
				t.Errorf("%+v, want it to end at %v, and deprecated", got, c.want)
			}
		})
	}
}

func TestC191Deprecation(t *testing.T) {
	h := host()
	h.Advertised(0, router1, ra(prefix(net1, 1000, 100)))
	first := h.from(net1)[0].Prefix
	step := func(at time.Duration, changed bool, n int, deprecated bool) {
		t.Helper()
		h.Changed()
		h.Expire(at)
		got := h.from(net1)
		if h.Changed() != changed || len(got) != n || n > 0 && (got[0].Deprecated != deprecated || got[0].Prefix != first) {
			t.Errorf("at %v: %+v; want %d, deprecated %v, a change %v", at, got, n, deprecated, changed)
		}
	}
	step(99*time.Second, false, 1, false)
	step(100*time.Second, true, 1, true)
	step(999*time.Second, false, 1, true)
	h.Advertised(999*time.Second, router1, ra(prefix(net1, 1000, 100)))
	if got := h.from(net1); !h.Changed() || got[0].Deprecated {
		t.Errorf("it is not preferred again: %+v", got)
	}
	step(1999*time.Second, true, 0, false)
}
