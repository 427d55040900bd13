package stack

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/autoconf"
)

// configure makes the interface be as routers say, if that has changed.
func (i *Interface) configure(now time.Duration) {
	a := &i.auto
	a.applying.Lock()
	defer a.applying.Unlock()
	a.Lock()
	a.pending = a.host.Changed() || a.pending
	if !a.pending || i.stack.closed.Load() {
		a.Unlock()
		return
	}
	if next := a.at + applyEvery; a.at != 0 && now < next {
		a.alarm.set(next)
		a.Unlock()
		return
	}
	a.pending, a.at = false, now
	link, addrs, routes := a.host.Link(), a.host.Addrs(), a.host.Routes()
	servers, domains := a.host.Servers(), a.host.Domains()
	a.Unlock()
	i.configureLink(now, link)
	i.configureAddrs(addrs)
	i.configureRoutes(now, routes)
	i.configureNames(servers, domains)
}

// configureLink takes over what is said of packets.
func (i *Interface) configureLink(now time.Duration, l autoconf.Link) {
	if last := i.auto.link.Load(); last != nil && *last == l {
		return
	}
	s := i.stack
	i.auto.link.Store(&l)
	before := i.live.Load().mtu6
	s.admin.Lock()
	i.limitTo(i.live.Load().caps)
	s.admin.Unlock()
	if i.live.Load().mtu6 != before {
		i.resize(now)
	}
	i.neigh.Lock()
	i.neigh.cache.SetTimers(l.Reachable, l.Retrans)
	i.neigh.Unlock()
	i.dad.Lock()
	i.dad.detector.Retrans = l.Retrans
	i.dad.Unlock()
}

// configureAddrs gives the interface the addresses that it has not yet, and takes away those that are over.
func (i *Interface) configureAddrs(want []autoconf.Addr) {
	log := i.stack.log
	for _, w := range want {
		a := Addr{Prefix: w.Prefix, Deprecated: w.Deprecated, Temporary: w.Temporary, Router: w.Router, auto: true}
		if i.has(a.Prefix.Addr()) {
			i.changeAddr(a.Prefix.Addr(), func(x *Addr) {
				if x.auto {
					x.Deprecated, x.Router = a.Deprecated, a.Router
				}
			})
			continue
		}
		switch err := i.addAddr(a); {
		case err == nil:
			log.Info("address configured", "interface", i.name, "address", a.Prefix, "router", a.Router, "temporary", a.Temporary)
		case !errors.Is(err, syscall.EEXIST):
			return // the stack is closed
		}
	}
	for _, a := range *i.addrs.Load() {
		if a.auto && !slices.ContainsFunc(want, func(w autoconf.Addr) bool { return w.Prefix == a.Prefix }) && i.remove(a.Prefix.Addr()) {
			log.Info("address is over", "interface", i.name, "address", a.Prefix)
		}
	}
}

// configureRoutes makes the routes that were learned be those of want. Connections take the new ways.
func (i *Interface) configureRoutes(now time.Duration, want []autoconf.Route) {
	s := i.stack
	var routes, changed []derivedRoute
	for _, w := range want {
		routes = append(routes, i.learned(&w))
	}
	s.admin.Lock()
	old := s.replaceView(func(v *view) {
		for _, r := range i.auto.routes {
			if !slices.Contains(routes, r) {
				v.delete(r.prefix, func(h *hop) bool { return *h == r.hop })
				changed = append(changed, r)
			}
		}
		for _, r := range routes {
			if !slices.Contains(i.auto.routes, r) {
				v.insert(r.prefix, r.hop)
				changed = append(changed, r)
			}
		}
	})
	i.auto.routes = routes
	s.admin.Unlock()
	if len(changed) == 0 {
		return
	}
	all := changed[0].prefix
	for _, r := range changed {
		s.log.Info("route", "interface", i.name, "to", r.prefix, "via", r.hop.via, "metric", r.hop.metric, "there", slices.Contains(routes, r))
		if r.prefix != all {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	s.reroute(now, old, all)
}

// learned is a route that a router has advertised, as it stands in the table.
func (i *Interface) learned(r *autoconf.Route) derivedRoute {
	h := hop{ifc: i, via: r.Via, metric: metricOnLink}
	if r.Via.IsValid() {
		h.metric = metricRouter + uint32(r.Rank)
	}
	return derivedRoute{r.Dst, h}
}

// configureNames takes over the name servers.
func (i *Interface) configureNames(servers []autoconf.Server, domains []autoconf.Domain) {
	n := new(names)
	for _, x := range servers {
		a := x.Addr
		if a.IsLinkLocalUnicast() {
			a = a.WithZone(i.name)
		}
		n.servers = append(n.servers, netip.AddrPortFrom(a, dnsPort))
	}
	for _, d := range domains {
		n.search = append(n.search, d.Name)
	}
	i.names[1].Store(n)
}

const dnsPort = 53 // RFC 1035 §4.2

// routeEnds is when the routes end that routers have advertised.
func (v *view) routeEnds() map[derivedRoute]time.Time {
	all := map[derivedRoute]time.Time{}
	for _, i := range v.ifaces {
		i.read(func(h *autoconf.Host) {
			for _, r := range h.Routes() {
				all[i.learned(&r)] = i.stack.end(r.Until)
			}
		})
	}
	return all
}
