package stack

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/udp"
)

// inputUDP hands a datagram to its sockets, or refuses it (RFC 768, RFC 1122 §4.1).
func (i *Interface) inputUDP(now time.Duration, in *inbox) {
	s, m := i.stack, &in.m
	if err := in.udp.Decode(m.text); err != nil || in.udp.Dst == 0 {
		in.drop(BadUDP)
		return
	}
	b := m.text[:in.udp.Length]
	// RFC 768: "An all zero transmitted checksum value means that the transmitter generated no checksum"; RFC 8200 §8.1
	// has no such thing.
	if in.udp.Checksum == 0 && m.dst.Is6() ||
		in.udp.Checksum != 0 && !m.sound && checksum.Sum(b, checksum.Pseudo(m.src, m.dst, ipv4.ProtoUDP, len(b))) != 0xffff {
		in.drop(BadUDPChecksum)
		return
	}
	if m.foreign {
		i.catch.Load().takeUDP(in, b[udp.HeaderLen:])
		return
	}
	zone := i.zone(m.src, m.dst)
	var few [4]*UDPConn
	to := s.ports.receivers(few[:0], i, netip.AddrPortFrom(m.dst, in.udp.Dst), netip.AddrPortFrom(m.src, in.udp.Src), zone, m.group)
	if len(to) == 0 {
		in.drop(NoSocket)
		switch {
		case m.dst.Is4():
			i.refuse4(now, m, ipv4.CodePort)
		case !m.group:
			i.refuse6(now, m, &ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodePort})
		}
		return
	}
	from := s.zoned(m.src.As16(), in.udp.Src, zone)
	for b = b[udp.HeaderLen:]; m.size > 0 && len(b) > int(m.size); b = b[m.size:] { // a super-segment is several datagrams
		for _, u := range to {
			u.deliver(m, from, b[:m.size])
		}
	}
	for _, u := range to {
		u.deliver(m, from, b)
	}
}

// Write sends a datagram to the peer of a connected socket.
func (u *UDPConn) Write(b []byte) (int, error) {
	if !u.peer.IsValid() {
		return 0, u.opError("write", syscall.EDESTADDRREQ)
	}
	return u.write(b, u.from(), u.peer, nil)
}

// WriteTo sends a datagram to addr, a *net.UDPAddr.
func (u *UDPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: u.net, Source: u.LocalAddr(), Addr: addr, Err: syscall.EINVAL}
	}
	return u.WriteToUDP(b, a)
}

// WriteToUDP sends a datagram to addr.
func (u *UDPConn) WriteToUDP(b []byte, addr *net.UDPAddr) (int, error) {
	if addr == nil {
		return 0, u.opError("write", errors.New("missing address"))
	}
	return u.WriteToUDPAddrPort(b, addr.AddrPort())
}

// WriteToUDPAddrPort sends a datagram to addr.
func (u *UDPConn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	return u.writeFrom(b, u.from(), addr)
}

// WriteFrom is WriteToUDPAddrPort from an address of this host, for a socket that is bound to all of them: an answer is to
// come from where the question went (RFC 1122 §4.1.3.5), and WriteFrom(b, p.To, p.From) answers what ReadPacket told as p.
// Where from is none, or that of a group or a broadcast, the address is the one that suits. The error wraps EADDRNOTAVAIL
// where from is not ours, EINVAL where the socket is bound to another.
func (u *UDPConn) WriteFrom(b []byte, from netip.Addr, to netip.AddrPort) (int, error) {
	bound := u.from()
	from = from.Unmap()
	v, bare := u.stack.view.Load(), from.WithZone("")
	switch {
	case !from.IsValid() || from.IsUnspecified() || from.IsMulticast() || slices.ContainsFunc(v.ifaces, func(i *Interface) bool { return i.broadcast(from) }):
		from = bound
	case bound.IsValid() && bound != bare:
		return 0, u.opError("write", syscall.EINVAL)
	case !v.owns(bare):
		return 0, u.opError("write", syscall.EADDRNOTAVAIL)
	}
	return u.writeFrom(b, from, to)
}

func (u *UDPConn) writeFrom(b []byte, from netip.Addr, to netip.AddrPort) (int, error) {
	if u.peer.IsValid() {
		return 0, &net.OpError{Op: "write", Net: u.net, Source: u.LocalAddr(), Addr: net.UDPAddrFromAddrPort(to), Err: net.ErrWriteToConnected}
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	return u.write(b, from, to, net.UDPAddrFromAddrPort(to))
}

// WriteMsgUDP sends a datagram; oob is ignored, and addr is nil for a connected socket.
func (u *UDPConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if addr == nil {
		n, err = u.Write(b)
	} else {
		n, err = u.WriteToUDP(b, addr)
	}
	return n, 0, err
}

// WriteMsgUDPAddrPort is WriteMsgUDP without an allocation; the zero addr stands for none.
func (u *UDPConn) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	if addr.IsValid() {
		n, err = u.WriteToUDPAddrPort(b, addr)
	} else {
		n, err = u.Write(b)
	}
	return n, 0, err
}

