package stack

import (
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/internal/wheel"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TCPConn is a TCP connection, with the methods and the errors of net.TCPConn. DialContext and TCPListener.Accept make it.
type TCPConn struct {
	mu              sync.Mutex // guards all that follows, but timer
	stack           *Stack
	tcb             *tcp.TCB
	flow            tcp.Flow
	timer           wheel.Timer[*TCPConn] // guarded by the shard's lock
	parked          *packet               // a segment that was made and could not leave yet
	listed          *Interface            // among whose connections that wait for room it is
	rd, wr          *waiter               // who waits to read; who waits to write, or to be connected
	readBy, writeBy time.Duration         // deadlines; 0: none
	latest          time.Duration         // what the TCB was last told the time is
	armed           time.Duration         // what the wheel will fire at, or before; 0: it will not
	events          tcp.Event             // of the batch that is being read
	label           uint32                // IPv6 flow label (RFC 6437)
	errno           syscall.Errno         // why the connection ended, until somebody was told
	linger          int32                 // SetLinger; -1: off

	hops, tos uint8
	family    uint8  // of the network that it was made with: '4', '6', or 0 for "tcp"
	queue     uint8  // of the device: where the last segment came in
	sending   bool   // a goroutine is in output
	again     bool   // and shall look once more
	touched   bool   // on the list of a batch
	served    bool   // the device has room, and it is our turn
	writing   bool   // a Write is under way: others wait for their turn
	giving    bool   // it waits for more room than the little that there is
	confirm   bool   // the peer showed that it can be reached (RFC 4861 §7.3.1)
	doubt     bool   // it has not answered for long (RFC 1122 §3.3.1.4)
	opened    bool   // the handshake is through
	shut      bool   // CloseWrite was called
	released  bool   // Close was called
	gone      bool   // no longer in the table
	mute      bool   // the local address is not ours any more: nothing may leave
	narrow    bool   // the path carries less than any should: DF is clear
	paths     uint16 // the generation of Stack.paths that the TCB knows of
}

// newConn makes the connection around a TCB. tcb may be nil for a moment, under c.mu.
func (s *Stack) newConn(f *tcp.Flow, t *tcp.TCB) *TCPConn {
	c := &TCPConn{stack: s, tcb: t, flow: *f, linger: -1}
	c.timer.Value = c
	if !fromFlow(f.Remote).Is4() {
		c.label = uint32(s.hash(f))&0xfffff | 1 // RFC 6437 §3: 20 bits of a hash; zero means no label
	}
	return c
}

func (c *TCPConn) localAddr() netip.Addr  { return fromFlow(c.flow.Local) }
func (c *TCPConn) remoteAddr() netip.Addr { return fromFlow(c.flow.Remote) }

func (c *TCPConn) local() netip.AddrPort {
	return c.stack.zoned(c.flow.Local, c.flow.LocalPort, c.flow.Zone)
}

func (c *TCPConn) remote() netip.AddrPort {
	return c.stack.zoned(c.flow.Remote, c.flow.RemotePort, c.flow.Zone)
}

// clock is now as the TCB is to be told: never earlier than before. A batch, a timer and a writer each read the stack's
// clock before they have the lock, so that who comes second may come with the earlier time. Told so, the TCB would send
// timestamps that go back, which the peer drops (RFC 7323 §5.3, R1).
func (c *TCPConn) clock(now time.Duration) time.Duration {
	c.latest = max(c.latest, now)
	return c.latest
}

// deadline is when something of c is due, after now; 0: never.
func (c *TCPConn) deadline(now time.Duration) time.Duration {
	at, ok := c.tcb.Deadline()
	if !ok {
		at = 0
	}
	for _, d := range [...]time.Duration{c.readBy, c.writeBy} {
		if d > now && (at == 0 || d < at) {
			at = d
		}
	}
	return at
}

// expire does what is due. The shard's timer calls it.
func (c *TCPConn) expire(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = 0
	if c.gone {
		return
	}
	now = c.clock(now)
	before := c.tcb.State()
	ev := c.tcb.Expire(now)
	if ev.Has(tcp.SoftError) {
		// RFC 9293 §3.8.3, MUST-20: "When the number of transmissions of the same segment reaches or exceeds threshold R1, pass
		// negative advice […] to the IP layer, to trigger dead-gateway diagnosis."
		c.doubt = true
	}
	if c.readBy != 0 && now >= c.readBy {
		c.rd.wake()
	}
	if c.writeBy != 0 && now >= c.writeBy {
		c.wr.wake()
	}
	if ev != 0 || before != c.tcb.State() {
		c.trace(TimerExpired, 0, nil, before, 0)
	}
	c.happened(ev)
	c.output(now)
}

// happened tells who waits what a call to the TCB has changed.
func (c *TCPConn) happened(ev tcp.Event) {
	if ev.Has(tcp.Progress) {
		c.confirm, c.doubt = true, false
	}
	if ev.Has(tcp.Opened) {
		c.opened = true
		c.stack.stats.opened.Add(1)
		c.stack.fast.settle(0, c)
		c.wr.wake()
	}
	if ev.Has(tcp.Ended) {
		c.ended()
	}
	if ev.Has(tcp.Readable) {
		c.rd.wake()
	}
	if ev.Has(tcp.Writable) || c.giving && ev.Has(tcp.Progress) {
		c.wr.wake()
	}
}

// ended notes why the connection ended.
func (c *TCPConn) ended() {
	if c.errno == 0 {
		c.errno = errnoOf(c.tcb.Err())
	}
	c.rd.wake()
	c.wr.wake()
}

// settle is the end of each output: what has ended leaves the table, and the timer is set for the rest.
func (c *TCPConn) settle(now time.Duration) {
	if c.gone {
		return
	}
	switch c.tcb.State() {
	case tcp.Closed:
		if c.parked != nil && c.stack.closed.Load() { // no room will come for it
			c.stack.free(c.parked)
			c.parked = nil
		}
		if c.parked == nil {
			c.remove(now)
			return
		}
	case tcp.TimeWait:
		if _, ok := c.tcb.TimeWaitRecord(now); ok && c.released && c.parked == nil {
			c.remove(now)
			return
		}
	}
	c.arm(now)
}

// unreachable notes that a segment could not leave.
func (c *TCPConn) unreachable(now time.Duration, why tcp.Reason) {
	c.happened(c.tcb.Notify(now, c.tcb.Info().SndUna, tcp.Notice{Reason: why}))
}

// Read reads what has arrived in order, and waits for the first octet. The error is io.EOF once the peer has sent its
// FIN and all before it was read.
func (c *TCPConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if len(b) == 0 && !c.released {
			return 0, nil // even behind the deadline, as in package net
		}
		now := c.stack.now()
		if err := c.readable(now); err != nil {
			return 0, c.opError("read", err)
		}
		if n := c.tcb.Read(now, b); n > 0 {
			c.output(now)
			return n, nil
		}
		if err := c.end(); err != nil {
			return 0, c.opError("read", err)
		}
		c.arm(now)
		c.stack.wait(&c.rd, &c.mu)
	}
}

