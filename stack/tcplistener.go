package stack

import (
	"net"
	"os"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// TCPListener accepts TCP connections, with the methods and the errors of net.TCPListener. Listen makes it.
type TCPListener struct {
	stack  *Stack
	bind   binding
	net    string
	config ListenConfig

	mu     sync.Mutex // taken before a connection's
	half   *tcp.Listener
	queue  []*TCPConn // established, not accepted
	waiter *waiter
	by     time.Duration // deadline of Accept; 0: none
	alarm  alarm
	closed bool
	catch  *catcher  // of one that stands for all addresses
	fast   fastQueue // guarded by Stack.fast
}

func (l *TCPListener) bound() *binding { return &l.bind }

// newListener binds a listener.
func (s *Stack) newListener(c ListenConfig, network string, b binding) (*TCPListener, error) {
	if c.Backlog <= 0 {
		c.Backlog = s.config.Backlog
	}
	l := &TCPListener{stack: s, bind: b, net: network, config: c}
	l.half = tcp.NewListener(tcp.ListenConfig{Backlog: c.Backlog, Secret: s.secret.cookie, ISS: s.secret.iss, FastOpen: c.FastOpen > 0})
	l.alarm = alarm{stack: s, fire: l.tick}
	if err := bind(s, s.ports.tcp, l); err != nil {
		return nil, err
	}
	return l, nil
}

// inputListener hands a segment to whom listens at its address. A connection that it completes goes to Accept.
// floor, if not nil, is where the sequence numbers of a connection that follows one in TIME-WAIT begin.
func (s *Stack) inputListener(now time.Duration, in *inbox, floor *tcp.Seq) bool {
	dst := in.m.dst
	l := s.listener(in)
	if l == nil {
		return false
	}
	i := in.ifc
	if h, ok := s.view.Load().route(in.m.dst, in.m.src, in.flow.Zone); ok {
		i = h.ifc // what we send leaves there, which need not be where this came in
	}
	l.mu.Lock()
	config := i.live.Load().config(dst.Is6())
	if l.closed {
		l.mu.Unlock()
		return false
	}
	if in.seg.Flags&tcp.SYN == 0 && s.lookup(&in.flow) != nil { // another queue has just completed this very connection
		l.mu.Unlock()
		return s.deliver(now, in)
	}
	fresh, refused := l.begins(in)
	if refused {
		l.mu.Unlock()
		return true
	}
	l.half.SetFull(len(l.queue) >= l.config.Backlog)
	if in.seg.Options.HasFastOpen && l.config.FastOpen > 0 {
		l.half.SetFastFull(s.fast.full(now, l))
	}
	var reply tcp.Segment
	var t *tcp.TCB
	var ev tcp.Event
	if floor != nil {
		reply, t, ev = l.half.Reopen(now, &in.flow, &in.seg, config, *floor)
	} else {
		reply, t, ev = l.half.Arrive(now, &in.flow, &in.seg, config)
	}
	if t != nil {
		l.complete(now, in, t, ev)
	} else if d := ev.Drop(); d != tcp.DropNone {
		in.tcpDrop(d)
	}
	l.held(in, ev.Drop(), fresh)
	if at, ok := l.half.Deadline(); ok {
		l.alarm.set(at)
	}
	if t == nil {
		s.traceListener(in, &reply, ev.Drop())
	}
	l.mu.Unlock()
	if reply.Flags != 0 {
		s.reply(now, &in.flow, &reply)
	}
	return true
}

// complete enters a connection whose handshake is through, or was spared by Fast Open, in the table, and queues it for Accept. l.mu is held, so that
// no other queue can find neither the half-open record nor the connection.
func (l *TCPListener) complete(now time.Duration, in *inbox, t *tcp.TCB, ev tcp.Event) {
	s := l.stack
	c := s.newConn(&in.flow, t)
	c.setNetwork(l.net)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.insert(now, c, func(*tcp.TimeWaitRecord) bool { return true }) {
		t.Abort()
		for t.Next(now, new(tcp.Segment)) { // its memory comes back
		}
		return
	}
	if k := keepAlive(l.config.KeepAlive); k.Idle > 0 {
		t.SetKeepAlive(now, k)
	}
	t.SetBuffers(now, l.config.ReadBuffer, l.config.WriteBuffer)
	c.queue = in.queue
	if t.State() == tcp.SynReceived {
		s.fast.begin(c, l)
		c.arrived(in, ev, tcp.Listen)
	} else {
		c.arrived(in, ev, tcp.SynReceived)
	}
	l.hand(c)
	s.stats.accepted.Add(1)
}

// tick sends SYN-ACKs again, and wakes an Accept whose deadline has come.
func (l *TCPListener) tick(now time.Duration) {
	l.mu.Lock()
	if !l.alarm.fired() {
		l.mu.Unlock()
		return
	}
	l.half.Expire(now)
	if l.catch != nil {
		l.catch.sweep()
	}
	out := l.answers(now)
	if l.by != 0 && now >= l.by {
		l.waiter.wake()
	}
	l.arm(now)
	l.mu.Unlock()
	l.reply(now, out)
}

// late is a SYN-ACK or a reset of the listener's own accord.
type late struct {
	flow tcp.Flow
	seg  tcp.Segment
}

// answers are those that are due. l.mu is held.
func (l *TCPListener) answers(now time.Duration) (out []late) {
	for {
		var a late
		f, ok := l.half.Next(now, &a.seg)
		if !ok {
			return out
		}
		a.flow = f
		out = append(out, a)
	}
}

// reply sends answers. l.mu is not held.
func (l *TCPListener) reply(now time.Duration, out []late) {
	for i := range out {
		l.stack.reply(now, &out[i].flow, &out[i].seg)
	}
}

// arm sets the alarm for what is due next. l.mu is held.
func (l *TCPListener) arm(now time.Duration) {
	if at, ok := l.half.Deadline(); ok {
		l.alarm.set(at)
	}
	if l.by > now {
		l.alarm.set(l.by)
	}
}

// Accept waits for the next connection. Its type is *TCPConn.
func (l *TCPListener) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptTCP waits for the next connection.
func (l *TCPListener) AcceptTCP() (*TCPConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		now := l.stack.now()
		switch {
		case l.closed:
			return nil, l.error("accept", net.ErrClosed)
		case l.by != 0 && now >= l.by:
			return nil, l.error("accept", os.ErrDeadlineExceeded)
		case len(l.queue) > 0:
			c := l.queue[0]
			l.queue[0] = nil
			if l.queue = l.queue[1:]; len(l.queue) == 0 {
				l.queue = nil
			}
			return c, nil
		}
		l.arm(now)
		l.stack.wait(&l.waiter, &l.mu)
	}
}

// Close stops listening, and resets the connections that were not accepted. Those that were stay.
func (l *TCPListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.error("close", net.ErrClosed)
	}
	l.closed = true
	queue := l.queue
	l.queue = nil
	l.alarm.stop()
	l.waiter.wake()
	l.mu.Unlock()
	unbind(l.stack, l.stack.ports.tcp, l)
	now := l.stack.now()
	for _, c := range queue {
		c.mu.Lock()
		c.linger = 0
		c.release(now)
		c.mu.Unlock()
	}
	return nil
}

// SetDeadline says until when Accept waits; the zero time: for ever.
func (l *TCPListener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return l.error("set", net.ErrClosed)
	}
	l.by = l.stack.at(t)
	l.waiter.wake()
	return nil
}

// Addr is where it listens, a *net.TCPAddr.
func (l *TCPListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.stack.boundAddr(&l.bind)) }

func (l *TCPListener) error(op string, err error) error {
	return &net.OpError{Op: op, Net: l.net, Addr: l.Addr(), Err: sysError(op, err)}
}
