package tcp

import "time"

// This file is what the user calls: RFC 9293 §3.10.1 to §3.10.6.

const (
	// synTimeout: RFC 9293 §3.8.3, "R2 for a SYN segment MUST be set large enough to provide retransmission of the
	// segment for at least 3 minutes (MUST-23)".
	synTimeout = 180 * time.Second
	// userTimeout is R2 where nothing else is set: what 15 retransmissions from 200 ms come to on Linux. RFC 9293
	// §3.8.3 wants at least 100 s (SHLD-11).
	userTimeout = 924600 * time.Millisecond
	// finTimeout is how long FIN-WAIT-2 waits for a FIN that nobody wants any more: Linux's tcp_fin_timeout.
	finTimeout = 60 * time.Second
)

// writable reports whether the user may SEND: text is queued for ESTABLISHED before that state is reached.
func (t *TCB) writable() bool {
	return !t.finQueued && (t.state.canSend() || t.state == SynSent || t.state == SynReceived)
}

// Room is how many octets Write would take now, if Memory lends them.
func (t *TCB) Room() int {
	if !t.writable() {
		return 0
	}
	return max(int(t.buf.write)-t.sendq.end.From(t.sendq.start), 0)
}

// Write is SEND (RFC 9293 §3.10.2): it copies what fits into the send pipe and returns how many octets that are. It is
// 0 where the pipe is full, Memory refuses, or the state does not let the user send.
func (t *TCB) Write(now time.Duration, p []byte) int {
	if t.modelled {
		t.checkLimited(now)
	}
	return t.sendq.append(t.memory(), p[:min(len(p), t.Room())])
}

// Give hands a chunk, whose first n octets are text, to the send pipe without copying. Where it returns false there is
// no room, and the chunk stays the caller's. A chunk larger than the buffer finds room when the pipe is empty.
func (t *TCB) Give(now time.Duration, c *Chunk, n int) bool {
	room := t.Room()
	if n <= 0 || n > len(c.Bytes) || room == 0 || n > room && room < int(t.buf.write) {
		return false
	}
	if t.modelled {
		t.checkLimited(now)
	}
	t.sendq.give(c, n)
	return true
}

// textEnd is where the text that arrived in order ends.
func (t *TCB) textEnd() Seq {
	if t.rcv.ended {
		return t.rcv.nxt - 1
	}
	return t.rcv.nxt
}

// Buffered is how many octets Read would give now.
func (t *TCB) Buffered() int {
	if t.readClosed {
		return 0
	}
	return t.textEnd().From(t.recvq.start)
}

// EOF reports whether nothing more will come: the peer's FIN arrived and everything before it was read, or the user
// called CloseRead.
func (t *TCB) EOF() bool { return t.readClosed || t.rcv.ended && t.Buffered() == 0 }

// Read is RECEIVE (RFC 9293 §3.10.3): it copies what is there in order and returns how many octets that are. 0 means
// nothing now; EOF tells whether that is for good. What arrived before the connection ended stays readable.
func (t *TCB) Read(now time.Duration, p []byte) int {
	n := min(len(p), t.Buffered())
	if n == 0 {
		return 0
	}
	n = t.recvq.copyTo(p, t.recvq.start, n)
	t.recvq.discard(t.recvq.start+Seq(n), &t.free)
	t.hasRead(now)
	return n
}

// Take takes the first run of readable octets out of the receive pipe, without copying where a chunk holds nothing
// else. The caller returns c to Memory when it is done with p, which lies in it. A nil chunk means that nothing is
// there, or that Memory lends none to copy into: then Buffered is not 0, and Read still works.
func (t *TCB) Take(now time.Duration) (c *Chunk, p []byte) {
	n := t.Buffered()
	if n == 0 {
		return nil, nil
	}
	if c, p = t.recvq.take(t.textEnd()); c == nil {
		size := SmallChunk
		if n > SmallChunk {
			size = LargeChunk
		}
		if c = borrow(t.memory(), size); c == nil {
			return nil, nil
		}
		p = c.Bytes[:t.recvq.copyTo(c.Bytes, t.recvq.start, n)]
		t.recvq.discard(t.recvq.start+Seq(len(p)), &t.free)
	}
	t.hasRead(now)
	return c, p
}

// hasRead notes that the receive pipe became shorter.
func (t *TCB) hasRead(now time.Duration) {
	t.growRead(now)
	t.rcv.starved = false
	if t.state == Closed && t.Buffered() == 0 {
		t.recvq.discard(t.recvq.end, &t.free)
	}
}

// Close is CLOSE (RFC 9293 §3.10.4): what was written is sent, then a FIN. The user may go on reading. In SYN-SENT it
// ends the connection at once, with Aborted.
func (t *TCB) Close(now time.Duration) {
	if t.finQueued {
		return
	}
	switch t.state {
	case SynSent:
		t.end(Aborted)
	case SynReceived:
		// RFC 9293 §3.10.4: "If no SENDs have been issued and there is no pending data to send, then form a FIN segment
		// and send it, and enter FIN-WAIT-1 state; otherwise, queue for processing after entering ESTABLISHED state."
		t.finQueued = true
		if t.sendq.end == t.sendq.start {
			t.state = FinWait1
		}
	case Established:
		// RFC 9293 §3.10.4: "In any case, enter FIN-WAIT-1 state."
		t.finQueued, t.state = true, FinWait1
	case CloseWait:
		t.finQueued = true // LAST-ACK is entered when the FIN is sent
	}
}

