package stack

import (
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/seed87e66d9f/waybill/internal/route"
)

// view is what is configured: an immutable value, replaced whole.
type view struct {
	ifaces []*Interface              // by index; the loopback interface is 0
	table  *route.Table[[]hop]       // for each prefix its routes, the best first
	local  map[netip.Addr]*Interface // our addresses, but for link-local ones, which several links may share
	addrs  []*[]Addr                 // each interface's, as they are in table and local

	forwarding Forwarding
}

// hop is where a packet goes next: one route, without its prefix. Those of a view do not change.
type hop struct {
	ifc    *Interface // nil of a route that leads nowhere
	via    netip.Addr // the gateway; invalid: the destination is on the link
	src    netip.Addr // what leaves from, where the sender does not care; invalid: RFC 6724 chooses
	metric uint32
	kind   RouteType
	static bool // AddRoute's; else it follows from an address
}

// noHop is where no packet goes.
var noHop hop

var (
	broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	linkLocal6 = netip.MustParsePrefix("fe80::/10") // RFC 4291 §2.5.6
	loopback4  = netip.MustParsePrefix("127.0.0.0/8")
)

// lastAddr is the directed broadcast address of an IPv4 prefix (RFC 919 §7).
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	binary.BigEndian.PutUint32(a[:], binary.BigEndian.Uint32(a[:])|math.MaxUint32>>p.Bits())
	return netip.AddrFrom4(a)
}

// replaceView stores a copy of the view that change has changed, with what follows from the interfaces' addresses brought up
// to date, and returns the one before. s.admin is held.
func (s *Stack) replaceView(change func(v *view)) (old *view) {
	old = s.view.Load()
	v := *old
	change(&v)
	v.follow(s.lo)
	s.view.Store(&v)
	return old
}

// follow makes local, and the routes that are not static, follow from the addresses that the interfaces have now. Interfaces
// come and addresses change seldom, and the routes may be many: only what has changed is touched.
func (v *view) follow(lo *Interface) {
	now := make([]*[]Addr, len(v.ifaces))
	for k, i := range v.ifaces {
		now[k] = i.addrs.Load()
	}
	if slices.Equal(now, v.addrs) {
		return
	}
	before, after := derived(v.ifaces, v.addrs, lo), derived(v.ifaces, now, lo)
	for r := range before {
		if !after[r] {
			v.delete(r.prefix, func(h *hop) bool { return *h == r.hop })
		}
	}
	for r := range after {
		if !before[r] {
			v.insert(r.prefix, r.hop)
		}
	}
	v.addrs, v.local = now, map[netip.Addr]*Interface{}
	for k, addrs := range now {
		for _, a := range *addrs {
			if addr := a.Prefix.Addr(); addr.Is4() || !addr.IsLinkLocalUnicast() {
				v.local[addr] = v.ifaces[k]
			}
		}
	}
}

// derivedRoute is a route that follows from an address.
type derivedRoute struct {
	prefix netip.Prefix
	hop    hop
}

// derived is what follows from addresses: an address is ours, and the network around it on the link.
func derived(ifaces []*Interface, addrs []*[]Addr, lo *Interface) map[derivedRoute]bool {
	all := map[derivedRoute]bool{}
	toUs := hop{ifc: lo, kind: RouteLocal}
	if len(addrs) > 0 {
		all[derivedRoute{loopback4, toUs}] = true
	}
	for k := range addrs {
		for _, a := range *addrs[k] {
			addr := a.Prefix.Addr()
			if addr.Is6() && addr.IsLinkLocalUnicast() {
				continue
			}
			all[derivedRoute{netip.PrefixFrom(addr, addr.BitLen()), toUs}] = true
			if !ifaces[k].loopback && !a.Prefix.IsSingleIP() && !a.auto {
				all[derivedRoute{a.Prefix.Masked(), hop{ifc: ifaces[k]}}] = true
			}
		}
	}
	return all
}

// lookup finds the way to dst. zone names the interface of a link-local or multicast destination; 0: none named. Where there
// is none, the hop still says why: its kind is that of the route that says so.
func (v *view) lookup(dst netip.Addr, zone uint32) (*hop, bool) {
	if dst.Is6() && (linkLocal6.Contains(dst) || dst.IsLinkLocalMulticast()) || dst.IsMulticast() || dst == broadcast4 {
		return v.scoped(dst, zone)
	}
	ways, _ := v.table.Lookup(dst)
	return best(ways, nil)
}

// best picks among the routes to one prefix: the one of the lowest metric whose interface is up; if none is, the one of the
// lowest. Where only is given, routes over other interfaces do not count.
func best(ways []hop, only *Interface) (*hop, bool) {
	first := -1
	for k := range ways {
		h := &ways[k]
		if only != nil && h.ifc != only {
			continue
		}
		if h.ifc == nil || len(ways) == 1 || h.ifc.Up() {
			return h, h.ifc != nil
		}
		if first < 0 {
			first = k
		}
	}
	if first < 0 {
		return &noHop, false
	}
	return &ways[first], true
}