// readable reports why nothing may be read whatever has arrived.
func (c *TCPConn) readable(now time.Duration) error {
	if c.released {
		return net.ErrClosed
	}
	if c.readBy != 0 && now >= c.readBy {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// end reports why there will be nothing more to read, or nil.
func (c *TCPConn) end() error {
	if c.tcb.EOF() {
		return io.EOF
	}
	if c.tcb.State() == tcp.Closed {
		if err := c.told(); err != 0 && err != syscall.EPIPE {
			return err
		}
		return io.EOF
	}
	return nil
}

// told is why the connection ended; it is told once, as the kernel does.
func (c *TCPConn) told() syscall.Errno {
	err := c.errno
	c.errno = 0
	return err
}

// Write copies b into the send buffer, and waits where there is no room. All of b is written before another Write's
// octets are.
func (c *TCPConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.turn(); err != nil {
		return 0, c.opError("write", err)
	}
	defer c.pass()
	sent := 0
	for {
		now := c.stack.now()
		if err := c.writable(now); err != nil {
			return sent, c.opError("write", err)
		}
		if len(b) == 0 {
			return 0, nil
		}
		if n := c.tcb.Write(now, b[sent:min(len(b), sent+c.stack.memory.spare())]); n > 0 {
			sent += n
			c.output(now)
			if sent < len(b) {
				continue
			}
			return sent, nil
		}
		c.full(now)
	}
}

// turn waits until no other Write is under way.
func (c *TCPConn) turn() error {
	for c.writing {
		now := c.stack.now()
		if err := c.writable(now); err != nil {
			return err
		}
		c.arm(now)
		c.stack.wait(&c.wr, &c.mu)
	}
	c.writing = true
	return nil
}

func (c *TCPConn) pass() {
	c.writing = false
	c.wr.wake()
}

// full waits for room in the send buffer.
func (c *TCPConn) full(now time.Duration) {
	if c.tcb.Room() > 0 { // there is room, but no memory to fill it with
		c.stack.memory.wait(c)
	}
	c.arm(now)
	c.stack.wait(&c.wr, &c.mu)
}

// writable reports why nothing may be written.
func (c *TCPConn) writable(now time.Duration) error {
	if c.released {
		return net.ErrClosed
	}
	if c.writeBy != 0 && now >= c.writeBy {
		return os.ErrDeadlineExceeded
	}
	switch c.tcb.State() {
	case tcp.Established, tcp.CloseWait, tcp.SynReceived: // the last by Fast Open
		if !c.shut {
			return nil
		}
	case tcp.Closed:
		if err := c.told(); err != 0 {
			return err
		}
	}
	return syscall.EPIPE
}

// Close ends the connection as close(2) does: what was written is still sent, and what was not read, or arrives later,
// is answered by a reset. Close does not wait.
func (c *TCPConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return c.opError("close", net.ErrClosed)
	}
	c.release(c.stack.now())
	return nil
}

// release lets the connection go. c.mu is held.
func (c *TCPConn) release(now time.Duration) {
	c.released = true
	before := c.tcb.State()
	if c.linger == 0 {
		c.tcb.Abort()
	} else {
		c.tcb.Release(now)
	}
	c.trace(UserCall, 0, nil, before, 0)
	c.rd.wake()
	c.wr.wake()
	c.output(now)
}

// CloseWrite sends a FIN behind what was written; reading goes on.
func (c *TCPConn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.shutdownable(); err != nil {
		return c.opError("close", err)
	}
	c.shut = true
	now, before := c.stack.now(), c.tcb.State()
	c.tcb.Close(now)
	c.trace(UserCall, 0, nil, before, 0)
	c.wr.wake()
	c.output(now)
	return nil
}

// CloseRead ends reading: Read returns io.EOF, and what arrives is acknowledged and discarded.
func (c *TCPConn) CloseRead() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.shutdownable(); err != nil {
		return c.opError("close", err)
	}
	now := c.stack.now()
	c.tcb.CloseRead(now)
	c.rd.wake()
	c.output(now)
	return nil
}

func (c *TCPConn) shutdownable() error {
	if c.released {
		return net.ErrClosed
	}
	if c.tcb.State() == tcp.Closed || c.tcb.State() == tcp.TimeWait {
		return os.NewSyscallError("shutdown", syscall.ENOTCONN)
	}
	return nil
}
