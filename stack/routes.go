package stack

import (
	"cmp"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// Route is a line of the routing table. Of routes that contain an address the one with the longest prefix counts, and among
// those with one prefix the one of the lowest metric whose interface is up.
type Route struct {
	Dst       netip.Prefix
	Via       netip.Addr // the gateway; invalid where Dst is on the link
	Interface *Interface // nil of a route that leads nowhere
	Metric    uint32
	Type      RouteType
	Source    netip.Addr // the address to send from where the sender names none; invalid: RFC 6724 chooses
	Static    bool       // AddRoute's or AddRouteWith's; else it follows from an address of ours, or a router has advertised it
	Expires   time.Time  // when the lifetime ends that a router has given it; zero: it has none
}

// RouteType says what becomes of the packets of a route.
type RouteType uint8

// The types of routes. A sender is told of the last three as Linux tells it.
const (
	RouteUnicast     RouteType = iota // they go to the gateway, or straight to the destination
	RouteLocal                        // they are for us
	RouteBlackhole                    // they vanish; a sender here gets EINVAL
	RouteUnreachable                  // nobody is there: EHOSTUNREACH
	RouteProhibited                   // they may not: EACCES
)

// String is the type as ip-route(8) calls it.
func (t RouteType) String() string {
	if names := [...]string{"unicast", "local", "blackhole", "unreachable", "prohibit"}; int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("RouteType(%d)", uint8(t))
}

// AddRoute sends what goes to dst over i, to the gateway via, or straight to the destination where via is the zero
// netip.Addr. 0.0.0.0/0 and ::/0 are the default routes. A nil i is found by the gateway's address, or its zone.
// Connections that are open go the new way from now on, in segments of a size that fits it.
// The error wraps ENETUNREACH where no interface reaches the gateway, EINVAL where the families differ, EEXIST where
// there is such a route.
func (s *Stack) AddRoute(dst netip.Prefix, via netip.Addr, i *Interface) error {
	return s.AddRouteWith(Route{Dst: dst, Via: via, Interface: i})
}

// AddRouteWith is AddRoute of a route with a metric, of another type than RouteUnicast, or with an address to send from. A
// route that leads nowhere has neither Via nor Interface. RouteLocal is nobody's to add, and Static goes without saying.
func (s *Stack) AddRouteWith(r Route) error {
	if err := s.addRoute(&r); err != nil {
		return fmt.Errorf("stack: route %v via %v: %w", r.Dst, r.Via, err)
	}
	return nil
}

func (s *Stack) addRoute(r *Route) error {
	if !r.Dst.IsValid() || r.Type == RouteLocal || r.Type > RouteProhibited ||
		r.Via.IsValid() && r.Via.Is4() != r.Dst.Addr().Is4() || r.Source.IsValid() && r.Source.Is4() != r.Dst.Addr().Is4() ||
		(r.Type == RouteUnicast) != (r.Via.IsValid() || r.Interface != nil) {
		return syscall.EINVAL
	}
	s.admin.Lock()
	i, err := s.toward(r)
	if err != nil {
		s.admin.Unlock()
		return err
	}
	h := hop{ifc: i, via: r.Via.WithZone(""), src: r.Source.WithZone(""), metric: r.Metric, kind: r.Type, static: true}
	dst := r.Dst.Masked()
	ways, _ := s.view.Load().table.Find(dst)
	if slices.ContainsFunc(ways, func(o hop) bool { return o.static && o.ifc == i && o.metric == h.metric }) {
		s.admin.Unlock()
		return syscall.EEXIST
	}
	old := s.replaceView(func(v *view) { v.insert(dst, h) })
	s.admin.Unlock()
	s.reroute(s.now(), old, dst)
	return nil
}

// toward is the interface that a route goes over. s.admin is held.
func (s *Stack) toward(r *Route) (*Interface, error) {
	v, i := s.view.Load(), r.Interface
	if r.Type != RouteUnicast {
		return nil, nil
	}
	if i == nil {
		zone, err := s.zoneIndex(r.Via.Zone())
		if err != nil {
			return nil, syscall.ENODEV
		}
		h, ok := v.lookup(r.Via.WithZone(""), zone)
		if !ok || h.via.IsValid() || h.ifc.loopback {
			return nil, syscall.ENETUNREACH
		}
		i = h.ifc
	}
	if i.stack != s {
		return nil, syscall.ENODEV
	}
	return i, nil
}

// DeleteRoute takes away a route that was added. Dst says which, and what else of r is not zero, but for Static; of several
// that fit the one goes that counts first. Connections that went there go another way, if there is one, or hear
// nothing any more; the error wraps ESRCH where there is no such route.
func (s *Stack) DeleteRoute(r Route) error {
	if !r.Dst.IsValid() {
		return fmt.Errorf("stack: route %v: %w", r.Dst, syscall.EINVAL)
	}
	dst, found := r.Dst.Masked(), false
	s.admin.Lock()
	old := s.replaceView(func(v *view) {
		v.delete(dst, func(h *hop) bool {
			fits := !found && h.static && (!r.Via.IsValid() || h.via == r.Via.WithZone("")) && (r.Interface == nil || h.ifc == r.Interface) &&
				(r.Metric == 0 || h.metric == r.Metric) && (r.Type == 0 || h.kind == r.Type) && (!r.Source.IsValid() || h.src == r.Source)
			found = found || fits
			return fits
		})
	})
	s.admin.Unlock()
	if !found {
		return fmt.Errorf("stack: route %v via %v: %w", dst, r.Via, syscall.ESRCH)
	}
	s.reroute(s.now(), old, dst)
	return nil
}

// insert adds a route. Among those to one prefix the lowest metric comes first, then what follows from an address, then what
// was there before. Slices of hops are never changed, since older views have them.
func (v *view) insert(p netip.Prefix, h hop) {
	ways, _ := v.table.Find(p)
	at, _ := slices.BinarySearchFunc(ways, h, func(o, h hop) int {
		if c := cmp.Compare(o.metric, h.metric); c != 0 {
			return c
		}
		if !h.static && o.static {
			return 1
		}
		return -1
	})
	v.table = v.table.Insert(p, slices.Insert(slices.Clip(slices.Clone(ways)), at, h))
}

// delete takes away the routes to a prefix that fit.
func (v *view) delete(p netip.Prefix, fits func(*hop) bool) {
	ways, _ := v.table.Find(p)
	var left []hop
	for k := range ways {
		if !fits(&ways[k]) {
			left = append(left, ways[k])
		}
	}
	switch {
	case len(left) == len(ways):
	case len(left) == 0:
		v.table = v.table.Delete(p)
	default:
		v.table = v.table.Insert(p, left)
	}
}

// reroute lets the connections to p whose way has become another since the view was old take it, in segments that fit.
func (s *Stack) reroute(now time.Duration, old *view, p netip.Prefix) {
	for _, l := range s.ports.listeners() {
		l.pass() // as in resize
	}
	for c := range s.each() {
		if src, dst := c.localAddr(), c.remoteAddr(); p.Contains(dst) {
			v := s.view.Load()
			h, ok := v.route(src, dst, c.flow.Zone)
			was, had := old.route(src, dst, c.flow.Zone)
			if ok && (!had || h.ifc != was.ifc || h.via != was.via) {
				c.mu.Lock()
				c.redirect(now, h.ifc)
				c.mu.Unlock()
			}
		}
	}
}

// redirect sends what c has to send over another interface or gateway from now on. c.mu is held.
func (c *TCPConn) redirect(now time.Duration, i *Interface) {
	if c.gone || c.tcb == nil || c.tcb.State() == tcp.Closed {
		return
	}
	to := i.live.Load().config(c.remoteAddr().Is6())
	c.fit(now, i)
	// A segment that waits was built for the old way. One that is too long for the new one counts as lost there.
	if p := c.parked; p != nil && !c.sending {
		if p.text() > to.MTU-tcp.MaxHeaderLen || !c.build(p) {
			c.parked = nil
			c.stack.free(p)
		}
	}
	c.output(now)
}

// text is the length of a segment's text.
func (p *packet) text() (n int) {
	for _, t := range p.seg.Text {
		n += len(t)
	}
	return n
}

// noWay is why build found no way for a segment: what a socket may learn of it.
func (c *TCPConn) noWay() tcp.Reason {
	h, _ := c.stack.view.Load().route(c.localAddr(), c.remoteAddr(), c.flow.Zone)
	switch h.kind {
	case RouteBlackhole: // Linux says nothing, and lets the connection time out
		return tcp.None
	case RouteUnreachable:
		return tcp.HostUnreachable
	case RouteProhibited:
		return tcp.Prohibited
	}
	return tcp.NetUnreachable
}

// switched is called when the link of i has come or gone: connections that have another way beside i may change over.
func (i *Interface) switched(now time.Duration) {
	s := i.stack
	for c := range s.each() {
		v, dst := s.view.Load(), c.remoteAddr()
		ways, _ := v.table.Lookup(dst)
		if len(ways) < 2 || !slices.ContainsFunc(ways, func(h hop) bool { return h.ifc == i }) {
			continue
		}
		if h, ok := v.route(c.localAddr(), dst, c.flow.Zone); ok {
			c.mu.Lock()
			c.redirect(now, h.ifc)
			c.mu.Unlock()
		}
	}
}

// Routes lists the routing table, longest prefixes first, and among equal ones in the order in which they count.
func (s *Stack) Routes() iter.Seq[Route] {
	v := s.view.Load()
	table := v.table
	return func(yield func(Route) bool) {
		ends := v.routeEnds()
		for e := range table.All() {
			for _, h := range e.Value {
				if !yield(Route{e.Prefix, h.via, h.ifc, h.metric, h.kind, h.src, h.static, ends[derivedRoute{e.Prefix, h}]}) {
					return
				}
			}
		}
	}
}

// Interfaces lists the interfaces, the loopback first.
func (s *Stack) Interfaces() iter.Seq[*Interface] { return slices.Values(s.view.Load().ifaces) }

// Addrs lists the addresses of all interfaces.
func (s *Stack) Addrs() iter.Seq2[*Interface, Addr] {
	v := s.view.Load()
	return func(yield func(*Interface, Addr) bool) {
		for _, i := range v.ifaces {
			for _, a := range i.Addrs() {
				if !yield(i, a) {
					return
				}
			}
		}
	}
}
