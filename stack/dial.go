package stack

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// errClosed is what everything on a closed stack ends with.
var errClosed = net.ErrClosed

// Dial is DialContext without a context.
func (s *Stack) Dial(network, address string) (net.Conn, error) {
	return s.DialContext(context.Background(), network, address)
}

// DialContext connects to address over "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6", and makes an *IPConn
// over "ip4:icmp" or "ip6:ipv6-icmp", whose address has no port. It is what net.Dialer's is, so it
// can stand in http.Transport and wherever else a dial function is asked for. Errors are *net.OpError, and compare as
// the kernel's do.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if isIP(network) {
		return s.dialIP(ctx, network, address)
	}
	family, isTCP, err := parseNetwork(network)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if isTCP && family.v4 && family.v6 {
		return s.dialName(ctx, network, address)
	}
	targets, err := s.resolveAddress(ctx, network, address, family)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: contextError(err)}
	}
	if isTCP && len(targets) > 1 {
		return s.race(ctx, network, targets, nil)
	}
	var first error
	for _, a := range targets {
		c, err := s.dialOne(ctx, network, isTCP, a)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// dialOne tries one address.
func (s *Stack) dialOne(ctx context.Context, network string, isTCP bool, to netip.AddrPort) (net.Conn, error) {
	if isTCP {
		if c, err := s.dialTCP(ctx, network, netip.AddrPort{}, to); err != nil {
			return nil, err
		} else {
			return c, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, dialError(network, nil, netAddr(network, to), err)
	}
	u, err := s.dialUDP(network, netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	return u, nil
}

// DialTCP connects from local, whose parts may be zero, to remote. The network is "tcp", "tcp4" or "tcp6".
func (s *Stack) DialTCP(ctx context.Context, network string, local, remote netip.AddrPort) (*TCPConn, error) {
	family, isTCP, err := parseNetwork(network)
	if err == nil && !isTCP {
		err = net.UnknownNetworkError(network)
	}
	if err == nil && !family.has(remote.Addr().Unmap()) {
		err = &net.AddrError{Err: "no suitable address", Addr: remote.String()}
	}
	if err != nil {
		return nil, dialError(network, netAddr(network, local), netAddr(network, remote), err)
	}
	return s.dialTCP(ctx, network, local, remote)
}

func (s *Stack) dialTCP(ctx context.Context, network string, local, remote netip.AddrPort) (*TCPConn, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	c, err := s.connect(ctx, network, local, remote, nil)
	if err != nil {
		return nil, dialError(network, netAddr(network, local), netAddr(network, remote), err)
	}
	return c, nil
}

// connect is OPEN, active (RFC 9293 §3.10.1), and the wait for ESTABLISHED. begin, if not nil, is called before the SYN goes.
func (s *Stack) connect(ctx context.Context, network string, local, remote netip.AddrPort, begin func(*TCPConn, time.Duration)) (*TCPConn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	src, dst, zone, h, err := s.path(local.Addr(), remote.Addr())
	if err != nil {
		return nil, err
	}
	if dst.IsMulticast() || h.ifc.broadcast(dst) { // RFC 9293 §3.9.2.3, MUST-46
		return nil, syscall.ENETUNREACH
	}
	c := s.newConn(&tcp.Flow{Local: src.As16(), Remote: dst.As16(), LocalPort: local.Port(), RemotePort: remote.Port(), Zone: zone}, nil)
	c.setNetwork(network)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.open(c, h.ifc); err != nil {
		return nil, err
	}
	now := s.now()
	if begin != nil {
		begin(c, now)
	}
	c.trace(UserCall, 0, nil, tcp.Closed, 0)
	c.output(now)
	return c.established(ctx)
}

// open gives c a place in the table and a TCB.
func (s *Stack) open(c *TCPConn, i *Interface) error {
	now := s.now()
	var floor *tcp.Seq
	enter := func() bool {
		floor = nil
		return s.insert(now, c, func(w *tcp.TimeWaitRecord) bool {
			// RFC 6191 §2 for our own side, as Linux's tcp_tw_reuse: timestamps tell the connections apart.
			if !w.Reusable(now) {
				return false
			}
			min := w.MinISS()
			floor = &min
			return true
		})
	}
	if c.flow.LocalPort == 0 {
		if err := s.pickPort(c, enter); err != nil {
			return err
		}
	} else if !enter() {
		if s.closed.Load() {
			return errClosed
		}
		return syscall.EADDRINUSE
	}
	if h, ok := s.view.Load().route(c.localAddr(), c.remoteAddr(), c.flow.Zone); ok {
		i = h.ifc // the way may have changed before c stood in the table, and reroute looks only there
	}
	config := i.live.Load().config(c.remoteAddr().Is6())
	iss, offset := s.secret.iss(now, &c.flow)
	if floor != nil && iss.Less(*floor) {
		iss = *floor
	}
	c.tcb = tcp.Open(now, iss, config)
	c.tcb.SetTSOffset(offset)
	return nil
}

// established waits until the connection is open, has failed, or the context ends. c.mu is held.
func (c *TCPConn) established(ctx context.Context) (*TCPConn, error) {
	var ended error
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		ended = ctx.Err()
		c.wr.wake()
	})
	defer stop()
	for !c.opened {
		switch {
		case c.tcb.State() == tcp.Closed:
			if err := c.told(); err != 0 {
				return nil, err
			}
			return nil, errClosed // the stack was closed
		case ended != nil:
			c.linger = 0
			c.release(c.stack.now())
			return nil, ended
		}
		c.stack.wait(&c.wr, &c.mu)
	}
	return c, nil
}

// path finds the way to dst, and the address to send from: src where it is given.
func (s *Stack) path(src, dst netip.Addr) (from, to netip.Addr, zone uint32, h *hop, err error) {
	if zone, err = s.zoneIndex(dst.Zone()); err != nil {
		return
	}
	to = dst.Unmap().WithZone("")
	if to.IsUnspecified() || !to.IsValid() { // as Linux: to ourselves
		to = loopbackOf(to)
	}
	v := s.view.Load()
	from = src.Unmap().WithZone("")
	scope := zone
	if zone == 0 && from.Is6() && from.IsLinkLocalUnicast() {
		if scope, err = s.zoneIndex(src.Zone()); err != nil {
			return
		}
	}
	h, ok := v.route(from, to, scope)
	if !ok {
		err = h.errno()
		return
	}
	if !from.IsValid() || from.IsUnspecified() {
		if from, ok = v.source(to, h); !ok {
			err = syscall.EADDRNOTAVAIL
		}
	} else if from.Is4() != to.Is4() {
		err = syscall.EAFNOSUPPORT
	} else if !v.owns(from) {
		err = syscall.EADDRNOTAVAIL
	} else if from.IsLoopback() && !h.ifc.loopback { // RFC 1122 §3.2.1.3 (g): never outside of a host; Linux's error
		err = syscall.EINVAL
	}
	zone = h.ifc.zone(from, to)
	return
}

// owns reports whether a is an address of the host.
func (v *view) owns(a netip.Addr) bool {
	if loopback4.Contains(a) || v.local[a] != nil {
		return true
	}
	for _, i := range v.ifaces {
		if i.has(a) {
			return true
		}
	}
	return false
}

func loopbackOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// family is what a network's name says of addresses.
type family struct{ v4, v6 bool }

func (f family) has(a netip.Addr) bool { return a.Is4() && f.v4 || a.Is6() && f.v6 }

// parseNetwork reads "tcp", "udp" and their variants.
func parseNetwork(network string) (f family, isTCP bool, err error) {
	switch network {
	case "tcp", "udp":
		f = family{true, true}
	case "tcp4", "udp4":
		f.v4 = true
	case "tcp6", "udp6":
		f.v6 = true
	default:
		return f, false, net.UnknownNetworkError(network)
	}
	return f, network[0] == 't', nil
}

// parsePort reads a port: a number, or the name of a service.
func parsePort(ctx context.Context, network, port string) (uint16, error) {
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		return uint16(n), nil
	}
	n, err := net.DefaultResolver.LookupPort(ctx, network, port)
	if err != nil {
		return 0, err
	}
	return uint16(n), nil
}

// splitAddress cuts host from port.
func splitAddress(ctx context.Context, network, address string) (host string, port uint16, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	port, err = parsePort(ctx, network, service)
	return host, port, err
}

// resolveAddress turns "host:port" into the addresses to try.
func (s *Stack) resolveAddress(ctx context.Context, network, address string, f family) ([]netip.AddrPort, error) {
	host, port, err := splitAddress(ctx, network, address)
	if err != nil {
		return nil, err
	}
	addrs, err := s.lookupHost(ctx, host, f)
	if err != nil {
		return nil, err
	}
	var targets []netip.AddrPort
	for _, a := range addrs {
		if a = a.Unmap(); f.has(a) {
			targets = append(targets, netip.AddrPortFrom(a, port))
		}
	}
	if len(targets) == 0 {
		return nil, &net.AddrError{Err: "no suitable address found", Addr: address}
	}
	switch host {
	case "", "::", "localhost": // ourselves: IPv4 first, where a listener of this name is found
	default:
		s.interleave(targets)
	}
	return targets, nil
}
