package stack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// request is what waits for a decision.
type request struct {
	x       *catcher
	flow    Flow
	quote   []byte // of the packet that it began with, for an ICMP error
	decided bool   // guarded by the listener's lock
}

// Flow says who wants to speak to whom.
func (r *request) Flow() Flow { return r.flow }

// complain sends the ICMP error that says err.
func (r *request) complain(err error) {
	i := r.x.ifc
	now := i.stack.now()
	m := datagram{src: r.flow.Src.Addr(), dst: r.flow.Dst.Addr(), packet: r.quote}
	code4, code6 := uint8(ipv4.CodeHost), uint8(ipv6.CodeAddress)
	switch {
	case err == nil || errors.Is(err, syscall.ECONNREFUSED):
		code4, code6 = ipv4.CodePort, ipv6.CodePort
	case errors.Is(err, syscall.ENETUNREACH):
		code4, code6 = ipv4.CodeNet, ipv6.CodeNoRoute
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		code4, code6 = ipv4.CodeProhibited, ipv6.CodeProhibited
	}
	if m.src.Is4() {
		i.refuse4(now, &m, code4)
	} else {
		i.refuse6(now, &m, &ipv6.ICMP{Type: ipv6.Unreachable, Code: code6})
	}
}

// TCPRequest is a SYN that waits to be answered. Retransmissions of the SYN belong to it. The methods that decide may be called
// from any goroutine; the first decides.
type TCPRequest struct {
	request
	key  tcp.Flow
	done chan struct{} // closed once conn is there, or never will be
	conn *TCPConn
}

// hold makes the request of a SYN that the listener holds, and has the handler called. The listener's lock is held.
func (x *catcher) hold(in *inbox) {
	r := &TCPRequest{key: in.flow, done: make(chan struct{})}
	r.request = request{x: x, quote: slices.Clone(in.m.packet[:min(len(in.m.packet), ipv4Quote)]),
		flow: Flow{netip.AddrPortFrom(in.m.src, in.flow.RemotePort), netip.AddrPortFrom(in.m.dst, in.flow.LocalPort)}}
	x.waiting[in.flow] = r
	handle := x.handler.TCP
	go func() {
		handle(r)
		r.decide(tcp.VerdictIgnore)
	}()
}

// decide gives the listener a verdict, and sends what follows from it. It reports whether it was the first.
func (r *TCPRequest) decide(v tcp.Verdict) bool {
	l := r.x.listener
	now := l.stack.now()
	l.mu.Lock()
	if r.decided {
		l.mu.Unlock()
		return false
	}
	r.decided = true
	r.x.settle(r.flow.Src.Addr())
	held := l.half.Decide(now, &r.key, v)
	if !held || v != tcp.VerdictAccept {
		r.end(nil)
	}
	out := l.answers(now)
	l.arm(now)
	l.mu.Unlock()
	l.reply(now, out)
	return held
}

// end says how the request ended. The listener's lock is held.
func (r *TCPRequest) end(c *TCPConn) {
	if r.x.waiting[r.key] == r {
		delete(r.x.waiting, r.key)
		r.conn = c
		close(r.done)
	}
}

// Accept answers the SYN, and waits until the handshake is through. The connection's LocalAddr is where the peer wanted to
// go. The error is a *net.OpError: ECONNABORTED where the peer has gone, or another decision came first; else the context's.
func (r *TCPRequest) Accept(ctx context.Context) (*TCPConn, error) {
	err := error(syscall.ECONNABORTED)
	if r.decide(tcp.VerdictAccept) {
		select {
		case <-r.done:
		case <-ctx.Done():
			err = contextError(ctx.Err())
		}
	}
	l := r.x.listener
	l.mu.Lock()
	c := r.conn
	if c == nil && r.x.waiting[r.key] == r {
		l.half.Drop(&r.key)
		r.end(nil)
	}
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Source: net.TCPAddrFromAddrPort(r.flow.Dst), Addr: net.TCPAddrFromAddrPort(r.flow.Src), Err: sysError("accept", err)}
}

// Reject refuses the connection. Where err is nil or ECONNREFUSED the peer gets a reset, and else an ICMP error that says as
// much: that the network is unreachable, that it is prohibited, or, whatever else err is, that the host is unreachable. So
// what a Dial of one's own says can be handed on.
func (r *TCPRequest) Reject(err error) {
	if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		r.decide(tcp.VerdictReject)
	} else if r.decide(tcp.VerdictIgnore) {
		r.complain(err)
	}
}

// Drop answers nothing. The peer's next SYN is a new request.
func (r *TCPRequest) Drop() { r.decide(tcp.VerdictIgnore) }
