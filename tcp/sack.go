package tcp

import "time"

// This file is loss recovery where SACK was agreed on: what an acknowledgement says goes into the scoreboard, RACK tells
// what is lost, and here it is decided what follows for the congestion window. Without SACK, recovery.go does it.

// sentText notes that s, which begins at SND.NXT, was sent for the first time.
func (t *TCB) sentText(now time.Duration, s *Segment) {
	idle := t.snd.una == t.snd.nxt
	n := s.Len()
	t.snd.nxt += Seq(n)
	t.snd.rtx, t.snd.lost = t.snd.nxt, t.snd.nxt
	t.snd.override = false
	t.snd.sentAt = now
	if t.ecn != 0 {
		t.markText(s)
	}
	if t.paces {
		t.pace(now, n)
	} else {
		t.snd.held, t.snd.departs = false, 0
	}
	if idle {
		t.set(timerUser, now+t.userTimeout())
	}
	if idle || t.timers[timerRetransmit] == 0 {
		// RFC 6298 §5.1: "Every time a packet containing data is sent (including a retransmission), if the timer is not
		// running, start it running"
		t.set(timerRetransmit, now+t.rto())
	}
	if !t.sack {
		if !t.snd.timing {
			t.snd.timing, t.snd.timed, t.snd.timedAt = true, t.snd.nxt, now
		}
		return
	}
	if t.board == nil {
		t.newBoard()
	}
	b := t.board
	b.push(s.Seq, t.snd.nxt, now)
	b.prr.send(n)
	if b.pending != pendingReorder {
		t.armLoss(now, 0)
	}
}

// room is how many octets the congestion window lets into the network now.
func (t *TCB) room(now time.Duration) int {
	cc := t.congestion(now)
	b := t.board
	if b == nil {
		return cc.Window() + int(t.snd.inflated) - t.snd.nxt.From(t.snd.una)
	}
	p := b.pipe()
	room := cc.Window() - p
	if t.snd.recovering && !t.modelled {
		room = b.prr.room
	}
	if p == 0 {
		room = max(room, t.textMSS()) // nothing else would bring an acknowledgement
	}
	return room
}

// nextLost sends the first of what is lost again (RFC 6675 §4, NextSeg rule 1), as far as it stands in a row.
func (t *TCB) nextLost(now time.Duration, s *Segment) bool {
	b := t.board
	if b.lost == 0 || !t.sending() || b.revert.frto == frtoNewText {
		return false
	}
	p, k, ok := b.firstLost()
	if !ok {
		return false
	}
	// RFC 9293 §3.8.6: "SHOULD retransmit normally the old unacknowledged data between SND.UNA and SND.UNA+SND.WND
	// (SHLD-16)."
	seq := k.Left
	o := t.options(now)
	mss := int(t.snd.mss) - o.Len()
	n := min(k.Right.From(seq), (t.snd.una + Seq(t.snd.wnd)).From(seq), t.quantum(t.packets(mss)))
	room := t.room(now)
	if p == b.begin() {
		room = max(room, t.textMSS()) // the first loss is repaired whatever the window (RFC 5681 §3.2, step 3)
	}
	text := min(t.sendq.end.From(seq), n)
	t.snd.limited = n > 0 && room < max(min(text, t.textMSS()), 1) // a FIN alone takes room for one
	if n <= 0 || t.snd.limited || t.paced(now) {
		return false
	}
	if n > room {
		n = t.whole(room, text, true, mss)
	}
	if b.pipe() == 0 && n > mss {
		// Nothing else is in the network. Where a super-segment is lost whole, only the timer would find that out; of two,
		// the later tells of the earlier (RFC 8985 §3.1).
		n = (n/2 + mss - 1) / mss * mss
	}
	t.fill(now, s, seq, min(text, n), t.snd.cause)
	if text < n && t.finQueued {
		s.Flags |= FIN
	}
	b.resent(p, s.End(), now)
	b.prr.send(s.Len())
	if t.paces {
		t.pace(now, s.Len())
	}
	b.revert.resent(s.Len(), t.stamp(now))
	t.snd.again++
	if t.timers[timerRetransmit] == 0 || seq == t.snd.una {
		t.set(timerRetransmit, now+t.rto())
	}
	return true
}

