package stack

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/udp"
)

// IPConn sends and receives ICMP messages, from the type octet on, with the methods of net.IPConn. ListenPacket makes it, and
// DialContext a connected one, over "ip4:icmp" or "ip6:ipv6-icmp".
//
// Unlike the kernel's raw socket it is no sniffer: it receives the replies to its own echo requests, told from others' by
// their identifier, and errors about packets that this host has sent. What the stack itself answers or needs, such as
// echo requests and Neighbor Discovery, does not come here. Checksums are written for whoever sends.
type IPConn struct {
	u   UDPConn // the queue, the deadlines and the rest
	ids [16]uint16
	n   int  // of ids, that were ever used; both guarded by u.mu
	all bool // the peer is a group, or all hosts of a network: each of them may answer
}

// icmpBuffer bounds the octets of messages that wait to be read.
const icmpBuffer = 1 << 16

// isIP reports whether a network's name is one of ICMP's, or meant to be.
func isIP(network string) bool { return strings.HasPrefix(network, "ip") }

// parseIP reads "ip4:icmp", "ip6:ipv6-icmp", and the same with the protocol's number or without the version.
func parseIP(network string) (f family, err error) {
	switch network {
	case "ip4:icmp", "ip4:1", "ip:icmp", "ip:1":
		f.v4 = true
	case "ip6:ipv6-icmp", "ip6:58", "ip:ipv6-icmp", "ip:58":
		f.v6 = true
	default:
		err = net.UnknownNetworkError(network)
	}
	return f, err
}

// ipAddr is an address as package net has it.
func ipAddr(a netip.Addr) *net.IPAddr {
	return &net.IPAddr{IP: a.WithZone("").AsSlice(), Zone: a.Zone()}
}

// lookupIP finds the addresses of a family that host stands for, none where it is empty.
func (s *Stack) lookupIP(ctx context.Context, host string, f family) (netip.Addr, error) {
	if host == "" {
		return netip.Addr{}, nil
	}
	addrs, err := s.lookupHost(ctx, host, f)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if a = a.Unmap(); f.has(a) {
			return a, nil
		}
	}
	return netip.Addr{}, &net.AddrError{Err: "no suitable address found", Addr: host}
}

// listenIP makes a socket that hears whoever answers.
func (s *Stack) listenIP(network, address string) (net.PacketConn, error) {
	f, err := parseIP(network)
	var a netip.Addr
	if err == nil {
		a, err = s.lookupIP(context.Background(), address, f)
	}
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	b := s.binding(f, a, 0)
	var c *IPConn
	if err = s.bindable(&b); err == nil {
		c, err = s.newIPConn(network, b, netip.AddrPort{}, false)
	}
	if err != nil {
		return nil, listenError(network, netAddr(network, s.boundAddr(&b)), err)
	}
	return c, nil
}

// dialIP makes a connected socket.
func (s *Stack) dialIP(ctx context.Context, network, address string) (net.Conn, error) {
	f, err := parseIP(network)
	var to netip.Addr
	if err == nil {
		to, err = s.lookupIP(ctx, address, f)
	}
	if err == nil && !to.IsValid() {
		err = &net.AddrError{Err: "missing address", Addr: address}
	}
	if err == nil {
		err = ctx.Err()
	}
	var c *IPConn
	if err == nil {
		c, err = s.connectIP(network, netip.Addr{}, to)
	}
	if err != nil {
		return nil, dialError(network, nil, netAddr(network, netip.AddrPortFrom(to, 0)), err)
	}
	return c, nil
}

// connectIP makes a socket that sends from one address, or the one that suits, to another.
func (s *Stack) connectIP(network string, from, to netip.Addr) (*IPConn, error) {
	src, dst, zone, h, err := s.path(from, to)
	if err != nil {
		return nil, err
	}
	peer := s.zoned(dst.As16(), 0, zone)
	if dst.IsMulticast() && dst.Is6() { // each link has a group of that name
		peer = netip.AddrPortFrom(dst.WithZone(to.Zone()), 0)
	}
	return s.newIPConn(network, binding{addr: src, v4: src.Is4(), v6: src.Is6(), zone: zone}, peer, dst.IsMulticast() || h.ifc.broadcast(dst))
}

func (s *Stack) newIPConn(network string, b binding, peer netip.AddrPort, all bool) (*IPConn, error) {
	c := &IPConn{u: UDPConn{stack: s, net: network, bind: b, peer: peer, limit: icmpBuffer}, all: all}
	c.u.alarm = alarm{stack: s, fire: c.u.tick}
	if peer.IsValid() {
		c.u.zone = b.zone
	}
	s.ports.mu.Lock()
	defer s.ports.mu.Unlock()
	if s.closed.Load() {
		return nil, errClosed
	}
	s.ports.icmp = append(slices.Clone(s.ports.icmp), c)
	return c, nil
}

// icmpConns are the sockets of ICMP.
func (p *ports) icmpConns() []*IPConn {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.icmp
}

// Close ends every pending call.
func (c *IPConn) Close() error {
	p := &c.u.stack.ports
	p.mu.Lock()
	p.icmp = slices.DeleteFunc(slices.Clone(p.icmp), func(o *IPConn) bool { return o == c })
	p.mu.Unlock()
	return c.u.Close()
}

