package autoconf

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ipv6"
)

// specific is a route to a part of the world that a router has advertised (RFC 4191 §2.3).
type specific struct {
	prefix     netip.Prefix
	via        netip.Addr
	preference ipv6.Preference
	until      time.Duration
}

// redirect is a better next hop for one destination.
type redirect struct {
	dst, via netip.Addr // equal: dst is on the link
	until    time.Duration
}

// silent is a router that does not answer.
type silent struct {
	addr  netip.Addr
	turn  int // who fell silent last is tried last
	probe time.Duration
}

const (
	// probeEvery: RFC 4191 §3.5 has a host ask a router that it avoids once a minute at most.
	probeEvery = time.Minute
	// redirectTime is how long a redirect counts. RFC 4861 §8.3 sets no end, and Linux's route cache has about this one.
	redirectTime = 10 * time.Minute
)

// Bounds on what routers say of packets.
const (
	// minHopLimit: a single packet with a hop limit of 1 would cut a whole link off from all others (CVE-2015-2922). The
	// figure is ours: no path in the Internet is much longer.
	minHopLimit = 32
	// RFC 4861 §6.2.1, AdvReachableTime: "This value MUST be no greater than 3,600,000 milliseconds"; the least is ours, that
	// of the timer below as well: neighbours are asked once in such a time.
	maxReachable = time.Hour
	minReachable = time.Second
	minRetrans   = 100 * time.Millisecond
	maxRetrans   = time.Minute
)

// Advertised is RFC 4861 §6.3.4: it takes in what the router at from advertised.
func (h *Host) Advertised(now time.Duration, from netip.Addr, n *ipv6.NDP) {
	h.Expire(now)
	if n.Lifetime > 0 {
		// RFC 7559 §2.1: a router that is no default router does not end the search for one.
		h.solicit = Forever
	}
	h.packets(n)
	h.router(now, from, uint32(n.Lifetime), n.Preference)
	for k := range n.NumRoutes {
		if r := &n.Routes[k]; r.Prefix.Bits() == 0 {
			// RFC 4191 §3.1: a ::/0 among the routes overrides what the header says
			h.router(now, from, r.Lifetime, r.Preference)
		} else {
			h.route(now, from, r)
		}
	}
	for k := range n.NumPrefixes {
		p := &n.Prefixes[k]
		if p.OnLink {
			h.onLink(now, p)
		}
		if p.Autonomous {
			h.autonomous(now, from, p)
		}
	}
	for k := range n.NumServers {
		h.server(now, &n.Servers[k])
	}
	for k := range n.NumSearch {
		for name := range n.Search[k].All() {
			h.domain(now, name, n.Search[k].Lifetime)
		}
	}
	h.forget()
}

// packets takes in what is said of packets on the link. RFC 4861 §6.3.4: "A Router Advertisement field […] may contain a
// value denoting that it is unspecified. In such cases, the parameter should be ignored and the host should continue using
// whatever value it is already using."
func (h *Host) packets(n *ipv6.NDP) {
	l := h.link
	if n.HopLimit >= minHopLimit {
		l.HopLimit = n.HopLimit
	}
	if d := time.Duration(n.Reachable) * time.Millisecond; d > 0 && d <= maxReachable {
		l.Reachable = max(d, minReachable)
	}
	if d := time.Duration(n.Retrans) * time.Millisecond; d > 0 && d <= maxRetrans {
		l.Retrans = max(d, minRetrans)
	}
	// RFC 4861 §6.3.4: "hosts SHOULD copy the option's value into LinkMTU so long as the value is greater than or equal to the
	// minimum link MTU […] and does not exceed the maximum LinkMTU value specified in the link-type-specific document".
	if int64(n.MTU) >= ipv6.MinMTU && int64(n.MTU) <= int64(h.conf.MTU) {
		l.MTU = int(n.MTU)
	}
	if l != h.link {
		h.link, h.changed = l, true
	}
}

// SetMTU says that the link now carries packets of so many octets.
func (h *Host) SetMTU(n int) {
	h.conf.MTU = n
	if h.link.MTU > n {
		h.link.MTU, h.changed = 0, true
	}
}

