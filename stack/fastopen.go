package stack

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// This file is what TCP Fast Open (RFC 7413) needs beside package tcp: a client's cookies, and a server's count of connections
// whose handshake is not complete.

const (
	// maxFastServers bounds what is remembered of servers, some 100 octets each. RFC 7413 §4.1.3 leaves the number open.
	maxFastServers = 1024
	// fastPause is how long a server whose SYN with the option went unanswered is spared it, and maxFastPauses how often that
	// is doubled: Linux's 60 s << syn_loss, up to about an hour.
	fastPause     = time.Minute
	maxFastPauses = 6
	// fastResetWait is how long a connection that was reset counts as pending. RFC 7413 §5.1 has it counted until it would have
	// timed out, else whoever has stolen a cookie lets the victim's resets make room; Linux has 60 s.
	fastResetWait = time.Minute
)

// fastPath is what a cookie is bound to: RFC 7413 §4.1.3 has it kept by the server's address; a server sees ours in it as well.
type fastPath struct {
	local, remote [16]byte
	zone          uint32
}

// fastServer is what is remembered of a server.
type fastServer struct {
	cookie tcp.FastOpenCookie
	mss    int
	losses uint8         // SYNs with the option in a row that went unanswered
	until  time.Duration // no option before
}

// fastOpens is a stack's memory of Fast Open, both as a client and as a server.
type fastOpens struct {
	pending atomic.Int32 // len(early)
	mu      sync.Mutex
	servers map[fastPath]fastServer
	early   map[*TCPConn]*TCPListener // connections in SYN-RECEIVED that came out of a SYN with a cookie
}

// DialFastOpen connects over "tcp", "tcp4" or "tcp6" as DialContext does, and writes data, which in the best case saves a round
// trip: where the server has given us a cookie before, data goes with the SYN (RFC 7413); else it goes once the connection is
// open, and the SYN asks for a cookie. It is for what may be said twice, such as a GET: a SYN that the network repeats can bring
// its data to the server's user a second time (RFC 7413 §6.1). Of several addresses one is tried after the other.
func (s *Stack) DialFastOpen(ctx context.Context, network, address string, data []byte) (*TCPConn, error) {
	family, isTCP, err := parseNetwork(network)
	if err == nil && !isTCP {
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	targets, err := s.resolveAddress(ctx, network, address, family)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: contextError(err)}
	}
	var first error
	for _, to := range targets {
		c, err := s.dialFast(ctx, network, to, data)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = dialError(network, nil, netAddr(network, to), err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, first
}

// dialFast tries one address.
func (s *Stack) dialFast(ctx context.Context, network string, to netip.AddrPort, data []byte) (*TCPConn, error) {
	var opening *TCPConn
	written := 0
	c, err := s.connect(ctx, network, netip.AddrPort{}, netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), func(c *TCPConn, now time.Duration) {
		if v := s.fast.server(now, c.fastPath()); now >= v.until {
			c.tcb.FastOpen(v.cookie, v.mss)
		}
		opening, written = c, c.tcb.Write(now, data[:min(len(data), s.memory.spare())])
	})
	if opening != nil {
		opening.mu.Lock()
		if o, ok := opening.tcb.FastOpened(); ok {
			s.fast.learn(s.now(), opening.fastPath(), &o)
		}
		opening.mu.Unlock()
	}
	if err != nil || written == len(data) {
		return c, err
	}
	stop := context.AfterFunc(ctx, func() { c.SetWriteDeadline(time.Unix(1, 0)) })
	_, err = c.Write(data[written:])
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		c.SetLinger(0)
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *TCPConn) fastPath() fastPath { return fastPath{c.flow.Local, c.flow.Remote, c.flow.Zone} }

// server is what is known of a server.
func (x *fastOpens) server(now time.Duration, p fastPath) fastServer {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.servers[p]
}

// learn keeps what a SYN has taught. RFC 7413 §4.1.3.1: where it went unanswered, something on the path may drop what it does
// not know, and the option is left out for a while.
func (x *fastOpens) learn(now time.Duration, p fastPath, o *tcp.FastOpenOutcome) {
	x.mu.Lock()
	defer x.mu.Unlock()
	v, known := x.servers[p]
	switch {
	case o.TimedOut:
		v.until = now + fastPause<<v.losses
		v.losses = min(v.losses+1, maxFastPauses)
	case o.Cookie.Len() > 0 || o.Acked > 0:
		v.losses = 0
	}
	if o.Cookie.Len() > 0 {
		v.cookie, v.mss = o.Cookie, o.MSS
	}
	if !known && v == (fastServer{}) {
		return
	}
	if !known && len(x.servers) >= maxFastServers {
		for other := range x.servers { // any: a map begins anywhere
			delete(x.servers, other)
			break
		}
	}
	if x.servers == nil {
		x.servers = map[fastPath]fastServer{}
	}
	x.servers[p] = v
}

// fastQueue counts a listener's connections whose handshake is not complete. fastOpens.mu guards it.
type fastQueue struct {
	pending int
	resets  []time.Duration // until when those that were reset count
}

// full reports whether l has no room for one more. RFC 7413 §5.1: the limit protects against who has stolen a cookie.
func (x *fastOpens) full(now time.Duration, l *TCPListener) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	q := &l.fast
	for len(q.resets) > 0 && q.resets[0] <= now {
		q.resets = q.resets[1:]
	}
	return q.pending+len(q.resets) >= l.config.FastOpen
}

// begin counts a connection that l has made of a SYN.
func (x *fastOpens) begin(c *TCPConn, l *TCPListener) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.early == nil {
		x.early = map[*TCPConn]*TCPListener{}
	}
	x.early[c] = l
	x.pending.Store(int32(len(x.early)))
	l.fast.pending++
}

// settle counts c no longer: its handshake is complete, or it has ended.
func (x *fastOpens) settle(now time.Duration, c *TCPConn) {
	if x.pending.Load() == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.early[c]
	if l == nil {
		return
	}
	delete(x.early, c)
	x.pending.Store(int32(len(x.early)))
	l.fast.pending--
	if !c.opened && c.tcb.Err() == tcp.Reset {
		l.fast.resets = append(l.fast.resets, now+fastResetWait)
	}
}
