package tcp

import "time"

// This file is SEGMENT ARRIVES: RFC 9293 §3.10.7.

const (
	// oowInterval is the least time between answers to unacceptable segments that carry no text: Linux's
	// tcp_invalid_ratelimit. Two peers that find each other's acknowledgements unacceptable would else never stop.
	oowInterval = 500 * time.Millisecond
	// challengeLimit is how many challenge ACKs one connection sends a second. RFC 5961 §7 wants them limited; a limit
	// that connections share would tell an attacker about the others (CVE-2016-5696). Ten is the RFC's
	// example, which has them in five seconds.
	challengeLimit = 10
	// pawsIdle: RFC 7323 §5.5, "24 days", after which TS.Recent says nothing any more.
	pawsIdle = 24 * 24 * time.Hour
)

// arrival is a segment as the checks leave it: the idealized segment of RFC 9293 §3.10.7.4, first.
type arrival struct {
	*Segment
	seq Seq    // of the first octet of text
	len int    // octets of text
	wnd uint32 // SEG.WND in octets
}

// Arrive is SEGMENT ARRIVES (RFC 9293 §3.10.7). s and its text are borrowed until it returns. The event says what
// changed, and which check refused the segment, if one did.
func (t *TCB) Arrive(now time.Duration, s *Segment) (ev Event) {
	if t.state == Closed {
		return DropClosed.event()
	}
	t.segsIn++
	unread, room := t.Buffered() > 0 || t.EOF(), t.Room() > 0
	before := t.state
	a := arrival{Segment: s, seq: s.Seq, len: s.TextLen(), wnd: uint32(s.Window)}
	if s.Flags.Has(SYN) {
		a.seq++
	} else {
		a.wnd <<= t.snd.scale
	}
	if t.state == SynSent {
		ev = t.arriveSynSent(now, &a)
	} else {
		ev = t.arriveOther(now, &a)
	}
	if !unread && (t.Buffered() > 0 || t.EOF()) {
		ev |= Readable
	}
	if !room && t.Room() > 0 {
		ev |= Writable
	}
	if before < Established && t.state >= Established {
		ev |= Opened
	}
	if t.state == Closed {
		ev |= Ended
	}
	if before != TimeWait && t.state == TimeWait {
		ev |= Waiting
	}
	return ev
}

// arriveSynSent is RFC 9293 §3.10.7.3, in its own order.
func (t *TCB) arriveSynSent(now time.Duration, a *arrival) (ev Event) {
	// "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set, if so drop the segment and
	// return)"
	ack := a.Flags.Has(ACK)
	if ack && (a.Ack.LessEq(t.snd.una) || (t.snd.nxt + t.sentBySYN()).Less(a.Ack)) {
		if !a.Flags.Has(RST) {
			t.sendReset(a.Ack, false)
		}
		return DropSynSentACK.event()
	}
	if a.Flags.Has(RST) {
		if !ack {
			return DropSynSentRST.event()
		}
		t.end(Refused)
		return 0
	}
	if !a.Flags.Has(SYN) {
		return DropFlags.event()
	}
	var h handshake
	h.read(a.Segment)
	t.agree(now, &h)
	if !ack {
		t.agreeECN(t.ecn&ecnAsked != 0 && h.ecn)
		// "Otherwise, enter SYN-RECEIVED, form a SYN,ACK segment". Text that came along is sent again by the peer.
		t.state = SynReceived
		t.snd.rtx, t.snd.lost, t.snd.cause = t.snd.una, t.snd.nxt, CauseData
		return 0
	}
	// RFC 3168 §6.1.1: ECE and no CWR make an ECN-setup SYN-ACK; both are what a peer says that reflects what it is sent.
	t.agreeECN(t.ecn&ecnAsked != 0 && a.Flags&(ECE|CWR) == ECE)
	if t.opening != nil {
		t.fastAnswered(a)
	}
	t.establish(now)
	t.acked(now, a, &ev, false)
	t.window(a.Seq, a.Ack, a.wnd)
	t.ackNow(CauseAck)
	t.takeText(now, a, &ev)
	t.checkFIN(now, a, &ev)
	return ev
}

