package stack

import (
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/seed87e66d9f/waybill/internal/route"
)

// view is what is configured: an immutable value, replaced whole.
type view struct {
	ifaces []*Interface // by index; the loopback interface is 0
	static []route.Entry[hop]
	table  *route.Table[hop]
	local  map[netip.Addr]*Interface // our addresses, but for link-local ones, which several links may share
}

// hop is where a packet goes next.
type hop struct {
	ifc *Interface
	via netip.Addr // the gateway; invalid: the destination is on the link
}

var (
	broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	linkLocal6 = netip.MustParsePrefix("fe80::/10") // RFC 4291 §2.5.6
	loopback4  = netip.MustParsePrefix("127.0.0.0/8")
)

// lastAddr is the directed broadcast address of an IPv4 prefix (RFC 919 §7).
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// replaceView stores a copy of the view that change has changed, with table and local made anew. s.admin is held.
func (s *Stack) replaceView(change func(v *view)) {
	old := s.view.Load()
	v := &view{ifaces: slices.Clone(old.ifaces), static: slices.Clone(old.static), local: map[netip.Addr]*Interface{}}
	change(v)
	entries := []route.Entry[hop]{{Prefix: loopback4, Value: hop{ifc: s.lo}}}
	for _, i := range v.ifaces {
		for _, a := range *i.addrs.Load() {
			addr := a.Prefix.Addr()
			if !addr.IsLinkLocalUnicast() || addr.Is4() {
				v.local[addr] = i
				entries = append(entries, route.Entry[hop]{Prefix: netip.PrefixFrom(addr, addr.BitLen()), Value: hop{ifc: s.lo}})
			}
			if !i.loopback && !(addr.Is6() && addr.IsLinkLocalUnicast()) {
				entries = append(entries, route.Entry[hop]{Prefix: a.Prefix.Masked(), Value: hop{ifc: i}})
			}
		}
	}
	v.table = route.New(append(entries, v.static...))
	s.view.Store(v)
}

// AddRoute sends what goes to dst over i, to the gateway via, or straight to the destination where via is the zero
// netip.Addr. 0.0.0.0/0 and ::/0 are the default routes. A nil i is found by the gateway's address.
// The error wraps ENETUNREACH where no interface reaches the gateway, EINVAL where the families differ, EEXIST where
// there is such a route.
func (s *Stack) AddRoute(dst netip.Prefix, via netip.Addr, i *Interface) error {
	fail := func(err error) error { return fmt.Errorf("stack: route %v via %v: %w", dst, via, err) }
	if !dst.IsValid() || via.IsValid() && via.Is4() != dst.Addr().Is4() || !via.IsValid() && i == nil {
		return fail(syscall.EINVAL)
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	if i == nil {
		if h, ok := s.view.Load().table.Lookup(via); ok && !h.via.IsValid() && !h.ifc.loopback {
			i = h.ifc
		} else {
			return fail(syscall.ENETUNREACH)
		}
	}
	if i.stack != s {
		return fail(syscall.ENODEV)
	}
	dst = dst.Masked()
	for _, e := range s.view.Load().static {
		if e.Prefix == dst && e.Value.ifc == i {
			return fail(syscall.EEXIST)
		}
	}
	s.replaceView(func(v *view) {
		v.static = append(v.static, route.Entry[hop]{Prefix: dst, Value: hop{i, via.WithZone("")}})
	})
	return nil
}

// Route is a line of the routing table.
type Route struct {
	Dst       netip.Prefix
	Via       netip.Addr // the gateway; invalid where Dst is on the link
	Interface *Interface
}

// Routes lists the routing table, longest prefixes first.
func (s *Stack) Routes() iter.Seq[Route] {
	table := s.view.Load().table
	return func(yield func(Route) bool) {
		for e := range table.All() {
			if !yield(Route{e.Prefix, e.Value.via, e.Value.ifc}) {
				return
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

// lookup finds the way to dst. zone names the interface of a link-local or multicast destination; 0: none named.
func (v *view) lookup(dst netip.Addr, zone uint32) (hop, bool) {
	if dst.Is6() && (linkLocal6.Contains(dst) || dst.IsLinkLocalMulticast()) || dst.IsMulticast() || dst == broadcast4 {
		return v.scoped(dst, zone)
	}
	return v.table.Lookup(dst)
}

// scoped finds the link of a destination that has a meaning on one link only: the one named, or the only one there is.
func (v *view) scoped(dst netip.Addr, zone uint32) (hop, bool) {
	if zone != 0 {
		if int(zone) >= len(v.ifaces) {
			return hop{}, false
		}
		if i := v.ifaces[zone]; i.has(dst) {
			return hop{ifc: v.ifaces[0]}, true
		} else {
			return hop{ifc: i}, true
		}
	}
	for _, i := range v.ifaces[1:] {
		if i.has(dst) {
			return hop{ifc: v.ifaces[0]}, true
		}
	}
	if len(v.ifaces) == 2 || len(v.ifaces) > 2 && dst.IsMulticast() {
		return hop{ifc: v.ifaces[1]}, true
	}
	return v.table.Lookup(dst)
}

// isLocal reports whether dst, which arrived at i, is ours: any interface's address will do (the weak model of
// RFC 1122 §3.3.4.2), but for link-local addresses, which belong to their link.
func (v *view) isLocal(i *Interface, dst netip.Addr) bool {
	if i.loopback && (loopback4.Contains(dst) || linkLocal6.Contains(dst)) {
		return true
	}
	if dst.Is6() && linkLocal6.Contains(dst) {
		return i.has(dst)
	}
	owner, ok := v.local[dst]
	return ok && (!owner.loopback || i.loopback)
}

// broadcast reports whether dst is IPv4's limited broadcast, or the directed one of a network on i.
func (i *Interface) broadcast(dst netip.Addr) bool {
	if dst == broadcast4 {
		return true
	}
	for _, a := range *i.addrs.Load() {
		if dst.Is4() && a.Prefix.Addr().Is4() && a.Prefix.Bits() < 31 && a.Prefix.Contains(dst) && dst == lastAddr(a.Prefix) {
			return true
		}
	}
	return false
}

// source picks the address that a packet to dst leaves from (RFC 6724 §5, rules 1, 2 and 8).
func (v *view) source(dst netip.Addr, h hop) (netip.Addr, bool) {
	if loopback4.Contains(dst) {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	i := h.ifc
	if i == nil { // no way there was found, so there is no place to send from
		return netip.Addr{}, false
	}
	if i.loopback { // to ourselves: rule 1, "Prefer same address"
		return dst.WithZone(""), true
	}
	best, bits := netip.Addr{}, -1
	for _, a := range *i.addrs.Load() {
		addr := a.Prefix.Addr()
		if addr.Is4() != dst.Is4() {
			continue
		}
		n := commonBits(addr, dst)
		if addr.Is6() && addr.IsLinkLocalUnicast() == (dst.IsLinkLocalUnicast() || dst.IsLinkLocalMulticast()) {
			n += 128 // rule 2: the scope fits
		}
		if n > bits {
			best, bits = addr, n
		}
	}
	return best, best.IsValid()
}

// commonBits is the length of the longest prefix that two addresses of one family share.
func commonBits(a, b netip.Addr) int {
	for n := a.BitLen(); n > 0; n-- {
		if p, err := a.Prefix(n); err == nil && p.Contains(b.WithZone("")) {
			return n
		}
	}
	return 0
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
