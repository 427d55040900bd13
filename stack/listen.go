package stack

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// Listen accepts connections at address over "tcp", "tcp4" or "tcp6". As in package net, an address without a host, or
// with an unspecified one, stands for all addresses, of both families for "tcp", and port 0 for one that is free.
// The listener's type is *TCPListener.
func (s *Stack) Listen(network, address string) (net.Listener, error) {
	l, err := s.ListenWith(ListenConfig{}, network, address)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// ListenConfig is what a listener is made with, and the connections that it accepts. The zero value is Listen's.
type ListenConfig struct {
	// Backlog is how many half-open and how many unaccepted connections are held; 0 means Config.Backlog.
	Backlog int
	// ReadBuffer and WriteBuffer are SetReadBuffer's and SetWriteBuffer's for each connection; 0 means Config's.
	ReadBuffer, WriteBuffer int
	// KeepAlive is SetKeepAliveConfig's for each connection. Unlike package net's, it is off where Enable is not set
	// (RFC 9293 §3.8.4, MUST-25).
	KeepAlive net.KeepAliveConfig
	// FastOpen is how many connections may be open by TCP Fast Open alone (RFC 7413) at a time: made of a SYN whose cookie says
	// that the client is where it claims to be, accepted with the text of that SYN, and not yet acknowledged by the client.
	// Beyond them handshakes are ordinary. The network can repeat such a SYN, and then the text is accepted twice: it is for
	// services that do no harm then, as a server of static files. 0 turns it off.
	FastOpen int
}

// ListenWith is Listen with choices.
func (s *Stack) ListenWith(c ListenConfig, network, address string) (*TCPListener, error) {
	b, isTCP, err := s.parseBinding(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if !isTCP {
		return nil, listenError(network, netAddr(network, s.boundAddr(&b)), &net.AddrError{Err: "unexpected address type", Addr: address})
	}
	return s.listen(c, network, b)
}

// ListenTCP is Listen with a typed address; the zero value stands for all addresses and a free port.
func (s *Stack) ListenTCP(network string, local netip.AddrPort) (*TCPListener, error) {
	f, isTCP, err := parseNetwork(network)
	if err == nil && !isTCP {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = f.admits(local.Addr())
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	return s.listen(ListenConfig{}, network, s.binding(f, local.Addr(), local.Port()))
}

func (s *Stack) listen(c ListenConfig, network string, b binding) (*TCPListener, error) {
	err := s.bindable(&b)
	if err == nil && b.addr.IsMulticast() {
		err = syscall.EADDRNOTAVAIL
	}
	var l *TCPListener
	if err == nil {
		l, err = s.newListener(c, network, b)
	}
	if err != nil {
		return nil, listenError(network, netAddr(network, s.boundAddr(&b)), err)
	}
	return l, nil
}

// ListenPacket receives datagrams at address over "udp", "udp4" or "udp6", which reads as Listen's does. The type is
// *UDPConn. At the address of a group it hears what is sent to that alone, once UDPConn.JoinGroup has joined it, and other
// sockets may be bound there too; at a broadcast address it hears what is sent to that alone. Over "ip4:icmp" or
// "ip6:ipv6-icmp" it receives ICMP messages, and the type is *IPConn.
func (s *Stack) ListenPacket(network, address string) (net.PacketConn, error) {
	if isIP(network) {
		return s.listenIP(network, address)
	}
	b, isTCP, err := s.parseBinding(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if isTCP {
		return nil, listenError(network, netAddr(network, s.boundAddr(&b)), &net.AddrError{Err: "unexpected address type", Addr: address})
	}
	u, err := s.listenUDP(network, b)
	if err != nil {
		return nil, err
	}
	return u, nil
}

// ListenUDP is ListenPacket with a typed address.
func (s *Stack) ListenUDP(network string, local netip.AddrPort) (*UDPConn, error) {
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
	return s.listenUDP(network, s.binding(f, local.Addr(), local.Port()))
}

func (s *Stack) listenUDP(network string, b binding) (*UDPConn, error) {
	b.shared = b.addr.IsMulticast()
	err := s.bindable(&b)
	var u *UDPConn
	if err == nil {
		u, err = s.newUDPConn(network, b, netip.AddrPort{})
	}
	if err != nil {
		return nil, listenError(network, netAddr(network, s.boundAddr(&b)), err)
	}
	return u, nil
}

// parseBinding reads the address of a listener.
func (s *Stack) parseBinding(network, address string) (b binding, isTCP bool, err error) {
	f, isTCP, err := parseNetwork(network)
	if err != nil {
		return b, isTCP, err
	}
	host, port, err := splitAddress(context.Background(), network, address)
	if err != nil {
		return b, isTCP, err
	}
	var addr netip.Addr
	if host != "" {
		addrs, err := s.lookupHost(context.Background(), host, f)
		if err != nil {
			return b, isTCP, err
		}
		for _, a := range addrs {
			if a = a.Unmap(); f.has(a) && !addr.IsValid() {
				addr = a
			}
		}
		if !addr.IsValid() {
			return b, isTCP, &net.AddrError{Err: "no suitable address found", Addr: address}
		}
	}
	return s.binding(f, addr, port), isTCP, nil
}

// binding makes sense of an address: as in package net, an unspecified one of either family stands for both where the
// network leaves it open.
func (s *Stack) binding(f family, addr netip.Addr, port uint16) binding {
	addr = addr.Unmap()
	b := binding{port: port, v4: f.v4, v6: f.v6}
	if addr.IsValid() && !addr.IsUnspecified() {
		b.addr = addr.WithZone("")
		var err error
		if b.zone, err = s.zoneIndex(addr.Zone()); err != nil {
			b.zone = noInterface
		}
		b.v4, b.v6 = addr.Is4(), addr.Is6()
	}
	return b
}

// admits reports why a socket of the family cannot be bound to a, if it is given.
func (f family) admits(a netip.Addr) error {
	if a = a.Unmap(); a.IsValid() && !f.has(a) {
		return &net.AddrError{Err: "no suitable address", Addr: a.String()}
	}
	return nil
}

// noInterface is the zone of an address whose zone names no interface.
const noInterface = ^uint32(0)

// bindable reports why a socket cannot be bound there, and notes whether anything can be sent from there.
func (s *Stack) bindable(b *binding) error {
	if b.zone == noInterface {
		return syscall.EINVAL // as Linux
	}
	v := s.view.Load()
	b.nobody = b.addr.IsMulticast() || slices.ContainsFunc(v.ifaces, func(i *Interface) bool { return i.broadcast(b.addr) })
	if b.addr.IsValid() && !b.nobody && !v.owns(b.addr) {
		return syscall.EADDRNOTAVAIL
	}
	return nil
}

// boundAddr is a binding as an address: [::] for both families, as package net shows it.
func (s *Stack) boundAddr(b *binding) netip.AddrPort {
	addr := b.addr
	switch {
	case addr.IsValid():
		if b.zone != 0 {
			addr = addr.WithZone(s.zoneName(b.zone))
		}
	case b.v6:
		addr = netip.IPv6Unspecified()
	default:
		addr = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(addr, b.port)
}
