package tcp

import "time"

// This file is RFC 9293 §3.10.8, timeouts, and what ICMP says.

// retriesR1 is how many retransmissions the user is told of: RFC 9293 §3.8.3 (SHLD-10) wants at least 3.
const retriesR1 = 3

// keepAlive is what an idle connection remembers of its probes.
type keepAlive struct {
	KeepAlive
	sent int // probes since the peer was last heard of
}

// SetKeepAlive says when the connection is probed while it is idle (RFC 9293 §3.8.4, MUST-24); an Idle of 0 means never.
// Where only Idle is set, the rest is DefaultKeepAlive's.
func (t *TCB) SetKeepAlive(now time.Duration, k KeepAlive) {
	if k.Idle <= 0 || t.state == Closed {
		t.keep = nil
		t.stop(timerKeepAlive)
		return
	}
	k.Interval = orDefault(k.Interval, DefaultKeepAlive.Interval)
	k.Count = orDefault(k.Count, DefaultKeepAlive.Count)
	t.keep = &keepAlive{KeepAlive: k}
	if t.state >= Established && t.state != TimeWait {
		t.set(timerKeepAlive, max(t.rcv.heardAt+k.Idle, now))
	}
}

// Expire is what timers that are due by now do. It may be called early.
func (t *TCB) Expire(now time.Duration) (ev Event) {
	before := t.state
	if before == Closed {
		return 0
	}
	unread := t.Buffered() > 0 || t.EOF()
	t.snd.held = t.snd.held && now < t.snd.departs
	for timer, at := range t.timers {
		if at == 0 || now < at || t.timers[timer] == 0 {
			continue
		}
		t.stop(timer)
		switch timer {
		case timerRetransmit:
			t.expireRetransmit(now, &ev)
		case timerDelayedACK:
			t.ackNow(CauseAck)
		case timerKeepAlive:
			t.expireKeepAlive(now)
		case timerUser:
			t.giveUp()
		case timerWait:
			t.end(None)
		case timerLoss:
			t.expireLoss(now)
		}
	}
	if t.state == Closed {
		ev |= Ended
	}
	if !unread && t.EOF() {
		ev |= Readable
	}
	return ev
}

// giveUp is the user timeout. RFC 9293 §3.10.8: "For any state if the user timeout expires, flush all queues, signal
// the user "error: connection aborted due to user timeout" in general and for any outstanding calls, delete the TCB,
// enter the CLOSED state, and return." What routers said meanwhile tells more than that nothing came.
func (t *TCB) giveUp() {
	if t.fresh {
		t.end(t.soft)
	} else {
		t.end(TimedOut)
	}
}

// expireRetransmit is the retransmission timer, which where nothing is outstanding, or where the peer's window is
// closed, stands for the window probe and for the SWS override.
func (t *TCB) expireRetransmit(now time.Duration, ev *Event) {
	outstanding := t.snd.una != t.snd.nxt
	syn := t.snd.una == t.snd.iss
	switch {
	case !syn && t.snd.wnd == 0:
		t.probeWindow(now)
	case outstanding:
		t.retransmit(now, syn, ev)
	default:
		t.snd.override = true
	}
}

// probeWindow probes a closed window. RFC 9293 §3.8.6.1: "The transmitting host SHOULD send the first zero-window
// probe when a zero window has existed for the retransmission timeout period (SHLD-29) (Section 3.8.1), and SHOULD
// increase exponentially the interval between successive probes (SHLD-30)."
func (t *TCB) probeWindow(now time.Duration) {
	t.out.probe = CauseWindowProbe
	wait := backedOff(t.rto(), t.snd.probes)
	if t.released && wait == maxRTO {
		// RFC 6429 §4: a connection in the persist state may be aborted. The peer has had minutes to open its window, and nobody
		// is left who could lose patience with it.
		t.sendReset(t.snd.nxt, true)
		t.giveUp()
		return
	}
	t.snd.probes = min(t.snd.probes, 254) + 1
	t.set(timerRetransmit, now+backedOff(t.rto(), t.snd.probes))
	if t.timers[timerUser] == 0 {
		t.set(timerUser, now+t.userTimeout())
	}
}