// sackAcked takes an acknowledgement, with what SACK says in it, into the scoreboard, and responds to it. SND.UNA has
// moved already, where it does.
func (t *TCB) sackAcked(now time.Duration, a *arrival, advanced, marked bool) {
	b := t.board
	d := delivery{now: now, minRTT: t.rtt.min, mss: t.textMSS(), pipe: b.pipe(), advanced: advanced, marked: marked}
	if t.ts && a.Options.HasTimestamps && a.Options.TSEcr != 0 {
		d.hasEcho, d.echo = true, a.Options.TSEcr-t.tsOffset
	}
	b.rate.known = false
	b.acknowledge(t.snd.una, &d)
	t.reported(a, &d)
	if b.reneged() {
		b.renege()
		t.snd.cause = CauseFast
	}
	if d.oldest != 0 {
		t.rtt.sample(d.oldest)
		// RFC 6298 §5.7: a new measurement collapses the RTO after back-off; an acknowledgement alone does not.
		t.snd.backoff = 0
		t.rtt.min = min(t.rtt.min, d.newest)
	} else if advanced {
		d.coarse = t.measure(now, a)
	}
	probe := b.tail.sent && b.tail.again && d.dsack && d.duplicate == b.tail.probe
	repaired := t.probeAcked(a, &d)
	if d.dsack && !probe {
		t.countDSACK()
	}
	if t.spurious(&d, probe) {
		t.undo(now)
	}
	var wait time.Duration
	d.lost, wait = b.detect(now, t.reorderWindow())
	if repaired && !t.snd.recovering {
		// RFC 8985 §7.4.2: the loss that the probe repaired is answered as one that fast recovery had.
		t.cc.Loss(now, Sample{Lost: t.textMSS(), InFlight: d.pipe})
		t.cc.Recovered(now)
		t.tellReduced()
	}
	t.respond(now, &d)
	if advanced {
		t.set(timerRetransmit, now+t.rto()) // which the probe's time depends on
	}
	t.armLoss(now, wait)
}

// reported takes the blocks of a's SACK option. RFC 2018 §3 has a block lie above the cumulative acknowledgement; what
// does not, or reports what was never sent, is passed over.
func (t *TCB) reported(a *arrival, d *delivery) {
	blocks := a.Options.SACK[:min(int(a.Options.Blocks), len(a.Options.SACK))]
	for i, k := range blocks {
		if !k.Left.Less(k.Right) || t.snd.nxt.Less(k.Right) {
			continue
		}
		// RFC 2883 §4: the first block is a D-SACK where it stands below the acknowledgement, or inside of the second.
		if i == 0 && (k.Right.LessEq(a.Ack) ||
			len(blocks) > 1 && blocks[1].Left.LessEq(k.Left) && k.Right.LessEq(blocks[1].Right)) {
			// older ones say nothing of what is remembered: RFC 2883 has no bound, Linux takes a window
			if !k.Left.Less(t.snd.una - Seq(t.snd.maxWnd)) {
				d.dsack, d.duplicate = true, k
			}
			continue
		}
		if a.Ack.Less(k.Left) && t.snd.una.Less(k.Left) {
			t.board.report(k, d)
		}
	}
}

// flight is FlightSize. RFC 5681 §2: "The amount of data that has been sent but not yet cumulatively acknowledged." What
// SACK reported belongs to it, but what limited transmit sent beyond the window does not (RFC 5681 §3.2).
func (t *TCB) flight() int { return min(t.board.total, t.cc.Window()) }

