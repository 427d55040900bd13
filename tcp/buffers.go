package tcp

import "time"

// initialBuffer is what waits in either direction at most when a connection begins: Linux's, for what it receives
// (tcp_rmem). Buffers grow from there up to Config's bounds as the path and the reader take more; they never shrink.
const initialBuffer = 128 << 10

// buffers bounds what waits in either direction of a connection, in octets.
type buffers struct {
	read, write           int32
	readFixed, writeFixed bool // by SetBuffers
	echoed                uint32
	rtt                   time.Duration // from an acknowledgement of ours to text that answers it; 0: not known
	began                 time.Duration // the round trip that is being measured
	from                  Seq           // what the user had read by then
	most                  int32         // octets that the user read in one round trip, at most
}

func (b *buffers) init(c *Config) {
	b.read, b.write = min(c.readLimit(), initialBuffer), min(c.writeLimit(), initialBuffer)
}

// readLimit and writeLimit are how far the buffers may grow. What is more than the largest window would never be used.
func (c *Config) readLimit() int32 {
	return int32(min(orDefault(c.ReadBuffer, DefaultBuffer), maxCwnd))
}

func (c *Config) writeLimit() int32 {
	return int32(min(orDefault(c.WriteBuffer, DefaultBuffer), maxCwnd))
}

// SetBuffers sets the bounds of what waits to be read and to be sent, in octets; 0 leaves a bound as it is. One that was
// set grows no more by itself. A smaller bound is reached as octets are read: the window that was announced does not
// shrink (RFC 9293 §3.8.6, SHLD-14). A larger one holds more than what the window scale of the SYN can announce at once.
func (t *TCB) SetBuffers(now time.Duration, read, write int) {
	if read > 0 {
		t.buf.read, t.buf.readFixed = int32(min(read, maxCwnd)), true
	}
	if write > 0 {
		t.buf.write, t.buf.writeFixed = int32(min(write, maxCwnd)), true
	}
}

// timeEcho learns the round-trip time from text that echoes our timestamp, once for each timestamp. A peer that had
// nothing to send for a while makes it seem longer, which does no more than lengthen the measurement.
func (b *buffers) timeEcho(now time.Duration, offset, echo uint32) {
	ms := int32(ticks(now) + offset - echo)
	if echo == b.echoed || ms < 0 || time.Duration(ms)*time.Millisecond > now {
		return
	}
	b.echoed = echo
	d := max(time.Duration(ms)*time.Millisecond, time.Millisecond)
	if b.rtt == 0 {
		b.rtt = d
	}
	b.rtt += (d - b.rtt) / 8
}

// growRead is called as the user reads: the window is to be twice what the user takes in a round trip, so that a loss does
// not close it, and a reader who is slow is not sent what only waits (Dynamic Right-Sizing, Fisk and Feng, 2001). Where
// that grows, it will have grown twice more before what is announced now is used: so much is added, or a sender in slow
// start would always find the window just as large as its own.
func (t *TCB) growRead(now time.Duration) {
	b := &t.buf
	limit := t.c.readLimit()
	if b.read >= limit || b.readFixed {
		return
	}
	rtt := max(b.rtt, time.Millisecond) // timestamps tell no shorter time
	if b.rtt == 0 {
		rtt = max(t.rtt.srtt, time.Millisecond)
	}
	elapsed := now - b.began
	if elapsed < rtt {
		return
	}
	if taken := int32(int64(t.recvq.start.From(b.from)) * int64(rtt) / int64(elapsed)); b.began != 0 && taken > b.most && !t.rcv.starved {
		b.read = max(b.read, min(2*taken+4*(taken-b.most), limit))
		b.most = taken
	}
	b.began, b.from = now, t.recvq.start
}

// growWrite is called as the congestion window changes: twice that is what is in flight, and as much again that the user
// can write meanwhile.
func (t *TCB) growWrite() {
	if b := &t.buf; !b.writeFixed && t.cc != nil {
		b.write = max(b.write, int32(min(2*t.cc.Window(), int(t.c.writeLimit()))))
	}
}