// router enters a default router, or takes one away.
func (h *Host) router(now time.Duration, from netip.Addr, lifetime uint32, p ipv6.Preference) {
	k := slices.IndexFunc(h.routers, func(r Router) bool { return r.Addr == from })
	switch {
	case lifetime == 0 && k >= 0:
		// RFC 4861 §6.3.4: "If the address is already present in the host's Default Router List and the received Router
		// Lifetime value is zero, immediately time-out the entry".
		h.routers, h.changed = slices.Delete(h.routers, k, k+1), true
	case lifetime == 0:
	case k >= 0:
		h.changed = h.changed || h.routers[k].Preference != p
		h.routers[k].Preference, h.routers[k].Until = p, until(now, lifetime)
	default:
		best, _ := h.best()
		if room(h, now, &h.routers, MaxRouters, func(k int) bool { return h.routers[k].Addr == best }) {
			h.routers, h.changed = append(h.routers, Router{Addr: from, Preference: p, Until: until(now, lifetime)}), true
		}
	}
}

// route enters a route, or takes one away.
func (h *Host) route(now time.Duration, from netip.Addr, r *ipv6.Route) {
	if r.Prefix.Overlaps(multicast) || r.Prefix.Overlaps(allLinkLocal) || r.Prefix.Contains(netip.IPv6Loopback()) {
		return
	}
	k := slices.IndexFunc(h.routes, func(s specific) bool { return s.via == from && s.prefix == r.Prefix })
	switch {
	case r.Lifetime == 0 && k >= 0:
		h.routes, h.changed = slices.Delete(h.routes, k, k+1), true
	case r.Lifetime == 0:
	case k >= 0:
		h.changed = h.changed || h.routes[k].preference != r.Preference
		h.routes[k].preference, h.routes[k].until = r.Preference, until(now, r.Lifetime)
	case room(h, now, &h.routes, MaxRoutes, func(k int) bool { return h.used(h.routes[k].prefix) }):
		h.routes, h.changed = append(h.routes, specific{r.Prefix, from, r.Preference, until(now, r.Lifetime)}), true
	}
}

// Redirected is RFC 4861 §8.3: it takes in a Redirect from the router at from, and reports whether it is valid as far as
// its codec does not see. firstHop is where packets to its destination go now; invalid: nowhere, or straight there.
func (h *Host) Redirected(now time.Duration, from, firstHop netip.Addr, n *ipv6.NDP) bool {
	// RFC 4861 §8.1: "The IP source address of the Redirect is the same as the current first-hop router for the specified
	// ICMP Destination Address."
	if !firstHop.IsValid() || from != firstHop || n.Target == from || allLinkLocal.Contains(n.Dest) || special.Contains(n.Dest) {
		return false
	}
	h.Expire(now)
	k := slices.IndexFunc(h.redirects, func(r redirect) bool { return r.dst == n.Dest })
	if k >= 0 {
		h.redirects = slices.Delete(h.redirects, k, k+1)
	} else if !room(h, now, &h.redirects, MaxRedirects, func(k int) bool { return h.used(single(h.redirects[k].dst)) }) {
		return true
	}
	h.redirects, h.changed = append(h.redirects, redirect{n.Dest, n.Target, now + redirectTime}), true
	return true
}

// Unreachable says that a neighbour does not answer. RFC 4861 §6.3.6: "Routers that are reachable or probably reachable
// […] SHOULD be preferred over routers whose reachability is unknown or suspect"; and of those that are all silent each gets
// its turn.
func (h *Host) Unreachable(now time.Duration, a netip.Addr) {
	expire(h, &h.redirects, func(r *redirect) bool { return r.via == a })
	if !h.isVia(a) {
		return
	}
	turn := 1
	for _, d := range h.down {
		turn = max(turn, d.turn+1)
	}
	if k := h.isDown(a); k >= 0 {
		h.changed = h.changed || len(h.down) > 1
		h.down[k].turn = turn
		return
	}
	h.down, h.changed = append(h.down, silent{a, turn, now + probeEvery}), true
}

// Reachable says that a neighbour has answered.
func (h *Host) Reachable(a netip.Addr) {
	if k := h.isDown(a); k >= 0 {
		h.down, h.changed = slices.Delete(h.down, k, k+1), true
	}
}

