package stack

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// PingConfig is what an echo request is made with. The zero value is an empty one.
type PingConfig struct {
	Source       netip.Addr // to send from; invalid: the address that suits
	ID           uint16     // the identifier; 0: one at random
	Seq          uint16     // the sequence number
	Data         []byte     // what the reply has to bring back
	HopLimit     uint8      // TTL or hop limit; 0 means the stack's
	TOS          uint8      // TOS or traffic class
	DontFragment bool       // EMSGSIZE where it is too long for the path, rather than fragments
}

// PingReply is an echo reply.
type PingReply struct {
	From     netip.Addr
	RTT      time.Duration // between the request and the reply
	HopLimit uint8         // of the reply, as it was on arrival
	TOS      uint8
	Len      int // octets of the ICMP message
}

// ICMPError is an ICMP error message that came instead of a reply. It compares as Errno does.
type ICMPError struct {
	From       netip.Addr // the router or host that says so
	Type, Code uint8      // of ICMP or ICMPv6, by From's family
	MTU        int        // what the next link carries, where that is what it is about
	Errno      syscall.Errno
	RTT        time.Duration // between the request and the error
	HopLimit   uint8         // of the error, as it was on arrival
}

// Error says what it is about, and who says so.
func (e *ICMPError) Error() string {
	kind := "ICMP"
	if e.From.Is6() {
		kind = "ICMPv6"
	}
	return fmt.Sprintf("%v (%s type %d, code %d, from %v)", e.Errno, kind, e.Type, e.Code, e.From)
}

// Unwrap is the error that a socket would have, such as EHOSTUNREACH.
func (e *ICMPError) Unwrap() error { return e.Errno }

// Expired reports whether the hop limit was used up on the way, which is how traceroute learns of a router.
func (e *ICMPError) Expired() bool {
	return e.From.Is4() && e.Type == ipv4.TimeExceeded || e.From.Is6() && e.Type == ipv6.TimeExceeded
}

// Ping sends one echo request and waits for the reply until the context ends. The error is a *net.OpError: around an
// *ICMPError where somebody answered that the request did not arrive, around EHOSTUNREACH where the next hop does not
// answer.
func (s *Stack) Ping(ctx context.Context, to netip.Addr, c PingConfig) (PingReply, error) {
	to = to.Unmap()
	network := "ip4:icmp"
	if to.Is6() {
		network = "ip6:ipv6-icmp"
	}
	fail := func(source net.Addr, err error) (PingReply, error) {
		return PingReply{}, &net.OpError{Op: "ping", Net: network, Source: source, Addr: ipAddr(to), Err: contextError(err)}
	}
	if !to.IsValid() {
		return fail(nil, syscall.EINVAL)
	}
	if err := ctx.Err(); err != nil {
		return fail(nil, err)
	}
	conn, err := s.connectIP(network, c.Source, to)
	if err != nil {
		return fail(nil, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(s.start) })()
	conn.SetHopLimit(c.HopLimit)
	conn.SetTOS(c.TOS)
	conn.SetDontFragment(c.DontFragment)
	if c.ID == 0 {
		c.ID = uint16(s.secret.random())
	}
	request := c.request(to)
	began := s.now()
	if err := conn.send(request, to); err != nil {
		return fail(conn.LocalAddr(), err)
	}
	b := make([]byte, max(len(request), ipv6.MinMTU))
	for {
		n, r, err := conn.u.receive(b)
		var op *net.OpError
		switch {
		case err != nil && ctx.Err() != nil:
			return fail(conn.LocalAddr(), ctx.Err())
		case errors.As(err, &op):
			return fail(conn.LocalAddr(), op.Err)
		}
		rtt, from := s.now()-began, r.from.Addr()
		if isReply(b[:n], request) && n == r.n {
			return PingReply{From: from, RTT: rtt, HopLimit: r.hops, TOS: r.tos, Len: n}, nil
		}
		if e := icmpError(b[:n], request, from.Is6()); e != nil {
			e.From, e.RTT, e.HopLimit = from, rtt, r.hops
			return fail(conn.LocalAddr(), e)
		}
	}
}

// request is the ICMP message, but for its checksum.
func (c *PingConfig) request(to netip.Addr) []byte {
	b := make([]byte, ipv4.ICMPLen, ipv4.ICMPLen+len(c.Data))
	b[0] = ipv4.Echo
	if to.Is6() {
		b[0] = ipv6.Echo
	}
	binary.BigEndian.PutUint16(b[4:], c.ID)
	binary.BigEndian.PutUint16(b[6:], c.Seq)
	return append(b, c.Data...)
}

// isReply reports whether b is the reply to a request.
func isReply(b, request []byte) bool {
	return (b[0] == ipv4.EchoReply && request[0] == ipv4.Echo || b[0] == ipv6.EchoReply && request[0] == ipv6.Echo) && bytes.Equal(b[4:], request[4:])
}

// icmpError is the error that b is about a request; nil: it is none, or about another.
func icmpError(b, request []byte, six bool) *ICMPError {
	e := &ICMPError{Type: b[0], Code: b[1]}
	quoted, reason := b[ipv4.ICMPLen:], tcp.None
	if six {
		msg := ipv6.ICMP{Type: b[0], Code: b[1], Rest: binary.BigEndian.Uint32(b[4:])}
		if !msg.IsError() || len(quoted) < ipv6.HeaderLen {
			return nil
		}
		var chain ipv6.Chain
		next := quoted[6] // RFC 8200 §3
		quoted = quoted[ipv6.HeaderLen:]
		if chain.WalkQuoted(next, quoted) != nil || chain.Offset > len(quoted) {
			return nil
		}
		quoted = quoted[chain.Offset:]
		reason, e.Errno = reason6(&msg)
		e.MTU = msg.MTU()
	} else {
		msg := ipv4.ICMP{Type: b[0], Code: b[1], ID: binary.BigEndian.Uint16(b[4:]), Seq: binary.BigEndian.Uint16(b[6:])}
		var h ipv4.Header
		n, err := h.DecodeQuoted(quoted)
		if !msg.IsError() || err != nil {
			return nil
		}
		quoted = quoted[n:]
		reason, e.Errno = reason4(&msg)
		e.MTU = msg.MTU()
	}
	if reason == tcp.None || len(quoted) < ipv4.ICMPLen || quoted[0] != request[0] || !bytes.Equal(quoted[4:8], request[4:8]) {
		return nil
	}
	return e
}
