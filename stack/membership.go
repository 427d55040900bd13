package stack

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/seed87e66d9f/waybill/internal/groups"
)

// memberships is what a socket has to do with groups: which it has joined, and how it sends to them.
type memberships struct {
	sync.Mutex                              // held by who joins and leaves
	id         uint64                       // of the socket
	joined     atomic.Pointer[[]membership] // replaced whole
	ifc        atomic.Pointer[Interface]    // nil: the one that the route says
	hops       [2]atomic.Uint32             // over IPv4 and IPv6: a value and chosen; else 1
	quiet      atomic.Bool                  // what it sends is not looped back
}

// membership is a group that a socket has joined on one interface.
type membership struct {
	ifc    *Interface
	group  netip.Addr
	filter groups.Filter
}

// Bounds on what one socket joins: of groups ours, where Linux has 20 (net.ipv4.igmp_max_memberships) over IPv4 and no number over
// IPv6; of sources of a group Linux's net.ipv6.mld_max_msf.
const (
	maxMemberships = 256
	maxSources     = 64
)

// hears reports whether the socket has joined the group there, and wants to hear source. Departure: Linux gives what is sent to a
// group to sockets that have not joined it as well, once any program has (IP_MULTICAST_ALL).
func (u *UDPConn) hears(i *Interface, group, source netip.Addr) bool {
	if forAll(group) {
		return true
	}
	all := u.multi.joined.Load()
	if all == nil {
		return false
	}
	for k := range *all {
		if m := &(*all)[k]; m.ifc == i && m.group == group {
			return m.filter.Accepts(source)
		}
	}
	return false
}

// JoinGroup joins a multicast group on an interface: what is sent to it, and to the socket's port, is received from now on. A nil
// interface is the one that the route to the group says, or for an IPv6 group its zone. The name and the meaning are those of
// package golang.org/x/net/ipv4, and of the errors that Linux gives: EADDRINUSE where it has joined already, EINVAL where that is
// no group of the socket's family, ENODEV without an interface, ENOBUFS where there are too many.
func (u *UDPConn) JoinGroup(i *Interface, group netip.Addr) error {
	return u.member(i, group, func(f *groups.Filter, member bool) error {
		if member {
			return syscall.EADDRINUSE
		}
		f.Exclude = true
		return nil
	})
}

// LeaveGroup leaves a group, however it was joined; Close leaves all. The error is EADDRNOTAVAIL where it is not joined.
func (u *UDPConn) LeaveGroup(i *Interface, group netip.Addr) error {
	return u.member(i, group, func(f *groups.Filter, member bool) error {
		if !member {
			return syscall.EADDRNOTAVAIL
		}
		*f = groups.Filter{}
		return nil
	})
}

// JoinSourceSpecificGroup joins a group as far as source sends to it, and of a group that is joined so one more source. The
// error is EINVAL where it is joined from all sources, EADDRNOTAVAIL where it is joined from this one.
func (u *UDPConn) JoinSourceSpecificGroup(i *Interface, group, source netip.Addr) error {
	return u.source(i, group, source, false, true)
}

// LeaveSourceSpecificGroup takes back JoinSourceSpecificGroup, and leaves the group with its last source. The error is
// EADDRNOTAVAIL where there is nothing to take back, EINVAL where the group is joined from all sources.
func (u *UDPConn) LeaveSourceSpecificGroup(i *Interface, group, source netip.Addr) error {
	return u.source(i, group, source, false, false)
}

// ExcludeSourceSpecificGroup leaves out a source of a group that is joined from all. The error is EADDRNOTAVAIL where it is left out
// already, EINVAL where the group is not joined like that.
func (u *UDPConn) ExcludeSourceSpecificGroup(i *Interface, group, source netip.Addr) error {
	return u.source(i, group, source, true, true)
}

// IncludeSourceSpecificGroup takes back ExcludeSourceSpecificGroup, with the same errors.
func (u *UDPConn) IncludeSourceSpecificGroup(i *Interface, group, source netip.Addr) error {
	return u.source(i, group, source, true, false)
}

// source adds a source to those of a membership, or takes it away.
func (u *UDPConn) source(i *Interface, group, source netip.Addr, exclude, add bool) error {
	return u.member(i, group, func(f *groups.Filter, member bool) error {
		at, found := slices.BinarySearchFunc(f.Sources, source, netip.Addr.Compare)
		switch {
		case source.Is4() != group.Is4() || source.IsMulticast() || source.IsUnspecified() || source.Zone() != "":
			return syscall.EINVAL
		case member && f.Exclude != exclude || !member && exclude:
			return syscall.EINVAL
		case found == add:
			return syscall.EADDRNOTAVAIL
		case add:
			f.Sources = slices.Insert(f.Sources, at, source)
		default:
			f.Sources = slices.Delete(f.Sources, at, at+1)
		}
		return nil
	})
}