// NotRouter says that a neighbour has said that it is no router. RFC 4861 §7.2.5: "the node MUST remove that router from the
// Default Router List and update the Destination Cache entries for all destinations using that neighbor as a router".
func (h *Host) NotRouter(a netip.Addr) {
	expire(h, &h.routers, func(r *Router) bool { return r.Addr == a })
	expire(h, &h.routes, func(r *specific) bool { return r.via == a })
	expire(h, &h.redirects, func(r *redirect) bool { return r.via == a && r.dst != a })
	h.forget()
}

// isDown is the place in down of a router, or -1.
func (h *Host) isDown(a netip.Addr) int {
	return slices.IndexFunc(h.down, func(d silent) bool { return d.addr == a })
}

// isVia reports whether anything goes over a.
func (h *Host) isVia(a netip.Addr) bool {
	return slices.ContainsFunc(h.routers, func(r Router) bool { return r.Addr == a }) ||
		slices.ContainsFunc(h.routes, func(r specific) bool { return r.via == a })
}

// forget drops what is known of those that nothing goes over any more.
func (h *Host) forget() {
	h.down = slices.DeleteFunc(h.down, func(d silent) bool { return !h.isVia(d.addr) })
}

// turn is 0 of a router that answers, and of others the higher the later they fell silent.
func (h *Host) turn(a netip.Addr) int {
	if k := h.isDown(a); k >= 0 {
		return h.down[k].turn
	}
	return 0
}

// compare orders routes to one prefix, the best first. RFC 4191 §3.2: routers that answer, then those of higher
// preference; then who was there first.
func (h *Host) compare(a, b *specific) int {
	return cmp.Or(cmp.Compare(h.turn(a.via), h.turn(b.via)), cmp.Compare(b.preference, a.preference))
}

// best is the default router that packets go to.
func (h *Host) best() (a netip.Addr, ok bool) {
	for k := range h.routers {
		r := specific{via: h.routers[k].Addr, preference: h.routers[k].Preference}
		if b := (specific{via: a}); ok {
			b.preference = h.routers[h.routerAt(a)].Preference
			if h.compare(&r, &b) >= 0 {
				continue
			}
		}
		a, ok = r.via, true
	}
	return a, ok
}

func (h *Host) routerAt(a netip.Addr) int {
	return slices.IndexFunc(h.routers, func(r Router) bool { return r.Addr == a })
}

// Routers lists the default routers, in the order in which they came.
func (h *Host) Routers() []Router {
	all := slices.Clone(h.routers)
	for k := range all {
		all[k].Unreachable = h.isDown(all[k].Addr) >= 0
	}
	return all
}

// Routes lists the routes to have.
func (h *Host) Routes() []Route {
	var all []Route
	for _, p := range h.prefixes {
		all = append(all, Route{Dst: p.prefix, Until: p.until})
	}
	ways := slices.Clone(h.routes)
	for _, r := range h.routers {
		ways = append(ways, specific{everywhere, r.Addr, r.Preference, r.Until})
	}
	slices.SortStableFunc(ways, func(a, b specific) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()), h.compare(&a, &b))
	})
	for k, w := range ways {
		r := Route{Dst: w.prefix, Via: w.via, Until: w.until}
		if k > 0 && ways[k-1].prefix == w.prefix {
			r.Rank = all[len(all)-1].Rank + 1
		}
		all = append(all, r)
	}
	for _, r := range h.redirects {
		way := Route{Dst: single(r.dst), Via: r.via, Until: r.until}
		if r.via == r.dst {
			way.Via = netip.Addr{}
		}
		all = append(all, way)
	}
	return all
}

var (
	everywhere   = netip.MustParsePrefix("::/0")
	multicast    = netip.MustParsePrefix("ff00::/8")  // RFC 4291 §2.7
	allLinkLocal = netip.MustParsePrefix("fe80::/10") // RFC 4291 §2.4
	special      = netip.MustParsePrefix("::/8")      // RFC 4291 §2.5: loopback, IPv4-mapped and such
)

// single is the prefix of one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
