package tcp

import "time"

// Next fills *s with the next segment to send, and is false where nothing is to be sent now. It is the only place that
// decides that. s.Text is views of the send pipe in the memory of the old s.Text; they stay valid until the next call.
func (t *TCB) Next(now time.Duration, s *Segment) bool {
	for c := t.free; c != nil; c = t.free {
		t.free, c.next = c.next, nil
		t.memory().Return(c)
	}
	*s = Segment{Text: s.Text[:0]}
	if !t.nextReset(s) && !t.nextOf(now, s) {
		return false
	}
	t.segsOut++
	return true
}

func (t *TCB) nextOf(now time.Duration, s *Segment) bool {
	switch {
	case t.state == Closed:
		return false
	case t.snd.una == t.snd.iss && t.nextSYN(now, s):
		return true
	case t.state == SynSent:
		return false
	case t.out.dup && t.nextACK(now, s): // before text: a duplicate that carries some is not counted (RFC 5681 §2)
		return true
	}
	return t.nextAgain(now, s) || t.nextText(now, s) || t.nextProbe(now, s) || t.nextACK(now, s)
}

// nextReset is the reset that Abort or a segment asked for.
func (t *TCB) nextReset(s *Segment) bool {
	if !t.out.reset {
		return false
	}
	t.out.reset = false
	s.Seq, s.Flags, s.Cause = t.out.rstSeq, RST, CauseReset
	if t.out.rstACK {
		s.Flags, s.Ack = RST|ACK, t.rcv.nxt
	}
	return true
}

// nextSYN is our SYN or SYN-ACK, for the first time or again.
func (t *TCB) nextSYN(now time.Duration, s *Segment) bool {
	first := t.snd.nxt == t.snd.iss
	if !first && (t.snd.rtx != t.snd.iss || t.snd.lost == t.snd.rtx) {
		return false
	}
	o := &s.Options
	s.Seq, s.Window, s.Flags, s.Cause = t.snd.iss, t.c.synWindow(), SYN, CauseData
	o.MSS = t.c.announcedMSS()
	if t.state == SynSent {
		if first && t.ecn&ecnAsked != 0 {
			// RFC 3168 §6.1.1: ECE and CWR make an ECN-setup SYN. §6.1.1.1: sent again, it goes without, since some drop it.
			s.Flags |= ECE | CWR
		}
		o.HasScale, o.SACKPermitted, o.HasTimestamps = !t.c.NoScale, !t.c.NoSACK, !t.c.NoTimestamps
	} else {
		s.Flags, s.Ack = SYN|ACK, t.rcv.nxt
		if t.rcv.nxt != t.rcv.irs+1 { // the SYN brought text
			s.Window = uint16(min(t.rcv.edge.From(t.rcv.nxt), 65535))
		}
		o.HasScale, o.SACKPermitted, o.HasTimestamps = t.scaled, t.sack, t.ts
		o.TSEcr = t.rcv.tsRecent
		if t.ecn&ecnAgreed != 0 {
			s.Flags |= ECE
		}
		t.acknowledged()
	}
	if o.HasScale {
		o.WindowScale = t.c.windowScale()
	}
	if o.HasTimestamps {
		o.TSVal = ticks(now) + t.tsOffset
	}
	if f := t.opening; f != nil && first {
		o.HasFastOpen, o.Cookie = true, f.offer
		if t.state != SynSent {
			t.opening = nil
		} else if f.offer.n > 0 {
			t.fillSYN(s)
		}
	}
	t.snd.rtx = t.snd.iss + 1
	if first {
		t.snd.nxt = t.snd.iss + 1
		t.snd.timing, t.snd.timed, t.snd.timedAt = true, t.snd.nxt, now
		t.snd.rtx, t.snd.lost = t.snd.nxt, t.snd.nxt
	} else {
		s.Cause = t.snd.cause
		t.snd.timing = false
		if s.Cause != CauseData { // which is a SYN that became a SYN-ACK
			t.snd.again++
		}
	}
	if t.timers[timerRetransmit] == 0 {
		t.set(timerRetransmit, now+t.rto())
	}
	return true
}

// header fills what every segment of a connection past SYN-SENT carries. It must be followed by sending s.
func (t *TCB) header(now time.Duration, s *Segment, seq Seq, why Cause) {
	s.Seq, s.Ack, s.Flags, s.Cause = seq, t.rcv.nxt, ACK, why
	if t.ecn&ecnEcho != 0 {
		s.Flags |= ECE
	}
	s.Options = t.options(now)
	t.rcv.dup = Block{}
	t.moveEdge()
	s.Window = uint16(min((t.rcv.edge-t.rcv.nxt+1<<t.rcv.scale-1)>>t.rcv.scale, 65535))
	if t.rcv.edge.Less(t.rcv.nxt + Seq(s.Window)<<t.rcv.scale) {
		s.Window = t.roundWindow(s.Window)
	}
	t.acknowledged()
}

