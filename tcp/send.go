package tcp

import "time"

// overrideTimeout is how long SWS avoidance may hold text back. RFC 9293 §3.8.6.2.1: "The override timeout should be
// in the range 0.1 - 1.0 seconds."
const overrideTimeout = 200 * time.Millisecond

// sending reports whether the state has text or a FIN to send.
func (t *TCB) sending() bool {
	switch t.state {
	case Established, FinWait1, CloseWait, Closing, LastAck:
		return true
	case SynReceived:
		// RFC 7413 §4.2.2: a server that has taken the SYN's text may answer before the handshake ends.
		return t.passive && t.snd.fast
	}
	return false
}

// nextAgain sends the beginning of [rtx, lost) again.
func (t *TCB) nextAgain(now time.Duration, s *Segment) bool {
	if t.board != nil && t.snd.una != t.snd.iss {
		return t.nextTail(now, s) || t.nextLost(now, s)
	}
	if !t.sending() || !t.snd.rtx.Less(t.snd.lost) {
		return false
	}
	// RFC 9293 §3.8.6: "SHOULD retransmit normally the old unacknowledged data between SND.UNA and SND.UNA+SND.WND
	// (SHLD-16)."
	seq := t.snd.rtx
	o := t.options(now)
	n := min(t.snd.lost.From(seq), (t.snd.una + Seq(t.snd.wnd)).From(seq), t.packets(int(t.snd.mss)-o.Len()))
	room := t.congestion(now).Window() - seq.From(t.snd.una)
	if t.paced(now) {
		return false
	}
	if seq == t.snd.una {
		room = max(room, t.textMSS()) // the first loss is repaired whatever the window (RFC 5681 §3.2, step 3)
	}
	text := min(t.sendq.end.From(seq), n)
	t.snd.limited = n > 0 && room < max(min(text, t.textMSS()), 1) // a FIN alone takes room for one
	if n <= 0 || t.snd.limited {
		return false
	}
	if n > room {
		n = t.whole(room, text, true, int(t.snd.mss)-o.Len())
	}
	t.fill(now, s, seq, min(text, n), t.snd.cause)
	if text < n && t.finQueued {
		s.Flags |= FIN
	}
	t.snd.rtx = s.End()
	if t.paces {
		t.pace(now, s.TextLen())
	}
	t.snd.again++
	if t.timers[timerRetransmit] == 0 || s.Cause == CauseFast {
		t.set(timerRetransmit, now+t.rto())
	}
	return true
}

// packets is the most text that one segment takes, where a packet holds mss: a whole number of packets.
func (t *TCB) packets(mss int) int { return max(int(t.snd.maxText)/mss, 1) * mss }

// fill makes s carry n octets of text from seq on.
func (t *TCB) fill(now time.Duration, s *Segment, seq Seq, n int, why Cause) {
	t.header(now, s, seq, why)
	mss := int(t.snd.mss) - s.Options.Len()
	if n > mss {
		n = min(n, t.packets(mss))
		s.Size = uint16(mss)
	}
	s.Text = t.sendq.views(s.Text, seq, n)
	if n > 0 && seq+Seq(n) == t.sendq.end {
		// RFC 9293 §3.9.1.2: "MUST set the PSH bit in the last buffered segment (i.e., when there is no more queued
		// data to be sent) (MUST-61)."
		s.Flags |= PSH
	}
}

// nextText sends new text, and the FIN behind the last of it.
func (t *TCB) nextText(now time.Duration, s *Segment) bool {
	if !t.sending() || t.snd.rtx.Less(t.snd.lost) ||
		t.board != nil && t.board.lost > 0 && t.board.revert.frto != frtoNewText {
		return false
	}
	queued := t.sendq.end.From(t.snd.nxt)
	fin := t.finQueued && t.snd.nxt.LessEq(t.sendq.end)
	if queued == 0 && !fin {
		t.snd.limited = false
		if t.modelled {
			t.checkLimited(now)
		}
		return false
	}
	if t.search != nil {
		if sent, wait := t.nextSearch(now, s, queued); sent || wait {
			return sent
		}
	}
	o := t.options(now)
	n, ok := t.mayText(now, queued, fin, int(t.snd.mss)-o.Len())
	if !ok {
		return false
	}
	t.fill(now, s, t.snd.nxt, n, CauseData)
	if fin && n == queued && n < t.usable() {
		t.addFIN(s)
	}
	t.sentText(now, s)
	return true
}

// addFIN puts the FIN on s, behind the last text.
func (t *TCB) addFIN(s *Segment) {
	s.Flags |= FIN
	if t.state == CloseWait {
		// RFC 9293 §3.10.4: "Queue this request until all preceding SENDs have been segmentized; then send a FIN
		// segment, enter LAST-ACK state."
		t.state = LastAck
	}
}

// usable is the usable window U of RFC 9293 §3.8.6.2.1: what may be sent behind SND.NXT; 0 where the peer shrank it.
func (t *TCB) usable() int { return (t.snd.una + Seq(t.snd.wnd)).From(t.snd.nxt) }