// CloseRead says that the user reads no more: what waits is dropped, and what arrives is acknowledged and dropped.
func (t *TCB) CloseRead(now time.Duration) {
	t.readClosed = true
	t.recvq.discard(t.textEnd(), &t.free)
	t.hasRead(now)
}

// Release lets go of the connection, as close(2) does. Text that was not read resets it; otherwise it is Close, after
// which text that arrives resets it, and FIN-WAIT-2 lasts no longer than a minute. Unread text of a connection that
// has ended is dropped.
func (t *TCB) Release(now time.Duration) Event {
	// RFC 9293 §3.6.1: "If such a host issues a CLOSE call while received data is still pending in the TCP connection,
	// or if new data is received after CLOSE is called, its TCP implementation SHOULD send a RST to show that data was
	// lost (SHLD-3)."
	t.released = true
	if t.Buffered() > 0 && t.state != Closed {
		t.Abort()
		return Ended
	}
	t.Close(now)
	switch t.state {
	case Closed:
		t.CloseRead(now)
	case FinWait2:
		t.set(timerWait, now+finTimeout)
	}
	return 0
}

// Abort is ABORT (RFC 9293 §3.10.5): the connection is CLOSED at once, with Aborted, and the next Next yields a reset
// where the peer knows of the connection and does not know yet that it ends. Text that was not read is dropped, that of a
// connection which has ended already as well.
func (t *TCB) Abort() {
	switch t.state {
	case Closed:
		t.recvq.discard(t.recvq.end, &t.free)
		return
	case SynReceived, Established, FinWait1, FinWait2, CloseWait:
		if t.snd.nxt != t.snd.iss {
			t.sendReset(t.snd.nxt, true)
		}
	}
	t.end(Aborted)
	t.recvq.discard(t.recvq.end, &t.free)
}

// sendReset makes Next yield a reset. RFC 9293 §3.10.5 has <SEQ=SND.NXT><CTL=RST>; it departs from that with the ACK
// bit, as Linux does, since a peer in SYN-SENT believes no reset without.
func (t *TCB) sendReset(seq Seq, ack bool) {
	t.out.reset, t.out.rstSeq, t.out.rstACK = true, seq, ack
}

// end makes the connection CLOSED. Text that the user has not read stays; everything else goes.
func (t *TCB) end(why Reason) {
	t.state, t.err = Closed, why
	t.timers, t.snd.held = [numTimers]time.Duration{}, false
	t.out.ack, t.out.dup, t.out.probe = CauseNone, false, CauseNone
	t.snd.rtx, t.snd.lost = t.snd.nxt, t.snd.nxt
	t.sendq.discard(t.sendq.end, &t.free)
	t.ooo, t.cc, t.keep, t.board = nil, nil, nil, nil
	if t.Buffered() == 0 {
		t.recvq.discard(t.recvq.end, &t.free)
	}
}

// SetNoDelay turns the Nagle algorithm off, or on (RFC 9293 §3.7.4, MUST-17).
func (t *TCB) SetNoDelay(on bool) { t.noDelay = on }

// SetUserTimeout sets how long sent octets, the SYN included, may stay unacknowledged (RFC 9293 §3.8.3, MUST-21);
// 0 means Config's.
func (t *TCB) SetUserTimeout(now, d time.Duration) {
	old := t.userTimeout()
	t.patience = d
	if t.timers[timerUser] != 0 {
		t.set(timerUser, t.timers[timerUser]-old+t.userTimeout())
	}
}

// userTimeout is R2 as it stands for the state.
func (t *TCB) userTimeout() time.Duration {
	switch {
	case t.patience != 0:
		return t.patience
	case t.snd.una == t.snd.iss:
		return orDefault(t.c.SYNTimeout, synTimeout)
	}
	return orDefault(t.c.UserTimeout, userTimeout)
}

// Info is STATUS (RFC 9293 §3.10.6).
func (t *TCB) Info() Info {
	i := Info{
		State: t.state, Err: t.err, SoftErr: t.soft,
		ISS: t.snd.iss, IRS: t.rcv.irs,
		SndUna: t.snd.una, SndNxt: t.snd.nxt, SndWnd: int(t.snd.wnd),
		RcvNxt: t.rcv.nxt, RcvWnd: t.rcv.edge.From(t.rcv.nxt),
		MSS: t.textMSS(), PeerMSS: int(t.snd.peerMSS),
		Scaled: t.scaled, SndScale: t.snd.scale, RcvScale: t.rcv.scale,
		Timestamps: t.ts, SACK: t.sack, ECN: t.ecn&ecnAgreed != 0, FastOpen: t.snd.fast,
		Unread: t.Buffered(), Unsent: t.sendq.end.From(maxSeq(t.snd.nxt, t.sendq.start)),
		InFlight: t.snd.nxt.From(t.snd.una), OutOfOrder: t.ooo.bytes(),
		SRTT: t.rtt.srtt, RTTVar: t.rtt.rttvar, RTO: t.rto(), Backoff: int(t.snd.retries),
		Retransmits: t.snd.again, SegmentsIn: t.segsIn, SegmentsOut: t.segsOut, BytesIn: t.textIn, BytesOut: t.textOut,
	}
	t.measured(&i)
	return i
}
