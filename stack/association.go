package stack

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/udp"
)

// UDPRequest is the first datagram of a source that has no Association yet. What else it sends meanwhile belongs to it. The
// methods that decide may be called from any goroutine; the first decides.
type UDPRequest struct {
	request
	a *Association
}

// Association is all that one address and port behind an interface sends over UDP and is sent, whoever with: as RFC 4787
// REQ-1 and REQ-8 have it, one socket of one's own can stand for it towards the world. It is a net.PacketConn whose ReadFrom
// tells where a datagram was to go, and whose WriteTo sends to the source, in the name of the address that it is given.
type Association struct {
	u     UDPConn
	x     *catcher
	first netip.AddrPort
	src   netip.AddrPort
}

var _ net.PacketConn = (*Association)(nil)

// undecided bounds the octets that wait to be read before somebody has decided, and lets some datagrams wait.
const undecided = 16 << 10

// takeUDP takes the text of a datagram, or of several of m.size octets each.
func (x *catcher) takeUDP(in *inbox, b []byte) {
	m := &in.m
	src, dst := netip.AddrPortFrom(m.src, in.udp.Src), netip.AddrPortFrom(m.dst, in.udp.Dst)
	x.mu.RLock()
	a := x.udp[src]
	x.mu.RUnlock()
	if a == nil {
		if a = x.associate(in, src, dst); a == nil {
			return
		}
	}
	for ; m.size > 0 && len(b) > int(m.size); b = b[m.size:] {
		a.u.deliver(m, dst, b[:m.size])
	}
	a.u.deliver(m, dst, b)
}

// associate asks the handler about a new source; nil: it may not even ask.
func (x *catcher) associate(in *inbox, src, dst netip.AddrPort) *Association {
	x.listener.mu.Lock()
	defer x.listener.mu.Unlock()
	handle := x.handler.UDP
	if handle == nil || x.listener.closed {
		in.drop(NoSocket)
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.undecided >= x.listener.config.Backlog {
		in.drop(InterceptLimit)
		return nil
	}
	if !x.admit(in) {
		return nil
	}
	x.undecided++
	a := &Association{x: x, src: src, first: dst}
	a.u = UDPConn{stack: x.ifc.stack, net: "udp", bind: binding{v4: src.Addr().Is4(), v6: src.Addr().Is6()}, limit: undecided}
	a.u.alarm = alarm{stack: x.ifc.stack, fire: a.u.tick}
	x.udp[src] = a
	r := &UDPRequest{request{x: x, flow: Flow{src, dst}, quote: slices.Clone(in.m.packet[:min(len(in.m.packet), ipv4Quote)])}, a}
	go func() {
		handle(r)
		r.Drop()
	}()
	return a
}

// decide notes that somebody has decided, and reports whether nobody had.
func (r *UDPRequest) decide() bool {
	l := r.x.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.decided {
		return false
	}
	r.decided = true
	r.x.settle(r.flow.Src.Addr())
	r.x.mu.Lock()
	r.x.undecided--
	r.x.mu.Unlock()
	return true
}

// Accept returns what the source sends, from the first datagram on. The Association is to be closed once it is idle: RFC 4787
// REQ-5 asks for two minutes at least, and recommends five. The error is a *net.OpError around ECONNABORTED, where another
// decision came first.
func (r *UDPRequest) Accept() (*Association, error) {
	if !r.decide() {
		return nil, &net.OpError{Op: "accept", Net: "udp", Source: net.UDPAddrFromAddrPort(r.flow.Dst), Addr: net.UDPAddrFromAddrPort(r.flow.Src), Err: sysError("accept", syscall.ECONNABORTED)}
	}
	return r.a, r.a.u.SetReadBuffer(defaultUDPBuffer)
}

// Reject answers with an ICMP error that says err: nil or ECONNREFUSED that nobody uses the port, and else as
// TCPRequest.Reject has it.
func (r *UDPRequest) Reject(err error) {
	if r.decide() {
		r.a.Close()
		r.complain(err)
	}
}

// Drop answers nothing. The source's next datagram is a new request.
func (r *UDPRequest) Drop() {
	if r.decide() {
		r.a.Close()
	}
}

// ReadFrom reads a datagram, and tells where the source sent it, as a *net.UDPAddr.
func (a *Association) ReadFrom(b []byte) (int, net.Addr, error) { return a.u.ReadFrom(b) }

// ReadFromUDPAddrPort is ReadFrom without an allocation.
func (a *Association) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	return a.u.ReadFromUDPAddrPort(b)
}

// WriteTo sends a datagram to the source, as if from, a *net.UDPAddr, had sent it.
func (a *Association) WriteTo(b []byte, from net.Addr) (int, error) {
	u, ok := from.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: from, Addr: a.RemoteAddr(), Err: syscall.EINVAL}
	}
	return a.WriteToUDPAddrPort(b, u.AddrPort())
}

// WriteToUDPAddrPort is WriteTo without an allocation.
func (a *Association) WriteToUDPAddrPort(b []byte, from netip.AddrPort) (int, error) {
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if err := a.send(b, from); err != nil {
		return 0, &net.OpError{Op: "write", Net: "udp", Source: net.UDPAddrFromAddrPort(from), Addr: a.RemoteAddr(), Err: sysError("write", err)}
	}
	return len(b), nil
}

func (a *Association) send(b []byte, from netip.AddrPort) error {
	if err := a.u.sendable(from); err != nil {
		return err
	}
	s, i, dst := a.u.stack, a.x.ifc, a.src.Addr()
	if len(b) > maxDatagram(dst) {
		return syscall.EMSGSIZE
	}
	h := s.view.Load().back(i, dst)
	m := meta{src: from.Addr().WithZone(""), dst: dst, proto: ipv4.ProtoUDP}
	hdr := udp.Header{Src: from.Port(), Dst: a.src.Port(), Length: udp.HeaderLen + len(b)}
	if hdr.Length > i.mtu(dst)-ipHeader(dst) {
		return a.u.sendCut(&m, h, &hdr, b)
	}
	p := s.newPacket()
	p.toward(h, dst)
	n := hdr.Encode(p.head[headroom:])
	p.one[0] = b
	p.wrap(&m, n, p.one[:], udpChecksum, 0)
	s.stats.datagramsOut.Add(1)
	if !s.leaves(p) {
		s.free(p)
		return syscall.EPERM
	}
	return a.u.transmit(p, i)
}

// LocalAddr is where the source sent its first datagram, a *net.UDPAddr.
func (a *Association) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(a.first) }

// RemoteAddr is the source, a *net.UDPAddr.
func (a *Association) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(a.src) }

// Close ends every pending call. What the source sends from now on is a new request.
func (a *Association) Close() error {
	a.x.mu.Lock()
	if a.x.udp[a.src] == a {
		delete(a.x.udp, a.src)
	}
	a.x.mu.Unlock()
	return a.u.Close()
}

// SetDeadline sets both deadlines; the zero time takes them back.
func (a *Association) SetDeadline(t time.Time) error { return a.u.SetDeadline(t) }

// SetReadDeadline says until when reading waits.
func (a *Association) SetReadDeadline(t time.Time) error { return a.u.SetReadDeadline(t) }

// SetWriteDeadline says until when writing waits for room in the device.
func (a *Association) SetWriteDeadline(t time.Time) error { return a.u.SetWriteDeadline(t) }