// route finds the way to dst of a packet that leaves from src, in the strong model. RFC 1122 §3.3.4.2: "A host MAY restrict
// itself to sending (non-source-routed) IP datagrams only through the physical interface that corresponds to the IP source
// address of the datagrams." So the way is the best of those over src's interface. Only where that has none does the packet
// leave elsewhere, as in the weak model, rather than not at all. An address of the loopback interface is the host's, and
// leaves by any. A router goes by its routes alone, and an intercepted connection by the interface that it came in by.
func (v *view) route(src, dst netip.Addr, zone uint32) (*hop, bool) {
	if zone != 0 {
		if h, ok := v.intercepted(src, dst, zone); ok {
			return h, true
		}
	}
	h, ok := v.lookup(dst, zone)
	if !ok && dst == broadcast4 { // to all on the link that src is of, as on Linux
		if i := v.local[src]; i != nil && !i.loopback {
			return &i.onLink, true
		}
	}
	if !ok || v.forwarding.Enabled && !src.IsLinkLocalUnicast() || len(v.ifaces) <= 2 || h.ifc.loopback || !src.IsValid() || src.IsUnspecified() || h.ifc.has(src) {
		return h, ok
	}
	return v.routeFrom(src, dst, zone, h)
}

// routeFrom is route where there are several interfaces, and the best of all, h, is not one that src is an address of.
func (v *view) routeFrom(src, dst netip.Addr, zone uint32, h *hop) (*hop, bool) {
	owner := v.local[src]
	if src.Is6() && src.IsLinkLocalUnicast() && int(zone) < len(v.ifaces) {
		owner = v.ifaces[zone]
	}
	if owner == nil || owner.loopback {
		return h, true
	}
	if dst.IsMulticast() || dst == broadcast4 {
		return &owner.onLink, zone == 0 || zone == owner.index
	}
	ways, ok := v.table.LookupFunc(dst, func(ways []hop) bool {
		return slices.ContainsFunc(ways, func(h hop) bool { return h.ifc == owner })
	})
	if !ok {
		return h, true
	}
	return best(ways, owner)
}

// errno is what a sender is told who has no way for this reason, which is Linux's answer.
func (h *hop) errno() syscall.Errno {
	switch h.kind {
	case RouteBlackhole:
		return syscall.EINVAL
	case RouteUnreachable:
		return syscall.EHOSTUNREACH
	case RouteProhibited:
		return syscall.EACCES
	}
	return syscall.ENETUNREACH
}

// scoped finds the link of a destination that has a meaning on one link only: the one named, or the only one there is.
func (v *view) scoped(dst netip.Addr, zone uint32) (*hop, bool) {
	if zone != 0 {
		if int(zone) >= len(v.ifaces) {
			return &noHop, false
		}
		if i := v.ifaces[zone]; i.has(dst) {
			return &v.ifaces[0].onLink, true
		} else {
			return &i.onLink, true
		}
	}
	for _, i := range v.ifaces[1:] {
		if i.has(dst) {
			return &v.ifaces[0].onLink, true
		}
	}
	if len(v.ifaces) == 2 || len(v.ifaces) > 2 && dst.IsMulticast() {
		return &v.ifaces[1].onLink, true
	}
	ways, _ := v.table.Lookup(dst)
	return best(ways, nil)
}

// isLocal reports whether dst, which arrived at i, is ours, in the strong model of RFC 1122 §3.3.4.2: "A host MAY silently
// discard an incoming datagram whose destination address does not correspond to the physical interface through which it is
// received." Addresses of the loopback interface, but for 127.0.0.0/8 and ::1, are the host's, and everywhere; those
// of a router are all everywhere (RFC 1812 §5.2.3).
func (v *view) isLocal(i *Interface, dst netip.Addr) bool {
	if i.loopback {
		return loopback4.Contains(dst) || linkLocal6.Contains(dst) || v.local[dst] != nil
	}
	if i.has(dst) {
		return true
	}
	owner := v.local[dst]
	return owner != nil && (owner.loopback || v.forwarding.Enabled) && !dst.IsLoopback()
}

// isOurs reports whether any interface has the address.
func (v *view) isOurs(i *Interface, a netip.Addr) bool {
	return v.local[a] != nil || i.has(a)
}

// broadcast reports whether dst is IPv4's limited broadcast, or the directed one of a network on i.
func (i *Interface) broadcast(dst netip.Addr) bool {
	if !dst.Is4() || dst == broadcast4 {
		return dst.Is4()
	}
	for _, a := range *i.addrs.Load() {
		if a.Prefix.Addr().Is4() && a.Prefix.Bits() < 31 && dst == lastAddr(a.Prefix) {
			return true
		}
	}
	return false
}

// zoneIndex is the index of the interface that a zone names, by name or number; 0: none.
func (s *Stack) zoneIndex(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	ifaces := s.view.Load().ifaces
	for _, i := range ifaces {
		if i.name == zone {
			return i.index, nil
		}
	}
	if n, err := strconv.Atoi(zone); err == nil && n > 0 && n < len(ifaces) {
		return uint32(n), nil
	}
	return 0, &net.AddrError{Err: "no such interface", Addr: zone}
}

// zoneName is the zone of an address on the interface with this index.
func (s *Stack) zoneName(index uint32) string {
	if ifaces := s.view.Load().ifaces; index > 0 && int(index) < len(ifaces) {
		return ifaces[index].name
	}
	return ""
}