// write sends b to the address to, which an error names as shown; nil: the peer's.
func (u *UDPConn) write(b []byte, from netip.Addr, to netip.AddrPort, shown net.Addr) (int, error) {
	err := u.send(b, from, to)
	if err == nil {
		return len(b), nil
	}
	if shown == nil {
		shown = u.RemoteAddr()
	}
	return 0, &net.OpError{Op: "write", Net: u.net, Source: u.LocalAddr(), Addr: shown, Err: sysError("write", err)}
}

func (u *UDPConn) send(b []byte, from netip.Addr, to netip.AddrPort) error {
	if err := u.sendable(to); err != nil {
		return err
	}
	src, dst, h, err := u.way(from, to.Addr())
	if err != nil {
		return err
	}
	if len(b) > maxDatagram(dst) {
		return syscall.EMSGSIZE
	}
	s := u.stack
	p := s.newPacket()
	p.toward(h, dst)
	hdr := udp.Header{Src: u.bind.port, Dst: to.Port(), Length: udp.HeaderLen + len(b)}
	n := hdr.Encode(p.head[headroom:])
	p.one[0] = b
	m := meta{src: src, dst: dst, proto: ipv4.ProtoUDP, hops: u.marks.hops(), tos: u.marks.tos()}
	if dst.IsMulticast() {
		m.hops = u.groupHops(familyOf(dst))
	}
	if !u.echoes(&m, h.ifc, to.Port(), b) {
		s.free(p)
		return nil
	}
	if dst.Is6() {
		m.label = u.marks.label(s, &m, &hdr)
	}
	if fits, err := u.sized(&m, h, &hdr, len(b)); !fits {
		s.free(p)
		if err != nil {
			return err
		}
		return u.sendCut(&m, h, &hdr, b)
	}
	p.wrap(&m, n, p.one[:], udpChecksum, 0)
	s.stats.datagramsOut.Add(1)
	if !s.leaves(p) {
		s.free(p)
		return syscall.EPERM
	}
	return u.transmit(p, h.ifc)
}

func ipHeader(a netip.Addr) int {
	if a.Is4() {
		return ipv4.MinHeaderLen
	}
	return ipv6.HeaderLen
}

// sendable reports why nothing can be sent to the address.
func (u *UDPConn) sendable(to netip.AddrPort) error {
	if a := to.Addr(); !a.IsValid() || !(a.Is4() && u.bind.v4 || a.Is6() && u.bind.v6) {
		return &net.AddrError{Err: "non-IPv4 or non-IPv6 address for this socket", Addr: a.String()}
	}
	if to.Port() == 0 {
		return syscall.EINVAL
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed.Load():
		return net.ErrClosed
	case u.writeBy != 0 && u.stack.now() >= u.writeBy:
		return os.ErrDeadlineExceeded
	case u.errno != 0:
		err := u.errno
		u.errno = 0
		return err
	}
	return nil
}

// transmit hands the packet to its device, and waits where that is full.
func (u *UDPConn) transmit(p *packet, i *Interface) error {
	s := u.stack
	defer s.free(p)
	switch i.address(s.now(), p, nil) {
	case pending: // a copy waits for the neighbour
		return nil
	case failed:
		return syscall.EHOSTUNREACH
	}
	n, err := i.queues[p.q].Write(p.out[:])
	if n > 0 || !errors.Is(err, link.ErrFull) {
		i.written(p, n, err)
		return nil
	}
	for {
		i.full.Lock()
		turn := i.full.turns
		i.full.Unlock()
		if n, err = i.queues[p.q].Write(p.out[:]); n > 0 || !errors.Is(err, link.ErrFull) {
			i.written(p, n, err)
			return nil
		}
		if err := u.watch(); err != nil {
			return err
		}
		i.full.Lock()
		for i.full.turns == turn { // else there was room, or a reason to give up, since we wrote
			i.full.udp.Wait()
		}
		i.full.Unlock()
	}
}

// watch reports why a writer waits no longer, or sees to it that it wakes at its deadline.
func (u *UDPConn) watch() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.closed.Load() || u.stack.closed.Load():
		return net.ErrClosed
	case u.writeBy == 0:
		return nil
	case u.stack.now() >= u.writeBy:
		return os.ErrDeadlineExceeded
	}
	u.alarm.set(u.writeBy)
	return nil
}
