package tcp

import "time"

const (
	// delayedACK is how long an acknowledgement waits for company: Linux's TCP_DELACK_MIN. RFC 9293 §3.8.6.3 allows
	// less than 500 ms (MUST-40).
	delayedACK = 40 * time.Millisecond
	// quickACKs is how many full-sized segments are acknowledged at once when a connection begins, so that the peer's
	// slow start is not held up. Linux has up to 16; ten are the usual initial window (RFC 6928).
	quickACKs = 10
)

// takeText is the seventh check of RFC 9293 §3.10.7.4: it takes what is new and in the window.
func (t *TCB) takeText(now time.Duration, a *arrival, ev *Event) {
	if a.len == 0 || !t.state.canReceive() {
		return
	}
	end := minSeq(a.seq+Seq(a.len), t.rcv.edge)
	if t.rcv.hasFin {
		end = minSeq(end, t.rcv.fin) // what stands behind the FIN is nonsense
	}
	t.noteDuplicate(a, end)
	if end.LessEq(t.rcv.nxt) {
		if *ev>>16 == 0 {
			*ev |= DropDuplicate.event()
		}
		t.ackNow(CauseAck)
		return
	}
	if t.released {
		// RFC 9293 §3.6.1: "if new data is received after CLOSE is called, its TCP implementation SHOULD send a RST to
		// show that data was lost (SHLD-3)."
		t.Abort()
		*ev |= DropAfterClose.event()
		return
	}
	if t.ts && a.Options.HasTimestamps && a.len >= int(t.rcv.full) {
		t.buf.timeEcho(now, t.tsOffset, a.Options.TSEcr)
	}
	ok := false
	from := maxSeq(a.seq, t.rcv.nxt)
	if t.rcv.nxt.Less(from) {
		ok = t.storeAhead(a, from, end)
	} else {
		ok = t.storeNext(now, a, end)
	}
	if !ok {
		*ev |= DropMemory.event()
		t.rcv.starved = true
	}
	if t.readClosed {
		t.recvq.discard(t.rcv.nxt, &t.free)
	}
}

// storeNext stores the text from RCV.NXT to end, and advances RCV.NXT over it and what stood behind it already. It is
// false where Memory refused a part.
func (t *TCB) storeNext(now time.Duration, a *arrival, end Seq) bool {
	before := t.rcv.nxt
	t.rcv.nxt = t.store(a, before, end)
	ok := t.rcv.nxt == end
	holes := t.ooo.len() > 0
	t.rcv.nxt = t.ooo.takeFrom(t.rcv.nxt)
	if t.rcv.hasFin {
		t.rcv.nxt = minSeq(t.rcv.nxt, t.rcv.fin)
	}
	n := t.rcv.nxt.From(before)
	t.textIn += uint64(n)
	if ok {
		t.rcv.starved = false
	}
	t.countFull(a.len)
	switch {
	case n == 0:
	case holes || t.rcv.nxt.From(t.rcv.acked) > int(t.rcv.full):
		// RFC 9293 §3.8.6.3: "An ACK SHOULD be generated for at least every second full-sized segment or 2*RMSS bytes of
		// new data", and "segments that fill all or part of a gap" are acknowledged at once.
		t.ackNow(CauseAck)
	case t.rcv.quick > 0 && a.len >= int(t.rcv.full):
		t.rcv.quick--
		t.ackNow(CauseAck)
	case t.timers[timerDelayedACK] == 0:
		t.set(timerDelayedACK, now+delayedACK)
	}
	return ok
}

// noteDuplicate notes what of the text in front of end had arrived before, for a D-SACK: what stands before RCV.NXT, else
// what begins inside of a block behind it. It is said at once, so that the peer learns of a needless retransmission soon.
func (t *TCB) noteDuplicate(a *arrival, end Seq) {
	if !t.sack {
		return
	}
	switch k, ok := t.ooo.block(a.seq); {
	case a.seq.Less(t.rcv.nxt):
		t.rcv.dup = Block{a.seq, minSeq(a.seq+Seq(a.len), t.rcv.nxt)}
	case ok && a.seq.Less(end):
		t.rcv.dup = Block{a.seq, minSeq(end, k.Right)}
	default:
		return
	}
	t.ackNow(CauseAck)
}

