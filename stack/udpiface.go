package stack

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// ListenUDP is Stack.ListenUDP of a socket that hears and speaks over this interface alone, whatever the routes say: what
// no route leads to is taken for a neighbour on the link. Two interfaces may each have a socket of the same port. It is made
// for hosts that configure themselves and those that configure them: it hears hosts that have no address yet, and what it
// broadcasts to 255.255.255.255 leaves from 0.0.0.0 as long as the interface has no IPv4 address but a link-local one.
func (i *Interface) ListenUDP(network string, local netip.AddrPort) (*UDPConn, error) {
	f, isTCP, err := parseNetwork(network)
	if err == nil && isTCP {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = f.admits(local.Addr())
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	b := i.stack.binding(f, local.Addr(), local.Port())
	b.only = i
	return i.stack.listenUDP(network, b)
}

// way finds the way to a destination, and the address to send from, where from is none.
func (u *UDPConn) way(from, to netip.Addr) (src, dst netip.Addr, h *hop, err error) {
	i := u.over(to)
	if i == nil {
		if u.bind.zone != 0 && from.Is6() && from.IsLinkLocalUnicast() { // what is sent from there has no other link
			from = from.WithZone(u.stack.zoneName(u.bind.zone))
		}
		src, dst, _, h, err = u.stack.path(from, to)
		return
	}
	if zone, e := u.stack.zoneIndex(to.Zone()); e != nil || zone != 0 && zone != i.index {
		return src, dst, h, syscall.EINVAL
	}
	dst = to.Unmap().WithZone("")
	if dst == broadcast4 && !u.bind.addr.IsValid() && !slices.ContainsFunc(*i.addrs.Load(), func(a Addr) bool {
		return a.Prefix.Addr().Is4() && !a.Prefix.Addr().IsLinkLocalUnicast()
	}) {
		return netip.IPv4Unspecified(), dst, &i.onLink, nil
	}
	v := u.stack.view.Load()
	h = v.over(i, dst)
	if src = from.WithZone(""); !src.IsValid() {
		var ok bool
		if src, ok = v.source(dst, h); !ok {
			err = syscall.EADDRNOTAVAIL
		}
	}
	if (src.IsLoopback() || dst.IsLoopback()) && !h.ifc.loopback { // RFC 1122 §3.2.1.3 (g), RFC 4291 §2.5.3: never outside of a host
		err = syscall.EINVAL
	}
	return
}

// over is the way to dst that goes over an interface: straight there, where no route of that interface says otherwise.
func (v *view) over(i *Interface, dst netip.Addr) *hop {
	switch {
	case i.has(dst):
		return &v.ifaces[0].onLink
	case dst.IsMulticast() || dst == broadcast4 || dst.Is6() && dst.IsLinkLocalUnicast():
		return &i.onLink
	}
	ways, _ := v.table.LookupFunc(dst, func(ways []hop) bool {
		return slices.ContainsFunc(ways, func(h hop) bool { return h.ifc == i })
	})
	if h, ok := best(ways, i); ok {
		return h
	}
	return &i.onLink
}
