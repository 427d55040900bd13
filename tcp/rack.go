package tcp

import "time"

// This file is RACK-TLP, RFC 8985: what is lost is told by time, and a probe asks for the tail of a flight. It reads
// the scoreboard, and decides nothing about the congestion window.

// rack is the state of RFC 8985 §5.3 that is not the connection's anyway.
type rack struct {
	at          time.Duration // RACK.xmit_ts: when the most recently sent octets that were delivered left,
	end         Seq           // RACK.end_seq: and where they end,
	rtt         time.Duration // RACK.rtt: and how long they took; 0: nothing was delivered yet
	fack        Seq           // RACK.fack: the highest octet's end that was delivered
	dsackRound  Seq           // RACK.dsack_round: SND.NXT at the last D-SACK that counted, where inRound
	inRound     bool
	reordering  bool   // RACK.reordering_seen
	stamp       uint32 // the newest timestamp since then; 0: none
	windowMult  uint8
	persistence uint8 // RACK.reo_wnd_persist: recoveries until windowMult is forgotten

	parted bool          // a look for what is lost went through a part of the scoreboard only,
	rest   Seq           // and goes on from here,
	newest time.Duration // and in the part before it this is when the last was sent that is in doubt; negative: none is
	passed passed
}

const (
	// walkLimit bounds the records that one acknowledgement makes us look at, to half a microsecond of work. A leaf of
	// which is known that a look finds nothing counts as one. More than that are newly in doubt only where hundreds of
	// packets are lost at once, and then each acknowledgement looks at the next of them.
	walkLimit = 256
	// walkAgain is when the look goes on where no acknowledgement comes: a tick of 1 ms.
	walkAgain = time.Millisecond
	// persistRecoveries: RFC 8985 §6.2, step 4: the reordering window stays inflated for 16 recoveries.
	persistRecoveries = 16
	// maxAckDelay is TLP.max_ack_delay of RFC 8985 §7.2: Linux's TCP_RTO_MIN, longer than any delayed acknowledgement
	// in use.
	maxAckDelay = 200 * time.Millisecond
	// probeSlack keeps the probe from running against the acknowledgement on a path without delay: Linux's
	// TCP_TIMEOUT_MIN, two ticks of 1 ms.
	probeSlack = 2 * time.Millisecond
)

// pending is what timerLoss stands for.
type pending uint8

const (
	pendingNone    pending = iota
	pendingReorder         // RFC 8985 §6.2, step 5: what may be reordered becomes lost
	pendingProbe           // the PTO of RFC 8985 §7.2
	pendingIdle            // the scoreboard goes: nothing was in flight for an RTO, or some
)

// tail is the state of the tail loss probe.
type tail struct {
	due   bool  // Next is to send a probe
	sent  bool  // TLP.end_seq is set
	again bool  // TLP.is_retrans: the probe was no new text
	end   Seq   // TLP.end_seq: SND.NXT when the probe was sent
	probe Block // what it sent again
}

// delivery is what one acknowledgement says, beside SND.UNA.
type delivery struct {
	now     time.Duration
	echo    uint32        // TSecr less the offset of our timestamps, where hasEcho
	hasEcho bool          //
	minRTT  time.Duration // the shortest round trip so far; 0: none
	mss     int           // octets of one packet; 0: no limit to how small a report may be
	pipe    int           // octets in flight before it
	octets  int           // newly delivered
	lost    int           // newly found lost
	oldest  time.Duration // the RTT of the first of them that was sent only once; 0: there is none
	newest  time.Duration // and of the last
	coarse  time.Duration // the RTT by timestamps, in whole milliseconds, where there is no other; 0: none

	advanced   bool   // SND.UNA moved
	marked     bool   // the peer echoes a congestion mark
	cumulative bool   // what is being delivered stands before it
	headAgain  bool   // what stood first was sent more than once,
	headResent uint16 // and for the second time at this timestamp, its low bits
	untouched  bool   // something that counted as lost, and was not sent again, was delivered (F-RTO)
	dsack      bool
	duplicate  Block // what dsack reports
}

// sentAfter is RACK_sent_after of RFC 8985 §6.2.
func sentAfter(at1 time.Duration, end1 Seq, at2 time.Duration, end2 Seq) bool {
	return at1 > at2 || at1 == at2 && end2.Less(end1)
}