// mayText decides how much of queued octets goes now, in packets of mss octets; it may be nothing but a FIN.
func (t *TCB) mayText(now time.Duration, queued int, fin bool, mss int) (n int, ok bool) {
	cc := t.congestion(now)
	flight := t.snd.nxt.From(t.snd.una)
	if flight == 0 && t.snd.sentAt != 0 && now-t.snd.sentAt > t.rto() {
		// RFC 5681 §4.1: "a TCP SHOULD set cwnd to no more than RW before beginning transmission if the TCP has not sent
		// data in an interval exceeding the retransmission timeout."
		cc.Idle(now)
		t.snd.sentAt = now
	}
	if flight == 0 && t.modelled && t.silent() {
		t.model().Restart(now)
	}
	room := t.room(now)
	if flight == 0 {
		room = max(room, mss)
	}
	usable := t.usable()
	t.snd.limited = room < min(queued, mss) && room < usable
	n = t.whole(max(min(queued, usable, room, t.portion(room < min(queued, usable), mss)), 0), queued, fin, mss)
	if !t.worth(n, queued, fin, usable, room, mss) {
		if flight == 0 && t.timers[timerRetransmit] == 0 {
			// nothing is outstanding whose acknowledgement would open the window: ask for it, or override
			wait := overrideTimeout
			if t.snd.wnd == 0 {
				wait = t.rto()
			}
			t.set(timerRetransmit, now+wait)
		}
		return 0, false
	}
	if full := t.packets(mss); full > mss && n == queued && n < full && flight >= full && !fin && t.corked(now) {
		return 0, false
	}
	return n, !t.paced(now)
}

const (
	// nearRTT is the longest round trip to a peer in the same machine, beside which a system call is not short.
	nearRTT = 200 * time.Microsecond
	// corkTime is how long a part of a super-segment waits at most, should no acknowledgement come.
	corkTime = time.Millisecond
)

// corked reports whether the last of the user's text, which does not fill a super-segment, waits for more, as Linux's
// tcp_autocorking has it wait while the device has some to send. A device here takes at once what it is given: what tells
// of a busy path is a super-segment in flight, which on a short path will have been acknowledged soon.
func (t *TCB) corked(now time.Duration) bool {
	if t.paces || !t.near() {
		return false
	}
	if t.snd.departs == 0 {
		t.snd.held, t.snd.departs = true, now+corkTime
	}
	return now < t.snd.departs
}

// near reports whether the peer is in the same machine, as the round trip tells.
func (t *TCB) near() bool { return t.rtt.min != 0 && t.rtt.min <= nearRTT }

// portion is the most text that one segment takes of what is queued; limited says that the congestion window, and not the
// user or the peer, decides how much goes. Then a segment has half of it at most: where the path takes or loses
// super-segments whole, the fate of one tells of the other, and while one is acknowledged the other is on its way. To a peer
// that is near it has most of it: fewer are then lost, and the rest tells of its fate as well.
func (t *TCB) portion(limited bool, mss int) int {
	n, part := t.quantum(t.packets(mss)), t.cc.Window()/2
	if t.near() {
		part = t.cc.Window() / 8 * 7
	}
	if limited && n > part {
		n = max(part-part%mss, mss)
	}
	return n
}

// whole cuts n octets to whole packets where more is to follow.
func (t *TCB) whole(n, queued int, fin bool, mss int) int {
	if n > mss && (n < queued || !t.noDelay && !fin) {
		n -= n % mss
	}
	return n
}

// worth is the sender's SWS avoidance of RFC 9293 §3.8.6.2.1 with its four rules, and Nagle's algorithm in their
// brackets.
func (t *TCB) worth(n, queued int, fin bool, usable, room, mss int) bool {
	idle := t.snd.una == t.snd.nxt
	switch {
	case queued == 0: // a FIN alone
		return fin && usable > 0
	case n <= 0:
		return false
	case n >= mss: // (1)
		return true
	case n == queued: // (2)
		// RFC 9293 §3.7.4: "If there is unacknowledged data (i.e., SND.NXT > SND.UNA), then the sending TCP endpoint
		// buffers all user data […] until the outstanding data has been acknowledged or until the TCP endpoint can send
		// a full-sized segment"; nothing will be added to text before a FIN
		return t.noDelay || idle || fin
	case room < min(usable, mss):
		return false // the congestion window opens with the next acknowledgement
	case n >= int(t.snd.maxWnd)/2: // (3)
		return true
	}
	return t.snd.override // (4)
}

// SetMTU says that the path's packets hold segments of at most mtu octets, and super-segments maxText octets of text:
// Config.MTU and Config.MaxText. Where segments shrink, what is outstanding is sent again at once in smaller ones.
func (t *TCB) SetMTU(now time.Duration, mtu, maxText int) {
	old := t.snd.mss
	t.mtu, t.snd.maxText = int32(min(max(mtu, minMSS+HeaderLen), maxSegment)), int32(maxText)
	if t.state < SynReceived {
		return
	}
	t.sizeMSS()
	if t.snd.mss == old {
		return
	}
	if t.cc != nil {
		t.cc.SetMSS(t.textMSS())
	}
	// RFC 1191 §6.4 has the retransmission follow at once; no congestion was seen, so no window is cut.
	if t.snd.mss < old && t.sending() && t.snd.nxt.From(t.snd.una) > int(t.snd.mss) {
		t.loseAll(now, CauseMTU)
		t.snd.recovering = false
		t.snd.recover = t.snd.nxt
	}
}
