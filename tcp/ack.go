package tcp

import (
	"cmp"
	"time"
)

// establish leaves SYN-SENT or SYN-RECEIVED.
func (t *TCB) establish(now time.Duration) {
	if t.state < Established {
		t.state = Established
		if t.finQueued {
			t.state = FinWait1 // a CLOSE that waited (RFC 9293 §3.10.4)
		}
	}
	if t.keep != nil {
		t.set(timerKeepAlive, now+t.keep.Idle)
	}
	t.snd.backoff = 0 // what the SYN's timeouts mean from here on, rto and congestion say
	t.rcv.heardAt = now
}

// checkACK is the fifth check of RFC 9293 §3.10.7.4.
func (t *TCB) checkACK(now time.Duration, a *arrival, ev *Event) bool {
	if !a.Flags.Has(ACK) {
		*ev |= DropNoACK.event()
		return false
	}
	if t.state == SynReceived {
		// "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state"; "If the segment acknowledgment is not
		// acceptable, form a reset segment"
		if !t.snd.una.Less(a.Ack) || t.snd.nxt.Less(a.Ack) {
			t.sendReset(a.Ack, false)
			*ev |= DropSynReceivedACK.event()
			return false
		}
		t.establish(now)
	}
	// RFC 5961 §5.2: "The ACK value is considered acceptable only if it is in the range of ((SND.UNA - MAX.SND.WND) <=
	// SEG.ACK <= SND.NXT)."
	switch {
	case t.snd.nxt.Less(a.Ack):
		t.challenge(now)
		*ev |= DropFutureACK.event()
		return false
	case a.Ack.Less(t.snd.una - Seq(t.snd.maxWnd)):
		t.challenge(now)
		*ev |= DropOldACK.event()
		return false
	}
	advances, marked := t.snd.una.Less(a.Ack), t.ecn != 0 && t.echoed(now, a)
	if advances {
		t.acked(now, a, ev, marked)
	} else if t.board != nil {
		t.sackAcked(now, a, false, marked)
	} else if a.Ack == t.snd.una {
		t.duplicate(now, a)
	}
	t.updateWindow(now, a, advances)
	return t.finAcked(now)
}

// updateWindow takes SEG.WND over, from a segment that is not older than the last that did, or that advances SND.UNA.
func (t *TCB) updateWindow(now time.Duration, a *arrival, advances bool) {
	// RFC 9293 §3.10.7.4: "If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)), set SND.WND <-
	// SEG.WND, set SND.WL1 <- SEG.SEQ, and set SND.WL2 <- SEG.ACK." It departs from that where a new acknowledgement comes on
	// text that is sent again, as Linux does: the old SND.WND, counted from the new SND.UNA, would go beyond the window.
	if t.snd.una.LessEq(a.Ack) && (advances || t.snd.wl1.Less(a.Seq) || t.snd.wl1 == a.Seq && t.snd.wl2.LessEq(a.Ack)) {
		t.window(a.Seq, a.Ack, a.wnd)
	}
	switch {
	case t.snd.wnd == 0 && t.timers[timerUser] != 0:
		// RFC 9293 §3.8.6.1: "As long as the receiving TCP peer continues to send acknowledgments in response to the
		// probe segments, the sending TCP peer MUST allow the connection to stay open (MUST-37)." Until the next probe,
		// which may be longer than the user's patience, there is nothing that it could acknowledge.
		t.set(timerUser, max(now, t.timers[timerRetransmit])+t.userTimeout())
	case t.snd.wnd != 0 && t.snd.probes != 0:
		t.snd.probes = 0
		t.stop(timerRetransmit)
		if t.snd.una != t.snd.nxt {
			t.set(timerRetransmit, now+t.rto())
		} else {
			t.stop(timerUser)
		}
	}
}