// deliver is steps 1 to 3 of RFC 8985 §6.2 for the octets of r up to to, which the peer now has.
func (b *scoreboard) deliver(r *record, to Seq, d *delivery) {
	n := to.From(r.from)
	d.octets += n
	b.rate.delivered += int64(n)
	b.rate.deliveredAt = d.now
	rtt := max(d.now-r.at, 1)
	again := r.fate&(fateAgain|fateBlurred) != 0
	if !again {
		if d.oldest == 0 || rtt > d.oldest {
			d.oldest = rtt
		}
		if d.newest == 0 || rtt < d.newest {
			d.newest = rtt
		}
		d.untouched = d.untouched || r.fate&fateLost != 0
	}
	// RFC 8985 §6.2 step 3: what was sent once and ends before something that was delivered earlier came out of order.
	switch k := &b.rack; {
	case k.rtt == 0 || k.fack.Less(to):
		k.fack = to
	case to.Less(k.fack) && !again:
		k.reordering = true
	}
	// Step 2: an acknowledgement of a retransmission that came too early for it is the original's. The timestamp tells so
	// only where SND.UNA moves: above a hole, TSecr stays what it was before the hole, and RFC 8985 as written would learn
	// nothing from any retransmission there.
	if again && (d.cumulative && d.hasEcho && int32(d.echo+b.rack.tick(d.minRTT)-ticks(r.at)) < 0 || rtt < d.minRTT) {
		return
	}
	if k := &b.rack; k.rtt == 0 || sentAfter(r.at, to, k.at, k.end) {
		k.at, k.end, k.rtt = r.at, to, rtt
	}
	b.rate.update(r, to)
}

// reorderWindow is RACK_update_reo_wnd of RFC 8985 §6.2, step 4.
func (t *TCB) reorderWindow() time.Duration {
	b := t.board
	if k := &b.rack; !k.reordering {
		// While no reordering was seen, the window is zero during loss recovery, and where three segments were reported
		// above a hole, as RFC 5681 would have it.
		if t.snd.recovering || t.snd.una.LessEq(t.snd.recover) || b.sacked >= dupThresh*t.textMSS() {
			return 0
		}
	}
	return min(time.Duration(max(b.rack.windowMult, 1))*t.rtt.min/4, t.rtt.srtt)
}

// countDSACK widens the reordering window once a round trip in which a D-SACK came (RFC 8985 §6.2, step 4).
func (t *TCB) countDSACK() {
	k := &t.board.rack
	if k.inRound && t.snd.una.Less(k.dsackRound) {
		return
	}
	k.inRound, k.dsackRound = true, t.snd.nxt
	k.windowMult = min(max(k.windowMult, 1), 254) + 1
	k.persistence = persistRecoveries
	k.reordering = true
}

// recovered counts down to where the reordering window shrinks again.
func (k *rack) recovered() {
	if k.persistence > 0 {
		if k.persistence--; k.persistence == 0 {
			k.windowMult = 1
		}
	}
}

// armLoss starts the timer for what may yet be found lost after wait, else for the probe, else for idleness.
func (t *TCB) armLoss(now, wait time.Duration) {
	b := t.board
	switch {
	case wait > 0:
		b.pending = pendingReorder
		t.set(timerLoss, now+wait)
	case b.total == 0:
		b.pending = pendingIdle
		// who sends now and then would else make one each time: with each that was made anew it is kept twice as long
		t.set(timerLoss, now+backedOff(t.rto(), t.snd.boards-1))
	case t.mayProbe():
		b.pending = pendingProbe
		t.set(timerLoss, now+t.probeTimeout(now))
	default:
		b.pending = pendingNone
		t.stop(timerLoss)
	}
}

// mayProbe: RFC 8985 §7.2 schedules a probe where there is SACK, no recovery, nothing SACKed and no probe outstanding. It
// departs from that in a recovery, where there may be one as well: where all that was sent last is lost, nothing comes by
// which RACK could tell. RFC 9002 §6.2 has its probe timer run then too. To a kernel that dropped 1 % of the super-segments,
// 22 transfers of 4 s had 12 retransmission timeouts without such probes, and 22 had 1 with them.
func (t *TCB) mayProbe() bool {
	b := t.board
	return !b.tail.sent && t.snd.wnd > 0 && t.snd.retries == 0 && t.state.synchronized() &&
		(t.snd.recovering || b.sacked == 0 && b.lost == 0 && t.snd.recover.Less(t.snd.una))
}

// probeTimeout is TLP_calc_PTO of RFC 8985 §7.2. It departs from it by probeSlack.
func (t *TCB) probeTimeout(now time.Duration) time.Duration {
	pto := time.Second
	if t.rtt.srtt != 0 {
		pto = 2*t.rtt.srtt + probeSlack
		if t.board.total <= t.textMSS() {
			// RFC 8985 §7.2: with one segment in flight, the peer may be delaying its acknowledgement.
			pto += maxAckDelay
		}
	}
	if at := t.timers[timerRetransmit]; at != 0 {
		pto = min(pto, at-now)
	}
	return pto
}