// retransmit is RFC 6298 §5.4 to §5.6, and RFC 5681 §3.1 for the congestion window.
func (t *TCB) retransmit(now time.Duration, syn bool, ev *Event) {
	if !syn && t.probeInstead(now) {
		return
	}
	if syn {
		t.snd.synAgain = true
	} else {
		t.suspectECN()
		t.tellReduced()
	}
	if !syn && t.cc != nil && !t.modelled {
		flight := t.snd.nxt.From(t.snd.una)
		if t.board != nil {
			flight = max(t.board.pipe(), t.flight())
		}
		t.cc.Timeout(now, Sample{Lost: flight, InFlight: flight})
	}
	t.snd.retries = min(t.snd.retries, 254) + 1
	t.snd.backoff = min(t.snd.backoff, 254) + 1
	t.blackHole()
	if t.board != nil && !syn {
		t.timedOut(now)
		if m := t.model(); m != nil {
			m.Timeout(now, Sample{InFlight: t.board.pipe()}) // what is left in flight
		}
	} else {
		t.loseAll(now, CauseRTO)
	}
	t.snd.recovering = false
	t.snd.recover = t.snd.nxt // RFC 6582 §3.2 step 4
	// RFC 6298 §5.5: "The host MUST set RTO <- RTO * 2 ("back off the timer")."
	t.set(timerRetransmit, now+t.rto())
	if t.snd.retries == retriesR1 {
		// RFC 9293 §3.8.3: "TCP implementations SHOULD inform the application of the delivery problem […], when R1 is
		// reached and before R2 (SHLD-9)."
		if !t.fresh {
			t.soft = TimedOut
		}
		*ev |= SoftError
	}
}

// expireKeepAlive probes a peer that was silent for too long. RFC 9293 §3.8.4: "Keep-alive packets MUST only be sent
// when no sent data is outstanding, and no data or acknowledgment packets have been received for the connection within
// an interval (MUST-26)."
func (t *TCB) expireKeepAlive(now time.Duration) {
	k := t.keep
	if k == nil || t.state < Established || t.state == TimeWait {
		return
	}
	silence := now - t.rcv.heardAt
	switch {
	case silence < k.Idle:
		k.sent = 0
		t.set(timerKeepAlive, t.rcv.heardAt+k.Idle)
	case t.snd.una != t.snd.nxt || t.timers[timerRetransmit] != 0:
		k.sent = 0 // retransmissions and window probes ask the same
		t.set(timerKeepAlive, now+k.Idle)
	case k.sent >= k.Count:
		// RFC 9293 §3.8.4: "it MUST NOT interpret failure to respond to any specific probe as a dead connection
		// (MUST-29)": these were several.
		t.sendReset(t.snd.nxt, true)
		t.giveUp()
	default:
		k.sent++
		t.out.probe = CauseKeepAlive
		t.set(timerKeepAlive, now+k.Interval)
	}
}

// Notify takes an ICMP error that quotes a segment of ours which began at sequence number at.
func (t *TCB) Notify(now time.Duration, at Seq, n Notice) Event {
	// RFC 5927 §4.1 has implementations "check that the TCP sequence number contained in the payload of the ICMP error
	// message is within the range SND.UNA =< SEG.SEQ < SND.NXT."
	if t.state == Closed || !at.In(t.snd.una, t.snd.nxt) {
		return DropNotice.event()
	}
	if n.Reason == TooBig {
		if n.MTU > 0 && n.MTU < int(t.mtu) {
			t.SetMTU(now, n.MTU, int(t.snd.maxText))
		}
		return 0
	}
	t.soft, t.fresh = n.Reason, true
	// RFC 5927 §5.2 takes hard errors for soft ones in the synchronized states; RFC 5461 §4 lets any end the opening.
	if !t.state.synchronized() {
		t.end(n.Reason)
		return Ended
	}
	return SoftError
}

// TimeWaitRecord is the record that stands for a connection in TIME-WAIT which the user has let go of: then the TCB is
// not needed any longer. It is false in any other case, or while Next owes an acknowledgement.
func (t *TCB) TimeWaitRecord(now time.Duration) (TimeWaitRecord, bool) {
	if t.state != TimeWait || !t.released || t.out.ack != CauseNone || t.out.reset {
		return TimeWaitRecord{}, false
	}
	return TimeWaitRecord{
		expires: t.timers[timerWait], wait: uint32(t.timeWait() / time.Millisecond),
		sndNxt: t.snd.nxt, rcvNxt: t.rcv.nxt,
		hasTS: t.ts, tsRecent: t.rcv.tsRecent, tsOffset: t.tsOffset,
		window: uint16(t.rcv.edge.From(t.rcv.nxt) >> t.rcv.scale), scale: t.rcv.scale,
	}, true
}