// acked takes SEG.ACK, which is new, over into SND.UNA. marked says that the peer echoes a congestion mark.
func (t *TCB) acked(now time.Duration, a *arrival, ev *Event, marked bool) {
	flight := t.snd.nxt.From(t.snd.una)
	from := maxSeq(t.snd.una, t.sendq.start)
	t.snd.una = a.Ack
	text := minSeq(a.Ack, t.sendq.end).From(from)
	t.sendq.discard(minSeq(a.Ack, t.sendq.end), &t.free)
	t.textOut += uint64(text)
	t.snd.rtx, t.snd.lost = maxSeq(t.snd.rtx, t.snd.una), maxSeq(t.snd.lost, t.snd.una)
	t.snd.retries = 0
	if t.board != nil {
		t.sackAcked(now, a, true, marked)
		if t.search != nil {
			t.probeArrived()
		}
	} else {
		rtt := t.measure(now, a)
		t.recover(now, text, Sample{Acked: text, InFlight: flight, RTT: rtt, AppLimited: !t.snd.limited, CE: marked})
	}
	if t.snd.una == t.snd.nxt {
		t.stop(timerRetransmit)
		t.stop(timerUser)
		t.snd.recover = t.snd.una - 1 // what is sent from here on is no echo of a recovery
	} else {
		// RFC 6298 §5.3: "When an ACK is received that acknowledges new data, restart the retransmission timer"
		t.set(timerRetransmit, now+t.rto())
		t.set(timerUser, now+t.userTimeout())
	}
	t.growWrite()
	*ev |= Progress
}

// measure takes an RTT sample, if the acknowledgement gives one, and returns it.
func (t *TCB) measure(now time.Duration, a *arrival) (d time.Duration) {
	coarse := false
	switch {
	case t.snd.timing && t.snd.timed.LessEq(a.Ack):
		d = now - t.snd.timedAt
		t.snd.timing = false
	case !t.snd.timing && t.ts && a.Options.HasTimestamps && a.Options.TSEcr != 0:
		// RFC 7323 §4.1: a retransmission is measured as well, since TSecr says which of the two was acknowledged.
		ms := int32(ticks(now) + t.tsOffset - a.Options.TSEcr)
		if ms < 0 || time.Duration(ms)*time.Millisecond > now {
			return 0
		}
		if d, coarse = time.Duration(ms)*time.Millisecond, true; d == 0 { // less than the clock can say
			d = min(time.Millisecond, cmp.Or(t.rtt.srtt, time.Millisecond))
		}
	default:
		return 0
	}
	least := t.rtt.min
	d = max(d, 1)
	if t.rtt.sample(d); coarse && least != 0 {
		t.rtt.min = least // a clock of 1 ms says nothing about what is shorter
	}
	// RFC 6298 §5.7: a new measurement collapses the RTO after back-off; an acknowledgement alone does not.
	t.snd.backoff = 0
	return d
}

// finAcked is the end of the fifth check: what the acknowledgement of our FIN changes. It is false where nothing of
// the segment is left to process.
func (t *TCB) finAcked(now time.Duration) bool {
	if !t.finQueued || t.snd.una != t.sendq.end+1 {
		return true
	}
	switch t.state {
	case FinWait1:
		t.state = FinWait2
		if t.released {
			t.set(timerWait, now+finTimeout)
		}
	case Closing:
		t.wait(now)
	case LastAck:
		t.end(None)
		return false
	}
	return true
}

// wait enters TIME-WAIT: the time-wait timer runs, the others are off.
func (t *TCB) wait(now time.Duration) {
	t.state = TimeWait
	t.timers, t.snd.held = [numTimers]time.Duration{}, false
	t.set(timerWait, now+t.timeWait())
	t.cc, t.board = nil, nil
}

// timeWait is how long TIME-WAIT lasts. RFC 9293 §3.6.1: "When a connection is closed actively, it MUST linger in the
// TIME-WAIT state for a time 2xMSL (Maximum Segment Lifetime) (MUST-13)."
func (t *TCB) timeWait() time.Duration { return 2 * orDefault(t.c.MSL, defaultMSL) }

// defaultMSL is Linux's; RFC 9293 §3.4.2 says 2 minutes.
const defaultMSL = 30 * time.Second