// respond begins a recovery, goes on with it or ends it, or lets the congestion window grow.
func (t *TCB) respond(now time.Duration, d *delivery) {
	b := t.board
	if t.snd.recovering && t.snd.recover.LessEq(t.snd.una) {
		t.snd.recovering = false
		t.cc.Recovered(now)
		b.rack.recovered()
	}
	if d.lost > 0 && t.search != nil {
		d.lost = max(d.lost-t.probeLost(), 0)
	}
	if t.modelled {
		t.respondModel(now, d)
		return
	}
	switch {
	case t.snd.recovering:
		t.snd.cause = CauseFast
		b.prr.delivered(d, b.pipe(), t.cc.Ssthresh(), t.textMSS())
	case d.lost > 0 && t.snd.recover.LessEq(t.snd.una):
		t.beginRecovery(now, d)
		b.prr.begin(d, b.total, b.sacked)
		b.prr.delivered(d, b.pipe(), t.cc.Ssthresh(), t.textMSS())
	case d.octets > 0 && !d.marked && (d.advanced || b.rack.reordering):
		// RFC 3042 §2: while duplicates are counted, the congestion window stays what it is. Where segments come out of
		// order anyway, it grows with whatever is delivered, as on Linux.
		t.cc.Acked(now, Sample{Acked: d.octets, Lost: d.lost, InFlight: d.pipe, RTT: max(d.newest, d.coarse), AppLimited: !t.snd.limited})
	}
	t.keepRecover()
}

// respondModel is respond where congestion control models the path: it decides of each acknowledgement, and what it
// says of the window holds in recovery as well.
func (t *TCB) respondModel(now time.Duration, d *delivery) {
	b, m := t.board, t.model()
	switch {
	case t.snd.recovering:
		t.snd.cause = CauseFast
	case d.lost > 0 && t.snd.recover.LessEq(t.snd.una):
		t.beginRecovery(now, d)
	}
	if d.octets > 0 {
		s := b.tell(now, t.rtt.min)
		s.Acked, s.Lost, s.RTT = d.octets, d.lost, d.newest
		s.WindowLimited, s.Recovering = t.snd.limited, t.snd.una.Less(t.snd.recover)
		if m.Delivered(now, s); s.Discount {
			b.discount()
		}
	}
	t.keepRecover()
}

// beginRecovery begins a recovery.
func (t *TCB) beginRecovery(now time.Duration, d *delivery) {
	t.board.revert = revert{}
	if !t.hasReduced() {
		t.cc.Loss(now, Sample{Acked: d.octets, Lost: d.lost, InFlight: max(d.pipe, t.flight()), RTT: max(d.newest, d.coarse)})
		t.tellReduced()
		t.board.revert.begin(t.snd.una)
	}
	t.snd.recover, t.snd.recovering, t.snd.cause = t.snd.nxt, true, CauseFast
	t.board.tail.sent = false
}

// keepRecover keeps the end of a recovery that is over within 2³¹ of SND.UNA.
func (t *TCB) keepRecover() {
	if !t.snd.recovering && t.snd.recover.LessEq(t.snd.una) {
		t.snd.recover = t.snd.una - 1
	}
}

// newBoard makes the scoreboard.
func (t *TCB) newBoard() {
	t.board = &scoreboard{model: t.model()}
	t.board.rate.delivered = int64(t.textOut)
	if t.snd.boards > 0 {
		t.board.discount() // the one before it went since there was nothing to send
	}
	t.snd.boards = min(t.snd.boards, 254) + 1
}

// silent reports whether the user had nothing to send when something was last in flight.
func (t *TCB) silent() bool {
	if t.board == nil {
		return t.snd.boards > 0
	}
	return t.board.rate.limitedTo != 0
}

// timedOut marks what the retransmission timer takes for lost. RFC 8985 §6.3: the first segment, and what was sent so
// long ago that RACK would call it lost. What SACK reported stays reported, in which it departs from RFC 2018 §8 as Linux
// does: a peer that has thrown it away shows that by what it acknowledges.
func (t *TCB) timedOut(now time.Duration) {
	b := t.board
	first := !t.snd.recovering && t.snd.recover.Less(t.snd.una)
	if first || !b.revert.begun {
		b.revert.begin(t.snd.una)
	}
	b.revert.frto = frtoNone
	if first {
		b.revert.frto = frtoFirst // RFC 5682 §3.1: a timeout in the midst of a recovery is not examined
	}
	window := t.reorderWindow()
	b.loseAll(now, now-b.rack.rtt-window, b.reneged(), t.model())
	b.tail = tail{}
	b.pending = pendingNone
	t.stop(timerLoss)
	t.snd.cause = CauseRTO
}
