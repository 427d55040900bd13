package stack

import (
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// The ephemeral ports: Linux's net.ipv4.ip_local_port_range.
const (
	firstEphemeral = 32768
	lastEphemeral  = 60999
	ephemeralPorts = lastEphemeral - firstEphemeral + 1
)

// ports says who is bound where.
type ports struct {
	mu   sync.RWMutex
	tcp  map[uint16][]*TCPListener
	udp  map[uint16][]*UDPConn
	icmp []*IPConn // replaced whole, never changed
}

func (p *ports) init() {
	p.tcp = map[uint16][]*TCPListener{}
	p.udp = map[uint16][]*UDPConn{}
}

// binding is where a socket is bound: an address, or all of one family or both.
type binding struct {
	addr   netip.Addr // invalid: any
	port   uint16
	v4, v6 bool
	zone   uint32     // of a link-local addr
	only   *Interface // where it alone is heard and spoken over; nil: all
	shared bool       // others of the kind may have the port too: it is a group's
	nobody bool       // addr is a group's or a broadcast address, from which nothing is sent
}

// takes reports whether what is sent to addr belongs to the socket.
func (b *binding) takes(addr netip.Addr, zone uint32) bool {
	if b.addr.IsValid() {
		return b.addr == addr && (b.zone == 0 || b.zone == zone)
	}
	return addr.Is4() && b.v4 || addr.Is6() && b.v6
}

// clashes reports whether two sockets could not both have the port.
func (b *binding) clashes(o *binding) bool {
	if b.shared && o.shared { // as package net, which sets SO_REUSEADDR for groups
		return false
	}
	if b.only != nil && o.only != nil && b.only != o.only {
		return false
	}
	if b.addr.IsValid() && o.addr.IsValid() {
		return b.addr == o.addr && b.zone == o.zone
	}
	return b.v4 && o.v4 || b.v6 && o.v6
}

// bind enters a socket under its port, or under a free ephemeral one where the port is 0. The error is EADDRINUSE.
func bind[S interface {
	comparable
	bound() *binding
}](s *Stack, table map[uint16][]S, x S) error {
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	if s.closed.Load() {
		return errClosed
	}
	b := x.bound()
	free := func(port uint16) bool {
		return !slices.ContainsFunc(table[port], func(o S) bool { return b.clashes(o.bound()) })
	}
	if b.port == 0 {
		// RFC 6056 §3.3.1: a random port, then the ones that follow it
		start := s.secret.random() % ephemeralPorts
		for n := range uint64(ephemeralPorts) {
			if port := uint16(firstEphemeral + (start+n)%ephemeralPorts); free(port) {
				b.port = port
				break
			}
		}
	}
	if b.port == 0 || !free(b.port) {
		return syscall.EADDRINUSE
	}
	table[b.port] = append(table[b.port], x)
	return nil
}

// unbind takes a socket out.
func unbind[S interface {
	comparable
	bound() *binding
}](s *Stack, table map[uint16][]S, x S) {
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	port := x.bound().port
	rest := slices.DeleteFunc(table[port], func(o S) bool { return o == x })
	if len(rest) == 0 {
		delete(table, port)
	} else {
		table[port] = rest
	}
}

// listener finds who listens at addr: who is bound to the very address before who is bound to all.
func (p *ports) listener(addr netip.Addr, port uint16, zone uint32) *TCPListener {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var any *TCPListener
	for _, l := range p.tcp[port] {
		if l.bind.takes(addr, zone) {
			if l.bind.addr.IsValid() {
				return l
			}
			any = l
		}
	}
	return any
}

func (p *ports) listeners() []*TCPListener {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var all []*TCPListener
	for _, l := range p.tcp {
		all = append(all, l...)
	}
	return all
}

func (p *ports) udpConns() []*UDPConn {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var all []*UDPConn
	for _, u := range p.udp {
		all = append(all, u...)
	}
	return all
}

// receivers finds whom a datagram is for: a connected socket before one bound to the address before one bound to all;
// every one that it could be for where it came to a group. Hosts without an address are heard by sockets that belong to the
// interface i alone. The result is appended to dst.
func (p *ports) receivers(dst []*UDPConn, i *Interface, local, remote netip.AddrPort, zone uint32, group bool) []*UDPConn {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if local.Addr().IsMulticast() {
		zone = i.index // a group is of the link that it is heard on
	}
	var best *UDPConn
	rank := 0
	for _, u := range p.udp[local.Port()] {
		if u.bind.only != i && (u.bind.only != nil || remote.Addr().IsUnspecified()) ||
			local.Addr().IsMulticast() && !u.hears(i, local.Addr(), remote.Addr()) {
			continue
		}
		r := u.rank(local.Addr(), remote, zone, group)
		switch {
		case r == 0:
		case group:
			dst = append(dst, u)
		case r > rank:
			best, rank = u, r
		}
	}
	if best != nil {
		dst = append(dst, best)
	}
	return dst
}

// connected finds the connected socket that sent from local to remote.
func (p *ports) connected(local, remote netip.AddrPort) *UDPConn {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, u := range p.udp[local.Port()] {
		if u.peer.Port() == remote.Port() && u.peer.Addr().WithZone("") == remote.Addr() && u.bind.addr == local.Addr() {
			return u
		}
	}
	return nil
}

// sends reports whether an unconnected socket sends from there.
func (p *ports) sends(local netip.AddrPort) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return slices.ContainsFunc(p.udp[local.Port()], func(u *UDPConn) bool {
		return !u.peer.IsValid() && (u.bind.addr == local.Addr() || !u.bind.addr.IsValid() && u.bind.takes(local.Addr(), 0))
	})
}

// hostUnreachable tells the sockets connected to hosts behind ip that nobody answers there.
func (s *Stack) hostUnreachable(ip netip.Addr) {
	all := s.ports.udpConns()
	for _, c := range s.ports.icmpConns() {
		all = append(all, &c.u)
	}
	for _, u := range all {
		if !u.peer.IsValid() {
			continue
		}
		if h, ok := s.view.Load().route(u.bind.addr, u.peer.Addr().WithZone(""), u.zone); ok && (h.via == ip || !h.via.IsValid() && u.peer.Addr().WithZone("") == ip) {
			u.fail(syscall.EHOSTUNREACH)
		}
	}
}

// pickPort gives a new connection a local port, and enters it in the table. RFC 6056 §3.3.1: a random port of the
// ephemeral range, and where that one leads to the same peer already, the ones that follow. c.mu is held.
func (s *Stack) pickPort(c *TCPConn, enter func() bool) error {
	start := s.secret.random() % ephemeralPorts
	for n := range uint64(ephemeralPorts) {
		c.flow.LocalPort = uint16(firstEphemeral + (start+n)%ephemeralPorts)
		if c.flow.LocalPort == c.flow.RemotePort && c.flow.Local == c.flow.Remote {
			continue // a connection with itself (RFC 9293 §3.5 allows it; nobody wants it)
		}
		if s.ports.listener(c.localAddr(), c.flow.LocalPort, c.flow.Zone) == nil && enter() {
			return nil
		}
		if s.closed.Load() {
			return errClosed
		}
	}
	return syscall.EADDRNOTAVAIL
}
