// Package autoconf is how a host finds its IPv6 addresses, its routers and its name servers by itself: router discovery
// (RFC 4861 §6.3), address autoconfiguration (RFC 4862) and duplicate address detection (RFC 7527).
//
// A Host is what one interface has learned. It has no clock, lock or goroutine, sends nothing and configures nothing. Its
// caller says what time it is and what arrived, and is told what to send and what is to be configured:
//
//	h.Start(now)                      // the link is there
//	h.Advertised(now, router, &ra)    // a Router Advertisement that its codec found valid
//	h.Redirected(now, router, hop, &m) // a Redirect
//	h.Duplicate(now, address)         // somebody else has it
//	at, ok := h.Deadline()            // when to do the following, after each of the above
//	h.Expire(now)
//	a, ok := h.Next(now)              // send this; again until !ok
//	if h.Changed() { … }              // then Addrs, Routes, Servers, Domains and Link say how things are to be
//
// Everything that a stranger on the link can fill is bounded. What is full takes in something new once a second, in the
// place of the oldest that nobody uses: a flood neither pushes out what works, nor locks out for long what is honest.
package autoconf

import (
	"net/netip"
	"slices"
	"time"

	"github.com/seed87e66d9f/waybill/ipv6"
)

// Forever is the end of what does not end.
const Forever = time.Duration(1<<63 - 1)

// Bounds on what is learned. The RFCs have none; a link has one or two of each.
const (
	MaxRouters   = 16 // default routers
	MaxPrefixes  = 16 // networks on the link
	MaxAddrs     = 16 // addresses, as Linux's max_addresses
	MaxRoutes    = 32 // more specific routes
	MaxRedirects = 64 // destinations with a better next hop
	MaxServers   = 8  // name servers; RFC 8106 §5.3.1 asks for three
	MaxDomains   = 8  // domains of the search list; RFC 8106 §5.3.1 asks for three

	evictEvery = time.Second // how often something that is there makes room for something new
)

// Config says how a Host behaves.
type Config struct {
	Key       [32]byte      // RFC 7217 §5's secret_key: the same key, name and prefix make the same address
	Name      string        // RFC 7217 §5's Net_Iface
	MTU       int           // of the link, in octets
	Temporary bool          // RFC 8981: form temporary addresses besides
	Rand      func() uint64 // random bits, which nobody can predict

	// Used reports whether anything is connected from or to an address of the prefix; nil: nothing is. It is asked
	// before something is thrown out, at most once a second for all of it together.
	Used func(netip.Prefix) bool
}

// Addr is an address to have.
type Addr struct {
	Prefix           netip.Prefix // the address itself, with the length of its prefix
	Router           netip.Addr   // who advertised the prefix; invalid of the link-local one
	Temporary        bool         // RFC 8981
	Deprecated       bool         // Preferred is over
	Preferred, Valid time.Duration
}

// Route is a route to have.
type Route struct {
	Dst   netip.Prefix
	Via   netip.Addr // the router; invalid: Dst is on the link
	Rank  int        // 0 of the best one to Dst, then 1, and so on
	Until time.Duration
}

// Router is a default router.
type Router struct {
	Addr        netip.Addr
	Preference  ipv6.Preference
	Until       time.Duration
	Unreachable bool // it did not answer: others are preferred
}

// Server is a name server.
type Server struct {
	Addr  netip.Addr
	Until time.Duration
}

// Domain is one to look up names in that are not complete.
type Domain struct {
	Name  string
	Until time.Duration
}

// Link is what routers say of packets on the link. What is zero they have not said.
type Link struct {
	MTU                int           // octets, at most that of the link
	HopLimit           uint8         // of packets to send
	Reachable, Retrans time.Duration // RFC 4861 §6.3.2's BaseReachableTime and RetransTimer
}

// Host is what one interface has learned. New makes one.
type Host struct {
	conf    Config
	changed bool
	link    Link
	evicted time.Duration // when something last had to make room

	solicit  time.Duration // when to ask for routers; Forever: never
	interval time.Duration // until the next time; 0: not asked yet

	routers   []Router // in the order in which they came, like all that follows
	down      []silent
	prefixes  []onLink
	autos     []auto
	routes    []specific
	redirects []redirect
	servers   []Server
	domains   []Domain
}

// New makes a host that has a link-local address to be (RFC 4862 §5.3), and asks nothing before Start.
func New(c Config) *Host {
	h := &Host{conf: c, solicit: Forever, evicted: -evictEvery}
	h.autos = []auto{{prefix: linkLocal, preferred: Forever, valid: Forever, retry: Forever}}
	h.form(&h.autos[0])
	return h
}

var linkLocal = netip.MustParsePrefix("fe80::/64") // RFC 4291 §2.5.6

// Changed reports whether there is something else to configure than when it was asked before. That only a lifetime is
// longer or shorter is no change.
func (h *Host) Changed() bool {
	c := h.changed
	h.changed = false
	return c
}

// Link is what the routers have said of packets.
func (h *Host) Link() Link { return h.link }