// arriveOther is RFC 9293 §3.10.7.4, in its own order. A false stops the segment.
func (t *TCB) arriveOther(now time.Duration, a *arrival) (ev Event) {
	if !t.checkPAWS(now, a, &ev) || // RFC 7323 §5.3 puts it in front
		!t.checkSeq(now, a, &ev) || // first
		!t.checkRST(now, a, &ev) || // second; third, security, is not implemented
		!t.checkSYN(now, a, &ev) || // fourth
		!t.checkACK(now, a, &ev) { // fifth
		return ev
	}
	// sixth: URG is passed over and its text stays in line (RFC 6093 §6 wants it so)
	t.rcv.heardAt = now
	t.fresh = false
	t.recent(now, a)
	if t.ecn != 0 {
		t.heardECN(a)
	}
	t.takeText(now, a, &ev) // seventh
	t.checkFIN(now, a, &ev) // eighth
	return ev
}

// checkPAWS is the protection against wrapped sequence numbers of RFC 7323 §5.
func (t *TCB) checkPAWS(now time.Duration, a *arrival, ev *Event) bool {
	if !t.ts || a.Flags&(RST|SYN) != 0 {
		return true // RFC 7323 §5.3 R1 exempts resets; a SYN is answered in any case
	}
	if !a.Options.HasTimestamps {
		// RFC 7323 §3.2: "If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment."
		*ev = DropNoTimestamp.event()
		return false
	}
	// RFC 7323 §5.3 R1: "If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, TS.Recent is
	// valid […], and if the RST bit is not set, then treat the arriving segment as not acceptable"
	if int32(a.Options.TSVal-t.rcv.tsRecent) < 0 && now-t.rcv.tsRecentA <= pawsIdle {
		t.unacceptable(now, a)
		*ev = DropPAWS.event()
		return false
	}
	return true
}

// recent keeps TS.Recent. RFC 7323 §4.3 (2): "If: SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent then SEG.TSval
// is copied to TS.Recent". It departs from §5.3 in coming behind the check of ACK, so that a blind segment cannot
// set it.
func (t *TCB) recent(now time.Duration, a *arrival) {
	if !t.ts || !a.Options.HasTimestamps || t.rcv.acked.Less(a.Seq) {
		return
	}
	if int32(a.Options.TSVal-t.rcv.tsRecent) >= 0 || now-t.rcv.tsRecentA > pawsIdle {
		t.rcv.tsRecent, t.rcv.tsRecentA = a.Options.TSVal, now
	}
}

// acceptable is Table 6 of RFC 9293 §3.10.7.4.
func (t *TCB) acceptable(seq Seq, n int) bool {
	switch wnd := t.rcv.edge - t.rcv.nxt; {
	case n == 0 && wnd == 0:
		return seq == t.rcv.nxt
	case n == 0:
		return seq.In(t.rcv.nxt, t.rcv.edge)
	case wnd == 0:
		return false
	default:
		return seq.In(t.rcv.nxt, t.rcv.edge) || (seq+Seq(n)-1).In(t.rcv.nxt, t.rcv.edge)
	}
}

// checkSeq is the first check, and cuts off what was received before or stands behind the window.
func (t *TCB) checkSeq(now time.Duration, a *arrival, ev *Event) bool {
	if a.Flags.Has(RST) {
		// RFC 9293 §3.10.7.4: "If the RST bit is set and the sequence number is outside the current receive window,
		// silently drop the segment."
		if t.acceptable(a.Seq, 0) {
			return true
		}
		*ev = DropWindow.event()
		return false
	}
	if t.simultaneous(a) {
		return true
	}
	if t.state == SynReceived && a.Flags&(SYN|ACK|FIN) == SYN && a.Seq == t.rcv.irs {
		return t.sameSYN(a.Segment, ev)
	}
	if !t.acceptable(a.Seq, a.Segment.Len()) && !t.atEdge(a) {
		// "If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to accept valid
		// ACKs, URGs, and RSTs."
		if t.rcv.edge != t.rcv.nxt || a.Seq != t.rcv.nxt || a.Flags.Has(SYN) {
			t.unacceptable(now, a)
			*ev = DropWindow.event()
			if a.Flags.Has(SYN) {
				*ev = DropSYN.event()
			} else if t.state == TimeWait {
				*ev = DropTimeWait.event()
			}
			return false
		}
		*ev |= DropWindow.event()
		t.ackNow(CauseAck)
	}
	return true
}

// atEdge reports whether a is an acknowledgement at the right edge of the window. It departs from Table 6 in taking it,
// as Linux does: a peer that has filled the window, and lost the first of it, acknowledges from there, and would else not
// get through with anything until the loss is repaired.
func (t *TCB) atEdge(a *arrival) bool {
	return t.state.synchronized() && a.Flags.Has(ACK) && a.Segment.Len() == 0 && a.Seq == t.rcv.edge
}

