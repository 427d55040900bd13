package stack

import (
	"io"
	"net"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// LocalAddr is our address, a *net.TCPAddr.
func (c *TCPConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local()) }

// RemoteAddr is the peer's address, a *net.TCPAddr.
func (c *TCPConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote()) }

// Info tells the state of the connection: what RFC 9293 §3.10.6 calls STATUS.
func (c *TCPConn) Info() tcp.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tcb.Info()
}

// set runs a change of an option under the lock, if the connection is still open.
func (c *TCPConn) set(change func(now time.Duration)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return c.opError("set", net.ErrClosed)
	}
	now := c.stack.now()
	change(now)
	c.output(now)
	return nil
}

// adjust is set for deadlines and buffers, where package net's error names no source.
func (c *TCPConn) adjust(change func(now time.Duration)) error {
	if err := c.set(change); err != nil {
		return &net.OpError{Op: "set", Net: c.network(), Addr: c.LocalAddr(), Err: net.ErrClosed}
	}
	return nil
}

// SetDeadline sets both deadlines; the zero time takes them back.
func (c *TCPConn) SetDeadline(t time.Time) error {
	return c.adjust(func(time.Duration) { c.setDeadlines(t, true, true) })
}

// SetReadDeadline says until when Read waits.
func (c *TCPConn) SetReadDeadline(t time.Time) error {
	return c.adjust(func(time.Duration) { c.setDeadlines(t, true, false) })
}

// SetWriteDeadline says until when Write waits.
func (c *TCPConn) SetWriteDeadline(t time.Time) error {
	return c.adjust(func(time.Duration) { c.setDeadlines(t, false, true) })
}

// setDeadlines wakes who waits, so that they see it. The timer is set when they wait again.
func (c *TCPConn) setDeadlines(t time.Time, read, write bool) {
	at := c.stack.at(t)
	if read {
		c.readBy = at
		c.rd.wake()
	}
	if write {
		c.writeBy = at
		c.wr.wake()
	}
}

// SetNoDelay turns Nagle's algorithm off, which is how a connection begins, or on.
func (c *TCPConn) SetNoDelay(noDelay bool) error {
	return c.set(func(time.Duration) { c.tcb.SetNoDelay(noDelay) })
}

// SetLinger says what Close does: with 0 it resets the connection, else it sends what was written first, and does not
// wait for it to be acknowledged.
func (c *TCPConn) SetLinger(sec int) error {
	return c.set(func(time.Duration) { c.linger = int32(max(min(sec, 1<<16), -1)) })
}

// SetKeepAlive turns the probing of an idle peer on, with tcp.DefaultKeepAlive's times, or off, which is how a connection
// begins (RFC 9293 §3.8.4, MUST-25).
func (c *TCPConn) SetKeepAlive(on bool) error {
	return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: on, Idle: -1, Interval: -1, Count: -1})
}

// SetKeepAlivePeriod sets how long the peer may be silent before a probe, and the time between probes.
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: d, Interval: d, Count: -1})
}

// SetKeepAliveConfig sets all of it. As in package net, 0 means 15 s, 15 s and 9 probes; negative values mean
// tcp.DefaultKeepAlive's.
func (c *TCPConn) SetKeepAliveConfig(k net.KeepAliveConfig) error {
	return c.set(func(now time.Duration) { c.tcb.SetKeepAlive(now, keepAlive(k)) })
}

// keepAlive is k in package tcp's terms.
func keepAlive(k net.KeepAliveConfig) tcp.KeepAlive {
	const netDefault = 15 * time.Second // net.KeepAliveConfig's documentation
	pick := func(d, def time.Duration) time.Duration {
		switch {
		case d == 0:
			return netDefault
		case d < 0:
			return def
		}
		return d
	}
	if !k.Enable {
		return tcp.KeepAlive{}
	}
	to := tcp.KeepAlive{Idle: pick(k.Idle, tcp.DefaultKeepAlive.Idle), Interval: pick(k.Interval, tcp.DefaultKeepAlive.Interval), Count: k.Count}
	if to.Count <= 0 {
		to.Count = tcp.DefaultKeepAlive.Count
	}
	return to
}

// SetUserTimeout bounds how long written octets may stay unacknowledged before the connection is given up
// (RFC 9293 §3.8.3, MUST-21; Linux's TCP_USER_TIMEOUT); 0 is the default again.
func (c *TCPConn) SetUserTimeout(d time.Duration) error {
	return c.set(func(now time.Duration) { c.tcb.SetUserTimeout(now, d) })
}

// SetReadBuffer bounds the octets that wait to be read. What was already announced to the peer stays announced.
func (c *TCPConn) SetReadBuffer(bytes int) error {
	return c.adjust(func(now time.Duration) { c.tcb.SetBuffers(now, bytes, 0) })
}