// member lets change work on the filter of a membership, which is the zero Filter where there is none, before and after.
func (u *UDPConn) member(i *Interface, group netip.Addr, change func(f *groups.Filter, member bool) error) error {
	i, group, err := u.groupOn(i, group)
	if err != nil {
		return u.opError("set", err)
	}
	frames, err := u.change(i, group, change)
	if errors.Is(err, net.ErrClosed) {
		return u.setError()
	} else if err != nil {
		return u.opError("set", err)
	}
	i.writeAll(frames)
	return nil
}

// change is member's, and returns what is to be sent about it once no lock is held.
func (u *UDPConn) change(i *Interface, group netip.Addr, change func(f *groups.Filter, member bool) error) ([][]byte, error) {
	t := &u.multi
	t.Lock()
	defer t.Unlock()
	if u.closed.Load() {
		return nil, net.ErrClosed
	}
	var all []membership
	if old := t.joined.Load(); old != nil {
		all = slices.Clone(*old)
	}
	k := slices.IndexFunc(all, func(m membership) bool { return m.ifc == i && m.group == group })
	member := k >= 0
	if !member {
		k, all = len(all), append(all, membership{ifc: i, group: group})
	}
	f := &all[k].filter
	f.Sources = slices.Clone(f.Sources)
	if err := change(f, member); err != nil {
		return nil, err
	}
	if len(all) > maxMemberships || len(f.Sources) > maxSources {
		return nil, syscall.ENOBUFS
	}
	frames, err := i.multi.listen(t.id, group, *f)
	if err != nil {
		return nil, syscall.ENOBUFS
	}
	if !f.Exclude && len(f.Sources) == 0 {
		all = slices.Delete(all, k, k+1)
	}
	t.joined.Store(&all)
	return frames, nil
}

// groupOn finds the interface that a group is to be joined on.
func (u *UDPConn) groupOn(i *Interface, group netip.Addr) (*Interface, netip.Addr, error) {
	zone, err := u.stack.zoneIndex(group.Zone())
	group = group.Unmap().WithZone("")
	switch {
	case err != nil:
		return nil, group, err
	case !group.IsMulticast() || !(group.Is4() && u.bind.v4 || group.Is6() && u.bind.v6):
		return nil, group, syscall.EINVAL
	case i != nil && (i.stack != u.stack || zone != 0 && zone != i.index):
		return nil, group, syscall.ENODEV
	case i != nil:
		return i, group, nil
	case u.bind.only != nil:
		return u.bind.only, group, nil
	}
	h, ok := u.stack.view.Load().lookup(group, zone)
	if !ok {
		return nil, group, syscall.ENODEV
	}
	return h.ifc, group, nil
}

// leaveAll is Close's. The socket is marked as closed, so none is joined meanwhile.
func (u *UDPConn) leaveAll() {
	t := &u.multi
	t.Lock()
	all := t.joined.Swap(nil)
	t.Unlock()
	if all == nil {
		return
	}
	for _, m := range *all {
		frames, _ := m.ifc.multi.listen(t.id, m.group, groups.Filter{})
		m.ifc.writeAll(frames)
	}
}

// SetMulticastInterface says by which interface the socket sends to groups, but for those that have a zone; nil: as the route says.
func (u *UDPConn) SetMulticastInterface(i *Interface) error {
	if u.closed.Load() {
		return u.setError()
	}
	if i != nil && i.stack != u.stack {
		return u.opError("set", syscall.ENODEV)
	}
	u.multi.ifc.Store(i)
	return nil
}

// MulticastInterface is SetMulticastInterface's, nil where there is none.
func (u *UDPConn) MulticastInterface() *Interface { return u.multi.ifc.Load() }

// SetMulticastTTL sets the TTL of what is sent to IPv4 groups, 0 to 255; with 0 it stays within the stack. It is 1 from the start
// (RFC 1112 §6.1), and further than one's own link only by intent. The error is EINVAL for another number.
func (u *UDPConn) SetMulticastTTL(ttl int) error { return u.setGroupHops(0, ttl) }

// SetMulticastHopLimit is SetMulticastTTL for IPv6 groups.
func (u *UDPConn) SetMulticastHopLimit(hops int) error { return u.setGroupHops(1, hops) }

