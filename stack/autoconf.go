package stack

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/autoconf"
	"github.com/seed87e66d9f/waybill/internal/neighbor"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// AutoConfig is how an interface configures itself. The zero AutoConfig works.
type AutoConfig struct {
	// Key is a secret of this host's. With the same key, and the same name of the interface, an interface has the same
	// address whenever it comes to a network, and in each network another one (RFC 7217). Nil: a new one with each Stack.
	Key []byte
	// Temporary has the interface make addresses besides that change once a day, and connect from those (RFC 8981).
	Temporary bool
}

// auto is what an interface learns from routers.
type auto struct {
	on       atomic.Bool                   // Autoconfigure was called
	link     atomic.Pointer[autoconf.Link] // what routers say of packets
	applying sync.Mutex                    // held by who makes the interface be as host says; taken before the one below

	sync.Mutex
	host    *autoconf.Host
	pending bool          // host says something else than how the interface is
	at      time.Duration // when the interface was last changed
	alarm   alarm

	routes []derivedRoute // that the interface has of host; guarded by applying
}

// applyEvery is how often an interface changes at most, whatever floods the link. A failed router counts at once. The figure
// is ours.
const applyEvery = 100 * time.Millisecond

// Metrics of what routers advertise: Linux's for either.
const (
	metricOnLink = 256
	metricRouter = 1024 // and above: the worse ones
)

// Autoconfigure has the interface find its IPv6 addresses, routers, routes and name servers by itself, as the routers of its
// link advertise them (RFC 4861, RFC 4862), and follow them from now on. Its link-local address becomes one that does not
// tell its hardware address. What was configured by hand stays and prevails. The error wraps EOPNOTSUPP where the
// interface is not Ethernet or carries no IPv6, and EALREADY where it does so already.
func (i *Interface) Autoconfigure(c AutoConfig) error {
	if err := i.autoconfigure(&c); err != nil {
		return fmt.Errorf("stack: %s: autoconfiguration: %w", i.name, err)
	}
	return nil
}

func (i *Interface) autoconfigure(c *AutoConfig) error {
	s := i.stack
	if !i.caps.Ethernet || i.live.Load().caps.MTU < ipv6.MinMTU {
		return syscall.EOPNOTSUPP
	}
	conf := autoconf.Config{Key: s.secret.key, Name: i.name, MTU: i.live.Load().caps.MTU, Temporary: c.Temporary, Rand: s.secret.random, Used: s.connected}
	if len(c.Key) > 0 {
		conf.Key = sha256.Sum256(c.Key)
	} else {
		conf.Key = sha256.Sum256(append(conf.Key[:], "autoconfiguration"...)) // which tells nothing of the key of sequence numbers
	}
	i.auto.Lock()
	if i.auto.host != nil {
		i.auto.Unlock()
		return syscall.EALREADY
	}
	if s.closed.Load() {
		i.auto.Unlock()
		return net.ErrClosed
	}
	i.auto.host = autoconf.New(conf)
	i.auto.on.Store(true)
	i.auto.Unlock()
	now := s.now()
	i.learn(now, func(h *autoconf.Host) { h.Start(now) })
	i.remove(ipv6.LinkLocal(i.mac)) // RFC 8064 §3
	return nil
}

// connected reports whether a connection is from or to an address of p.
func (s *Stack) connected(p netip.Prefix) bool {
	for c := range s.each() {
		if p.Contains(c.localAddr()) || p.Contains(c.remoteAddr()) {
			return true
		}
	}
	return false
}

// learn tells what has happened to what the interface has learned, and does what follows. No lock is held.
func (i *Interface) learn(now time.Duration, event func(*autoconf.Host)) {
	if !i.auto.on.Load() {
		return
	}
	a := &i.auto
	a.Lock()
	event(a.host)
	a.Unlock()
	i.act(now)
}

// act sends what is due, and makes the interface be as it has learned.
func (i *Interface) act(now time.Duration) {
	i.configure(now)
	var todo []autoconf.Action
	i.auto.Lock()
	for {
		do, ok := i.auto.host.Next(now)
		if !ok {
			break
		}
		todo = append(todo, do)
	}
	if at, ok := i.auto.host.Deadline(); ok {
		i.auto.alarm.set(at)
	}
	i.auto.Unlock()
	for _, do := range todo {
		if do.Probe.IsValid() {
			i.neigh.ask(now, do.Probe)
		} else {
			i.solicitRouters()
		}
	}
}

// tickAuto does what time has brought.
func (i *Interface) tickAuto(now time.Duration) {
	i.auto.Lock()
	fired := i.auto.alarm.fired()
	i.auto.Unlock()
	if fired {
		i.learn(now, func(h *autoconf.Host) { h.Expire(now) })
	}
}