// options are those of a segment without SYN.
func (t *TCB) options(now time.Duration) (o Options) {
	if t.ts {
		o.HasTimestamps, o.TSVal, o.TSEcr = true, t.stamp(now)+t.tsOffset, t.rcv.tsRecent
	}
	if t.sack {
		if t.rcv.dup != (Block{}) {
			// RFC 2883 §4: the first block reports what arrived twice.
			o.SACK[0], o.Blocks = t.rcv.dup, 1
		}
		t.ooo.sack(&o)
	}
	return o
}

// acknowledged notes that a segment which acknowledges RCV.NXT leaves.
func (t *TCB) acknowledged() {
	t.out.ack, t.out.dup = CauseNone, false
	t.rcv.acked = t.rcv.nxt
	t.stop(timerDelayedACK)
}

// space is where the window would end if all of the buffer that is free were announced.
func (t *TCB) space() Seq {
	if t.rcv.starved {
		return t.rcv.edge
	}
	n := int(t.buf.read) - t.rcv.nxt.From(t.recvq.start)
	return t.rcv.nxt + Seq(min(max(n, 0), 65535<<t.rcv.scale))
}

// silly is the least step of the window's right edge. RFC 9293 §3.8.6.2.2: "keep RCV.NXT+RCV.WND fixed until the
// reduction satisfies: RCV.BUFF - RCV.USER - RCV.WND >= min( Fr * RCV.BUFF, Eff.snd.MSS )", with Fr = 1/2.
func (t *TCB) silly() int { return max(min(int(t.buf.read)/2, t.textMSS()), 1) }

// moveEdge advances the right edge of the window as far as it may be announced.
func (t *TCB) moveEdge() {
	if to := t.space(); to.From(t.rcv.edge) >= t.silly() {
		// down to what the window field can say, so that it says exactly what is kept
		to = t.rcv.nxt + (to-t.rcv.nxt)>>t.rcv.scale<<t.rcv.scale
		if t.rcv.edge.Less(to) {
			t.rcv.edge, t.rcv.beyond = to, 0
		}
	}
}

// roundWindow decides for a window between two values of the field, w being the upper one. RFC 9293 §3.8.6: "A TCP
// receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left (SHLD-14)." So the upper one is
// announced and kept, a little beyond the buffer. But a peer that sends octet by octet could advance the edge that way
// for ever: at a quarter of the largest window it ends, and the lower one is announced while the edge is kept.
func (t *TCB) roundWindow(w uint16) uint16 {
	edge := t.rcv.nxt + Seq(w)<<t.rcv.scale
	beyond := t.rcv.beyond + int32(edge.From(t.rcv.edge))
	if beyond > 65535/4<<t.rcv.scale {
		return w - 1
	}
	t.rcv.edge, t.rcv.beyond = edge, beyond
	return w
}

// nextACK is an acknowledgement that is due, or a window update, which are nothing but an acknowledgement.
func (t *TCB) nextACK(now time.Duration, s *Segment) bool {
	why := t.out.ack
	if why == CauseNone {
		if !t.updateDue() {
			return false
		}
		why = CauseWindowUpdate
	}
	t.header(now, s, t.snd.nxt, why)
	return true
}

// updateDue reports whether the peer should hear of the window. It departs from RFC 9293 §3.8.6.2.2 as Linux does in
// that the window must also have doubled: a peer that still has much of it needs no update. What a SYN's window could not
// say is no news either until something has arrived: the handshake would end with a segment more.
func (t *TCB) updateDue() bool {
	if !t.state.canReceive() || t.rcv.hasFin || t.rcv.nxt == t.rcv.irs+1 {
		return false
	}
	left := t.rcv.edge.From(t.rcv.nxt)
	if t.timers[timerDelayedACK] != 0 && left >= int(t.buf.read)/32 {
		return false // an acknowledgement comes in any case, and the peer has enough to go on until then
	}
	grown := t.space().From(t.rcv.edge)
	return grown >= t.silly() && grown >= left
}

// nextProbe is a window probe or a keep-alive: an octet before SND.UNA, or before SND.NXT, which is the same where
// nothing is outstanding, and no text. RFC 9293 §3.8.4: "Such a segment generally contains SEG.SEQ = SND.NXT-1 and may
// or may not contain one garbage octet of data."
func (t *TCB) nextProbe(now time.Duration, s *Segment) bool {
	if t.out.probe == CauseNone {
		return false
	}
	t.header(now, s, t.snd.una-1, t.out.probe)
	t.out.probe = CauseNone
	return true
}