func (u *UDPConn) setGroupHops(family, hops int) error {
	if hops < 0 || hops > 255 {
		return u.opError("set", syscall.EINVAL)
	}
	return u.mark(&u.multi.hops[family], uint32(hops)|chosen)
}

// MulticastTTL is the TTL of what is sent to IPv4 groups.
func (u *UDPConn) MulticastTTL() int { return int(u.groupHops(0)) }

// MulticastHopLimit is the hop limit of what is sent to IPv6 groups.
func (u *UDPConn) MulticastHopLimit() int { return int(u.groupHops(1)) }

func (u *UDPConn) groupHops(family int) uint8 {
	if v := u.multi.hops[family].Load(); v != 0 {
		return uint8(v)
	}
	return 1 // RFC 1112 §6.1: the default, so that nothing leaves the link by accident
}

// SetMulticastLoopback says whether sockets of this stack hear what this one sends to groups that they have joined: they do from the
// start (RFC 1112 §7.1), this socket too.
func (u *UDPConn) SetMulticastLoopback(on bool) error {
	if u.closed.Load() {
		return u.setError()
	}
	u.multi.quiet.Store(!on)
	return nil
}

// MulticastLoopback is SetMulticastLoopback's.
func (u *UDPConn) MulticastLoopback() bool { return !u.multi.quiet.Load() }

// from is the address that the socket sends from, if it has one: a group, or a broadcast address, is nobody's.
func (u *UDPConn) from() netip.Addr {
	if u.bind.nobody {
		return netip.Addr{}
	}
	return u.bind.addr
}

// over is the interface that the socket sends over, whatever the routes say; nil: none.
func (u *UDPConn) over(to netip.Addr) *Interface {
	if u.bind.only == nil && to.IsMulticast() && to.Zone() == "" {
		return u.multi.ifc.Load()
	}
	return u.bind.only
}

// echoes gives what was sent to a group to the sockets of this stack that hear it, as the link brings it back to nobody, and
// reports whether it is to leave at all. Package net allows every socket to broadcast (SO_BROADCAST), and so it is here; Linux's
// broadcasts come back as well, whatever IP_MULTICAST_LOOP says.
func (u *UDPConn) echoes(m *meta, i *Interface, to uint16, b []byte) (leaves bool) {
	switch {
	case m.dst.IsMulticast():
		if !u.multi.quiet.Load() {
			u.loop(m, i, to, b)
		}
		// RFC 4291 §2.7: "Interface-Local scope spans only a single interface on a node and is useful only for loopback transmission
		// of multicast"; RFC 1112 §6.1 has the same of a TTL of 0.
		return m.hops > 0 && !(m.dst.Is6() && scopeOf(m.dst) <= 1) && !i.loopback
	case i.broadcast(m.dst):
		u.loop(m, i, to, b)
	}
	return true
}

func (u *UDPConn) loop(m *meta, i *Interface, to uint16, b []byte) {
	s := u.stack
	d := datagram{ifc: i, src: m.src, dst: m.dst, proto: m.proto, tos: m.tos, hops: m.hops, group: true}
	var few [4]*UDPConn
	from := s.zoned(m.src.As16(), u.bind.port, i.index)
	for _, o := range s.ports.receivers(few[:0], i, netip.AddrPortFrom(m.dst, to), netip.AddrPortFrom(m.src, u.bind.port), i.index, true) {
		o.deliver(&d, from, b)
	}
}

// ListenMulticastUDP listens for what is sent to a group at its port, on an interface, and joins the group there; nil stands for the
// interface that the route to the group says. As with package net, the socket has the port at all addresses, so hears what is sent
// to one host there besides, and others that ListenMulticastUDP makes may have the same port. The network is "udp", "udp4" or "udp6".
func (s *Stack) ListenMulticastUDP(network string, i *Interface, group netip.AddrPort) (*UDPConn, error) {
	f, isTCP, err := parseNetwork(network)
	if err == nil && isTCP {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = f.admits(group.Addr())
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	six := group.Addr().Unmap().Is6()
	u, err := s.newUDPConn(network, binding{port: group.Port(), v4: !six, v6: six, shared: true}, netip.AddrPort{})
	if err == nil {
		if err = u.JoinGroup(i, group.Addr()); err != nil {
			u.Close()
		}
	}
	if err != nil {
		return nil, listenError(network, netAddr(network, group), err)
	}
	return u, nil
}

// familyOf is the place of an address's family in memberships.hops.
func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}