// simultaneous reports whether a is the SYN-ACK of a simultaneous open (RFC 9293 §3.5, Figure 7): a SYN that was
// received before, now with an acknowledgement of ours. Table 6 would refuse it.
func (t *TCB) simultaneous(a *arrival) bool {
	return t.state == SynReceived && !t.passive && a.Flags&(SYN|ACK) == SYN|ACK && a.Seq == t.rcv.irs
}

// sameSYN is a SYN that was received before, in SYN-RECEIVED: our SYN-ACK was lost.
func (t *TCB) sameSYN(s *Segment, ev *Event) bool {
	if t.snd.nxt != t.snd.iss {
		t.snd.rtx, t.snd.lost, t.snd.cause = t.snd.iss, t.snd.iss+1, CauseFast
		t.snd.timing = false
	}
	if !setupECN(s) {
		t.ecn = 0
	}
	*ev = DropSYN.event()
	return false
}

// unacceptable answers a segment that failed the first check. RFC 9293 §3.10.7.4: "If an incoming segment is not
// acceptable, an acknowledgment should be sent in reply (unless the RST bit is set, if so drop the segment and
// return)".
func (t *TCB) unacceptable(now time.Duration, a *arrival) {
	finAgain := a.Flags.Has(FIN) && t.rcv.ended && a.seq+Seq(a.len)+1 == t.rcv.nxt
	if finAgain && t.state == TimeWait {
		// RFC 9293 §3.10.7.4: "The only thing that can arrive in this state is a retransmission of the remote FIN.
		// Acknowledge it, and restart the 2 MSL timeout."
		t.set(timerWait, now+t.timeWait())
	}
	if !finAgain && (a.len == 0 || a.Flags.Has(SYN)) {
		ms := ticks(now)
		if t.rcv.dupAckAt != 0 && ms-t.rcv.dupAckAt < uint32(oowInterval/time.Millisecond) {
			return
		}
		t.rcv.dupAckAt = max(ms, 1)
	}
	if a.len > 0 && (a.seq + Seq(a.len)).LessEq(t.rcv.nxt) {
		t.noteDuplicate(a, t.rcv.nxt)
	}
	t.ackNow(CauseAck)
}

// checkRST is the second check.
func (t *TCB) checkRST(now time.Duration, a *arrival, ev *Event) bool {
	if !a.Flags.Has(RST) {
		return true
	}
	// RFC 5961 §3.2: "If the RST bit is set and the sequence number does not exactly match the next expected sequence
	// value, yet is within the current receive window […], TCP MUST send an acknowledgment (challenge ACK)."
	if a.Seq != t.rcv.nxt {
		t.challenge(now)
		*ev = DropRST.event()
		return false
	}
	switch t.state {
	case SynReceived:
		// RFC 9293 §3.10.7.4: "If this connection was initiated with an active OPEN (i.e., came from SYN-SENT state),
		// then the connection was refused"
		if t.passive {
			t.end(Reset)
		} else {
			t.end(Refused)
		}
	case Closing, LastAck, TimeWait:
		t.end(None) // both sides had nothing left to say
	default:
		t.end(Reset)
	}
	return false
}

// checkSYN is the fourth check.
func (t *TCB) checkSYN(now time.Duration, a *arrival, ev *Event) bool {
	if !a.Flags.Has(SYN) || t.simultaneous(a) {
		return true
	}
	// RFC 5961 §4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also referred
	// to as challenge ACK) to the remote peer". It departs from RFC 9293 in that SYN-RECEIVED after a passive OPEN does
	// so too, where §3.10.7.4 returns to LISTEN: a peer that has begun anew answers by the reset that does it.
	*ev = DropSYN.event()
	t.challenge(now)
	return false
}

// challenge makes an acknowledgement due that answers a suspicious segment, unless there were too many of late.
func (t *TCB) challenge(now time.Duration) {
	if ms := ticks(now); t.rcv.challenge == 0 || ms-t.challenges >= 1000 {
		t.challenges, t.rcv.challenge = ms, 0
	}
	if t.rcv.challenge < challengeLimit {
		t.rcv.challenge++
		t.ackNow(CauseChallenge)
	}
}

// ackNow makes an acknowledgement due at once. What is due already keeps its cause.
func (t *TCB) ackNow(why Cause) {
	if t.out.ack == CauseNone {
		t.out.ack = why
	}
}