// expireLoss is timerLoss.
func (t *TCB) expireLoss(now time.Duration) {
	b := t.board
	if b == nil {
		return
	}
	was := b.pending
	b.pending = pendingNone
	switch was {
	case pendingReorder:
		d := delivery{now: now, pipe: b.pipe()}
		var wait time.Duration
		d.lost, wait = b.detect(now, t.reorderWindow())
		t.respond(now, &d)
		t.armLoss(now, wait)
	case pendingProbe:
		if t.mayProbe() {
			b.tail.due = true
		}
	case pendingIdle:
		if b.total == 0 {
			t.board = nil
		}
	}
}

// probeInstead: a probe that would come later than the retransmission timer comes in its stead (RFC 8985 §7.2).
func (t *TCB) probeInstead(now time.Duration) bool {
	b := t.board
	if b == nil || b.pending != pendingProbe || t.timers[timerLoss] > now || !t.mayProbe() {
		return false
	}
	t.stop(timerLoss)
	t.expireLoss(now)
	t.set(timerRetransmit, now+t.rto())
	return true
}

// nextTail sends a tail loss probe. RFC 8985 §7.3: a segment of new text, if there is some and the peer's window
// permits, else the last segment again; the congestion window does not hold it back. In a recovery it is the first segment
// that is sent again, as it is lost, if anything is. New text asks as well, and is not sent in vain where but the
// acknowledgements were lost: both ways at 3 % and 10 ms, ten minutes in the simulator, Reno's needless packets went from 46
// to 10, and CUBIC's from 19 to 4.
func (t *TCB) nextTail(now time.Duration, s *Segment) bool {
	b := t.board
	if b == nil || !b.tail.due {
		return false
	}
	b.tail.due = false
	if !t.sending() || !t.mayProbe() || b.total == 0 {
		return false
	}
	o := t.options(now)
	mss := int(t.snd.mss) - o.Len()
	if n := min(t.sendq.end.From(t.snd.nxt), mss); n > 0 && n <= t.usable() && b.lost == 0 {
		t.fill(now, s, t.snd.nxt, n, CauseTLP)
		t.sentText(now, s)
		b.tail.again = false
	} else {
		t.probeAgain(now, s, mss)
	}
	b.tail.sent, b.tail.end = true, t.snd.nxt
	b.pending = pendingNone
	t.stop(timerLoss)
	// RFC 8985 §7.3: after a probe the retransmission timer starts again, and no second probe is scheduled.
	t.set(timerRetransmit, now+t.rto())
	return true
}

// probeAgain makes s the last segment that is outstanding once more, or the first.
func (t *TCB) probeAgain(now time.Duration, s *Segment, mss int) {
	b := t.board
	p := b.last()
	if t.snd.recovering {
		p = b.begin()
	} else if from := t.snd.nxt - Seq(mss); b.at(p).from.Less(from) {
		if q, ok := b.split(p, from); ok {
			p = b.next(q)
		}
	}
	from, to := b.at(p).from, b.at(p).to
	n := min(minSeq(t.sendq.end, to).From(from), mss)
	t.fill(now, s, from, n, CauseTLP)
	if t.finQueued && t.snd.nxt == t.sendq.end+1 && from+Seq(n) == t.sendq.end {
		s.Flags |= FIN
	}
	b.tail.again, b.tail.probe = true, Block{from, s.End()}
	b.resent(p, s.End(), now)
	if t.snd.recovering {
		b.prr.send(s.Len())
		b.revert.resent(s.Len(), t.stamp(now))
	}
	t.snd.again++
}

// probeAcked is TLP_process_ack of RFC 8985 §7.4. It reports whether the probe has repaired a loss.
func (t *TCB) probeAcked(a *arrival, d *delivery) bool {
	p := &t.board.tail
	switch {
	case t.snd.recovering:
		p.sent = p.sent && d.octets == 0 // it has asked, and what it may have repaired was answered when the recovery began
	case !p.sent || t.snd.una.Less(p.end):
	case !p.again:
		p.sent = false
	case d.dsack && d.duplicate == p.probe:
		p.sent = false // both came: nothing was lost
	case p.end.Less(t.snd.una):
		// RFC 8985 §7.4.2: what followed the probe was acknowledged, and nobody said that the probe came twice.
		p.sent = false
		return true
	case !d.advanced && a.len == 0 && a.Options.Blocks == 0:
		p.sent = false // a second acknowledgement of the same: from a peer that sends no D-SACK
	}
	return false
}