// countFull learns what a full-sized segment of the peer is.
func (t *TCB) countFull(n int) {
	if n > int(t.rcv.full) {
		t.rcv.full = uint16(min(n, max(int(t.c.announcedMSS()), defaultMSS)))
	}
}

// storeAhead stores the text [from, end) behind a hole, in place. RFC 9293 §3.10.7.4: "Segments with higher beginning
// sequence numbers SHOULD be held for later processing (SHLD-31)."
func (t *TCB) storeAhead(a *arrival, from, end Seq) bool {
	if t.ooo == nil {
		t.ooo = new(ranges)
	}
	got := t.store(a, from, end)
	if from.Less(got) && !t.ooo.add(Block{from, got}) {
		got = from // too many holes: the peer sends it again
	}
	// RFC 5681 §3.2: "A TCP receiver SHOULD send an immediate duplicate ACK when an out-of-order segment arrives."
	t.ackNow(CauseAck)
	t.out.dup = true
	return got == end
}

// store writes those of the segment's octets in [from, end) that are not there yet, and returns up to where all are.
// What arrived first stays, so that nobody can change it.
func (t *TCB) store(a *arrival, from, end Seq) Seq {
	if t.readClosed || t.adopt(a, from, end) {
		return end
	}
	at := a.seq
	m := t.memory()
	for _, b := range a.Text {
		piece := Block{maxSeq(at, from), minSeq(at+Seq(len(b)), end)}
		for {
			hole, ok := t.ooo.hole(piece)
			if !ok {
				break
			}
			n := t.recvq.writeAt(m, hole.Left, b[hole.Left-at:hole.Right-at])
			if piece.Left = hole.Left + Seq(n); piece.Left != hole.Right {
				return piece.Left
			}
		}
		at += Seq(len(b))
	}
	return end
}

// adopt takes the segment's octets [from, end) over with the memory in which they stand, where they are worth a chunk
// and come behind all that is there. Else it is false.
func (t *TCB) adopt(a *arrival, from, end Seq) bool {
	n := end.From(from)
	if a.Buffer == nil || len(*a.Buffer) != LargeChunk || n < LargeChunk/2 || from.Less(t.recvq.end) {
		return false
	}
	c := t.memory().Borrow(LargeChunk)
	if c == nil {
		return false
	}
	if len(c.Bytes) != LargeChunk {
		t.memory().Return(c)
		return false
	}
	t.recvq.adopt(c, from, a.Buffer, a.At+from.From(a.seq), n)
	return true
}

// checkFIN is the eighth check of RFC 9293 §3.10.7.4.
func (t *TCB) checkFIN(now time.Duration, a *arrival, ev *Event) {
	if at := a.seq + Seq(a.len); a.Flags.Has(FIN) && !t.rcv.hasFin && t.state.canReceive() && at.In(t.rcv.nxt, t.rcv.edge) {
		t.rcv.hasFin, t.rcv.fin = true, at
		if at != t.rcv.nxt {
			t.ackNow(CauseAck)
			t.out.dup = true
		}
	}
	if !t.rcv.hasFin || t.rcv.ended || t.rcv.nxt != t.rcv.fin || !t.state.canReceive() {
		return
	}
	// "advance RCV.NXT over the FIN, and send an acknowledgment for the FIN"
	t.rcv.nxt++
	t.rcv.edge = maxSeq(t.rcv.edge, t.rcv.nxt)
	t.rcv.ended, t.ooo = true, nil
	t.ackNow(CauseAck)
	switch t.state {
	case Established:
		t.state = CloseWait
	case FinWait1:
		t.state = Closing // an acknowledgement of our FIN was seen by the fifth check: then this is FIN-WAIT-2
	case FinWait2:
		t.wait(now)
	}
}