// Servers lists the name servers, the first to ask first.
func (h *Host) Servers() []Server { return slices.Clone(h.servers) }

// Domains is the search list.
func (h *Host) Domains() []Domain { return slices.Clone(h.domains) }

// Action is something to send.
type Action struct {
	// Probe is a router to ask whether it is there again, as neighbours are asked. Where it is invalid, a Router
	// Solicitation is due, to all routers.
	Probe netip.Addr
}

// Start begins to ask for routers: the link is there, or is there again.
func (h *Host) Start(now time.Duration) {
	// RFC 4861 §6.3.7: "Before a host sends an initial solicitation, it SHOULD delay the transmission for a random amount
	// of time between 0 and MAX_RTR_SOLICITATION_DELAY."
	h.solicit, h.interval = now+h.random(maxSolicitationDelay), 0
}

// RFC 4861 §10, and RFC 7559 §2.
const (
	maxSolicitationDelay = time.Second     // MAX_RTR_SOLICITATION_DELAY
	firstInterval        = 4 * time.Second // IRT
	longestInterval      = time.Hour       // MRT
)

// Next is what is to be sent now; ok is false where there is nothing.
func (h *Host) Next(now time.Duration) (a Action, ok bool) {
	if now >= h.solicit {
		// RFC 7559 §2, which updates RFC 4861's three questions: each wait is about twice the one before, and there is no
		// end to it, since the answer of a network that is slow to come up would else be missed.
		switch jitter := h.random(2*time.Second) - time.Second; { // RAND, a tenth either way, of a second
		case h.interval == 0:
			h.interval = firstInterval + scale(firstInterval, jitter)
		default:
			h.interval = 2*h.interval + scale(h.interval, jitter)
			if h.interval > longestInterval {
				h.interval = longestInterval + scale(longestInterval, jitter)
			}
		}
		h.solicit = now + h.interval
		return Action{}, true
	}
	for k := range h.down {
		if d := &h.down[k]; now >= d.probe {
			d.probe = now + probeEvery
			return Action{Probe: d.addr}, true
		}
	}
	return Action{}, false
}

// scale is a tenth of d, times a fraction of a second.
func scale(d, fraction time.Duration) time.Duration {
	return time.Duration(float64(d) / 10 * fraction.Seconds())
}

// random is a time from 0 up to d, exclusive.
func (h *Host) random(d time.Duration) time.Duration {
	return time.Duration(h.conf.Rand() % uint64(d))
}

// Deadline is when Expire and Next are to be called.
func (h *Host) Deadline() (at time.Duration, ok bool) {
	at = h.solicit
	for _, r := range h.routers {
		at = min(at, r.Until)
	}
	for _, d := range h.down {
		at = min(at, d.probe)
	}
	for _, p := range h.prefixes {
		at = min(at, p.until)
	}
	for k := range h.autos {
		at = min(at, h.autos[k].deadline())
	}
	for _, r := range h.routes {
		at = min(at, r.until)
	}
	for _, r := range h.redirects {
		at = min(at, r.until)
	}
	for _, s := range h.servers {
		at = min(at, s.Until)
	}
	for _, d := range h.domains {
		at = min(at, d.Until)
	}
	return at, at != Forever
}

// Expire ends what is over.
func (h *Host) Expire(now time.Duration) {
	expire(h, &h.routers, func(r *Router) bool { return now >= r.Until })
	expire(h, &h.prefixes, func(p *onLink) bool { return now >= p.until })
	expire(h, &h.autos, func(a *auto) bool { return now >= a.valid })
	expire(h, &h.routes, func(r *specific) bool { return now >= r.until })
	expire(h, &h.redirects, func(r *redirect) bool { return now >= r.until })
	expire(h, &h.servers, func(s *Server) bool { return now >= s.Until })
	expire(h, &h.domains, func(d *Domain) bool { return now >= d.Until })
	for k := range h.autos {
		h.age(now, &h.autos[k])
	}
	h.forget()
}

// expire takes what is over from a list.
func expire[T any](h *Host, list *[]T, over func(*T) bool) {
	n := len(*list)
	*list = slices.DeleteFunc(*list, func(x T) bool { return over(&x) })
	h.changed = h.changed || len(*list) < n
}

// room makes room for one more in a list of at most most, and reports whether there is.
func room[T any](h *Host, now time.Duration, list *[]T, most int, used func(k int) bool) bool {
	if len(*list) < most {
		return true
	}
	if now-h.evicted < evictEvery {
		return false
	}
	h.evicted = now
	for k := range *list {
		if !used(k) {
			*list = slices.Delete(*list, k, k+1)
			h.changed = true
			return true
		}
	}
	return false
}

// used reports whether anything is connected from or to an address of p.
func (h *Host) used(p netip.Prefix) bool { return h.conf.Used != nil && h.conf.Used(p) }

// until is when a lifetime of so many seconds ends.
func until(now time.Duration, seconds uint32) time.Duration {
	if seconds == ipv6.Infinite {
		return Forever
	}
	return now + time.Duration(seconds)*time.Second
}