// inputRouter takes in a Router Advertisement or a Redirect, which its codec has found valid.
func (i *Interface) inputRouter(now time.Duration, in *inbox, n *ipv6.NDP) {
	m := &in.m
	switch {
	case !i.auto.on.Load():
		in.drop(UnknownICMP)
	case i.has(m.src):
		in.drop(LoopedBack)
	case n.Type == ipv6.RouterAdvertisement:
		i.neigh.update(now, neighbor.Message{IP: m.src, HW: n.SourceLL, HasHW: n.HasSourceLL, Kind: neighbor.RA})
		from := m.src
		i.learn(now, func(h *autoconf.Host) { h.Advertised(now, from, n) })
	default:
		i.redirected(now, in, n)
	}
}

// redirected is RFC 4861 §8.3.
func (i *Interface) redirected(now time.Duration, in *inbox, n *ipv6.NDP) {
	var first netip.Addr
	if h, ok := i.stack.view.Load().lookup(n.Dest, i.index); ok && h.ifc == i {
		first = h.via
	}
	valid, from := false, in.m.src
	if !i.has(n.Target) && !i.has(n.Dest) {
		i.learn(now, func(h *autoconf.Host) { valid = h.Redirected(now, from, first, n) })
	}
	if !valid {
		in.drop(BadNDP)
		return
	}
	i.neigh.update(now, neighbor.Message{IP: n.Target, HW: n.TargetLL, HasHW: n.HasTargetLL, Kind: neighbor.NS})
}

// lost tells of neighbours that do not answer, which may be routers: what went there goes another way at once.
func (i *Interface) lost(now time.Duration, gone []netip.Addr) {
	if len(gone) == 0 {
		return
	}
	i.learn(now, func(h *autoconf.Host) {
		for _, ip := range gone {
			h.Unreachable(now, ip)
		}
		i.auto.at = -applyEvery
	})
}

// duplicated tells that an address of the interface turned out to be somebody else's.
func (i *Interface) duplicated(a netip.Addr) {
	now := i.stack.now()
	i.learn(now, func(h *autoconf.Host) {
		if _, last := h.Duplicate(now, a); last {
			i.stack.log.Error("no address to be had: all that were tried are taken", "interface", i.name, "last", a)
		}
	})
}

// remeasure tells of the link's MTU.
func (i *Interface) remeasure(now time.Duration, mtu int) {
	i.learn(now, func(h *autoconf.Host) { h.SetMTU(mtu) })
}

// ask has a neighbour asked for, as if a packet went there.
func (n *neighbors) ask(now time.Duration, ip netip.Addr) {
	n.Lock()
	defer n.Unlock()
	if n.parked == nil {
		return
	}
	n.cache.Resolve(now, ip)
	if at, ok := n.cache.Deadline(); ok {
		n.alarm.set(at)
	}
}

var allRouters = netip.MustParseAddr("ff02::2") // RFC 4291 §2.7.1

// solicitRouters asks all routers for their advertisements (RFC 4861 §6.3.7).
func (i *Interface) solicitRouters() {
	src := netip.IPv6Unspecified()
	m := ipv6.NDP{Type: ipv6.RouterSolicitation}
	for _, a := range *i.addrs.Load() {
		if addr := a.Prefix.Addr(); addr.Is6() && addr.IsLinkLocalUnicast() {
			// RFC 4429 §3.2: a router that is asked from an optimistic address must not learn its station address
			src, m.SourceLL, m.HasSourceLL = addr, i.mac, a.State == AddrValid
			break
		}
	}
	i.sendNDP(ethernet.Multicast(allRouters), src, allRouters, &m)
}

// Router is a default router that advertises itself.
type Router struct {
	Interface  *Interface
	IP         netip.Addr
	Preference string    // as RFC 4191 §2.1 calls it: "low", "medium" or "high"
	Expires    time.Time // when its lifetime ends; zero: never
	Reachable  bool      // false: it did not answer, and others are preferred
}

// Routers lists the default routers that interfaces have learned of (see Interface.Autoconfigure).
func (s *Stack) Routers() iter.Seq[Router] {
	return func(yield func(Router) bool) {
		for _, i := range s.view.Load().ifaces {
			var all []autoconf.Router
			i.read(func(h *autoconf.Host) { all = h.Routers() })
			for _, r := range all {
				if !yield(Router{i, r.Addr, r.Preference.String(), s.end(r.Until), !r.Unreachable}) {
					return
				}
			}
		}
	}
}

// read looks at what the interface has learned, if anything.
func (i *Interface) read(look func(*autoconf.Host)) {
	if i.auto.on.Load() {
		i.auto.Lock()
		defer i.auto.Unlock()
		look(i.auto.host)
	}
}

// end is an end of a lifetime as a user sees it.
func (s *Stack) end(at time.Duration) time.Time {
	if at == autoconf.Forever {
		return time.Time{}
	}
	return s.start.Add(at)
}

// withLifetimes fills the lifetimes into addresses of the interface.
func (i *Interface) withLifetimes(addrs []Addr) []Addr {
	i.read(func(h *autoconf.Host) {
		for _, x := range h.Addrs() {
			k := slices.IndexFunc(addrs, func(a Addr) bool { return a.auto && a.Prefix == x.Prefix })
			if k >= 0 {
				addrs[k].PreferredUntil, addrs[k].ValidUntil = i.stack.end(x.Preferred), i.stack.end(x.Valid)
			}
		}
	})
	return addrs
}