// uses reports whether the socket has sent an echo request with this identifier to that host.
func (c *IPConn) uses(id uint16, host netip.Addr) bool {
	if !c.concerns(host) {
		return false
	}
	c.u.mu.Lock()
	defer c.u.mu.Unlock()
	return slices.Contains(c.ids[:min(c.n, len(c.ids))], id)
}

// concerns reports whether the socket speaks to that host.
func (c *IPConn) concerns(host netip.Addr) bool {
	a := c.u.peer.Addr().WithZone("")
	return !a.IsValid() || a == host || c.all
}

// remember notes the identifier of an echo request. The last few count.
func (c *IPConn) remember(b []byte) {
	if b[0] != ipv4.Echo && c.u.bind.v4 || b[0] != ipv6.Echo && c.u.bind.v6 {
		return
	}
	id := binary.BigEndian.Uint16(b[4:])
	c.u.mu.Lock()
	defer c.u.mu.Unlock()
	if !slices.Contains(c.ids[:min(c.n, len(c.ids))], id) {
		c.ids[c.n%len(c.ids)] = id
		c.n++
	}
}

// hear gives the message at hand to the sockets that want it, and reports whether any does.
func (s *Stack) hear(in *inbox, wants func(c *IPConn) bool) (heard bool) {
	m := &in.m
	zone := in.ifc.zone(m.src, m.dst)
	if m.dst.IsMulticast() {
		zone = in.ifc.index // a group is of the link that it is heard on
	}
	for _, c := range s.ports.icmpConns() {
		if c.u.bind.takes(m.dst, zone) && wants(c) {
			c.u.deliver(m, s.zoned(m.src.As16(), 0, zone), m.text)
			heard = true
		}
	}
	return heard
}

// echoed hands an echo reply to whoever asked.
func (s *Stack) echoed(in *inbox, id uint16) {
	if !s.hear(in, func(c *IPConn) bool { return c.uses(id, in.m.src) }) {
		in.drop(StrayICMP)
	}
}

// notifyEcho hands an error about an echo request to whoever sent that.
func (s *Stack) notifyEcho(now time.Duration, in *inbox, e *complaint) bool {
	id := binary.BigEndian.Uint16(e.text[4:])
	return s.hear(in, func(c *IPConn) bool {
		asked := c.uses(id, e.dst)
		if asked && e.path.MTU != 0 {
			s.learn(now, e.dst, e.path) // before the socket hears of it, and asks how long a packet may be
		}
		return asked
	})
}

// tellAll hands an error about a segment or a datagram to that host to the sockets of ICMP, as traceroute has need of.
func (s *Stack) tellAll(in *inbox, host netip.Addr) {
	s.hear(in, func(c *IPConn) bool { return c.concerns(host) })
}

// send sends a message, whose checksum is written on the way.
func (c *IPConn) send(b []byte, to netip.Addr) error {
	u, s := &c.u, c.u.stack
	if err := u.sendable(netip.AddrPortFrom(to, 1)); err != nil {
		return err
	}
	if len(b) < ipv4.ICMPLen {
		return syscall.EINVAL
	}
	src, dst, h, err := u.way(u.from(), to)
	if err != nil {
		return err
	}
	if len(b)-ipv4.ICMPLen > maxDatagram(dst) {
		return syscall.EMSGSIZE
	}
	c.remember(b)
	m := meta{src: src, dst: dst, proto: ipv4.ProtoICMP, hops: u.marks.hops(), tos: u.marks.tos()}
	head := [ipv4.ICMPLen]byte(b)
	head[2], head[3] = 0, 0
	sum := uint16(0)
	if dst.Is6() {
		m.proto = ipv6.ProtoICMP
		m.label = u.marks.label(s, &m, &udp.Header{})
		sum = checksum.Pseudo(src, dst, m.proto, len(b))
	}
	if dst.IsMulticast() && m.hops == 0 {
		m.hops = 1 // RFC 1112 §6.1, as for UDP
	}
	binary.BigEndian.PutUint16(head[2:], ^checksum.Combine(checksum.Sum(head[:], sum), checksum.Sum(b[len(head):], 0)))
	if fits, err := u.sized(&m, h, &udp.Header{}, len(b)-udp.HeaderLen); err != nil {
		return err
	} else if !fits {
		return u.sendPieces(&m, h, head[:], b[len(head):])
	}
	p := s.newPacket()
	p.toward(h, dst)
	n := copy(p.head[headroom:], head[:])
	p.one[0] = b[len(head):]
	p.wrap(&m, n, p.one[:], -1, 0)
	if !s.leaves(p) {
		s.free(p)
		return syscall.EPERM
	}
	return u.transmit(p, h.ifc)
}

// write is send, with the error that package net has.
func (c *IPConn) write(b []byte, to netip.Addr) (int, error) {
	if err := c.send(b, to); err != nil {
		return 0, &net.OpError{Op: "write", Net: c.u.net, Source: c.LocalAddr(), Addr: netAddr(c.u.net, netip.AddrPortFrom(to, 0)), Err: sysError("write", err)}
	}
	return len(b), nil
}