// SetWriteBuffer bounds the octets that wait to be sent and acknowledged.
func (c *TCPConn) SetWriteBuffer(bytes int) error {
	return c.adjust(func(now time.Duration) { c.tcb.SetBuffers(now, 0, bytes) })
}

// SetTOS sets the DSCP of outgoing packets: the six upper bits of tos (RFC 2474 §3); the ECN bits stay TCP's.
func (c *TCPConn) SetTOS(tos uint8) error {
	return c.set(func(time.Duration) { c.tos = tos &^ 3 })
}

// SetHopLimit sets the TTL or hop limit of outgoing packets; 0 is the stack's again.
func (c *TCPConn) SetHopLimit(hops uint8) error {
	return c.set(func(time.Duration) { c.hops = hops })
}

// SetTTL is SetHopLimit, by the name and with the type of golang.org/x/net/ipv4.
func (c *TCPConn) SetTTL(ttl int) error {
	if ttl < 0 || ttl > 255 {
		return c.opError("set", syscall.EINVAL)
	}
	return c.SetHopLimit(uint8(ttl))
}

// SetTrafficClass is SetTOS, by the name and with the type of golang.org/x/net/ipv6.
func (c *TCPConn) SetTrafficClass(tc int) error {
	if tc < 0 || tc > 255 {
		return c.opError("set", syscall.EINVAL)
	}
	return c.SetTOS(uint8(tc))
}

// SetFlowLabel sets the flow label of outgoing packets over IPv6, of which 20 bits count. A connection begins with one of
// its own (RFC 6437).
func (c *TCPConn) SetFlowLabel(label uint32) error {
	return c.set(func(time.Duration) { c.label = label & maxFlowLabel })
}

// WriteTo writes what arrives to w until the end, from the chunks that it arrived in: one copy less than Read.
func (c *TCPConn) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for {
		chunk, b, err := c.take()
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
		n, err := w.Write(b)
		c.stack.memory.Return(chunk)
		sum += int64(n)
		if err == nil && n < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return sum, c.copyError("writeto", err)
		}
	}
}

// take waits for a run of octets that can be read.
func (c *TCPConn) take() (*tcp.Chunk, []byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		now := c.stack.now()
		if err := c.readable(now); err != nil {
			return nil, nil, c.opError("writeto", err)
		}
		chunk, b := c.tcb.Take(now)
		if chunk == nil && c.tcb.Buffered() > 0 { // it has to be copied, and there is no memory for that
			chunk = c.stack.memory.force(tcp.SmallChunk)
			b = chunk.Bytes[:c.tcb.Read(now, chunk.Bytes)]
		}
		if chunk != nil {
			c.output(now)
			return chunk, b, nil
		}
		if err := c.end(); err != nil {
			return nil, nil, c.opError("writeto", err)
		}
		c.arm(now)
		c.stack.wait(&c.rd, &c.mu)
	}
}

// ReadFrom sends what it reads from r until the end, reading into the chunks that are sent: one copy less than Write.
func (c *TCPConn) ReadFrom(r io.Reader) (int64, error) {
	var sum int64
	for {
		var chunk *tcp.Chunk
		if c.stack.memory.spare() >= tcp.LargeChunk {
			chunk = c.stack.memory.Borrow(tcp.LargeChunk)
		}
		if chunk == nil { // no memory for so much at once: as if Write were all there is
			n, err := io.Copy(struct{ io.Writer }{c}, r)
			return sum + n, c.copyError("readfrom", err)
		}
		n, rerr := r.Read(chunk.Bytes)
		if werr := c.give(chunk, n); werr != nil {
			return sum, c.copyError("readfrom", werr)
		}
		sum += int64(n)
		if rerr == io.EOF {
			return sum, nil
		}
		if rerr != nil {
			return sum, c.copyError("readfrom", rerr)
		}
	}
}

// copyError wraps what ended a copy, whichever side it came from, once.
func (c *TCPConn) copyError(op string, err error) error {
	if e, ok := err.(*net.OpError); err == nil || ok && e.Op == op {
		return err
	}
	return &net.OpError{Op: op, Net: c.network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// give sends n octets of a chunk, which is the connection's from then on. A chunk that is mostly empty is copied instead.
func (c *TCPConn) give(chunk *tcp.Chunk, n int) error {
	if n < tcp.LargeChunk/2 {
		_, err := c.Write(chunk.Bytes[:n])
		c.stack.memory.Return(chunk)
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.turn()
	if err == nil {
		defer c.pass()
	}
	for err == nil {
		now := c.stack.now()
		if err = c.writable(now); err != nil {
			break
		}
		if c.tcb.Give(now, chunk, n) {
			c.output(now)
			return nil
		}
		c.arm(now)
		c.giving = true
		c.stack.wait(&c.wr, &c.mu)
		c.giving = false
	}
	c.stack.memory.Return(chunk)
	return c.opError("readfrom", err)
}
