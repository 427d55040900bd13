package tcp

import "time"

// halfOpen is a connection in SYN-RECEIVED that came out of LISTEN, or a SYN that waits for its verdict. It is 120
// octets instead of a TCB, and holds no text.
type halfOpen struct {
	flow       Flow
	c          *Config
	h          handshake
	deadline   time.Duration
	repeated   time.Duration // when something that arrived last made us repeat ourselves; 0: never
	prev, next *halfOpen
	queue      uint8 // where it stands
	retries    uint8 // SYN-ACKs sent again by the timer
	rejected   bool
}

// Half-open connections wait in one queue for each number of retransmissions, since all in a queue wait equally long:
// then each queue is ordered by deadline with no more ado.
const (
	queueHeld  = synAckRetries + 1 // waits for a verdict
	queueReady = queueHeld + 1     // Next is to answer it
	numQueues  = queueReady + 1
)

// answered reports whether a SYN-ACK was sent.
func (r *halfOpen) answered() bool {
	return r.queue <= synAckRetries || r.queue == queueReady && r.retries > 0
}

// queue is a doubly linked list.
type queue struct{ head, tail *halfOpen }

func (q *queue) push(r *halfOpen) {
	r.prev, r.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = r
	} else {
		q.head = r
	}
	q.tail = r
}

func (q *queue) remove(r *halfOpen) {
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		q.head = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		q.tail = r.prev
	}
	r.prev, r.next = nil, nil
}

func (l *Listener) add(r *halfOpen) {
	l.halfOpen[r.flow] = r
	l.queues[r.queue].push(r)
}

func (l *Listener) move(r *halfOpen, to uint8) {
	l.queues[r.queue].remove(r)
	r.queue = to
	l.queues[to].push(r)
}

func (l *Listener) remove(r *halfOpen) {
	l.queues[r.queue].remove(r)
	delete(l.halfOpen, r.flow)
}

// arriveHalfOpen is SEGMENT ARRIVES for a flow in SYN-RECEIVED (RFC 9293 §3.10.7.4), or still in LISTEN with its SYN
// held. The text and the FIN of the segment that completes the handshake are left to the TCB.
func (l *Listener) arriveHalfOpen(now time.Duration, r *halfOpen, s *Segment) (reply Segment, t *TCB, e Event) {
	if !r.answered() {
		return l.arriveHeld(r, s)
	}
	// The SYN again: the answer may have been lost. §3.10.7.4 would acknowledge a segment that is outside the window, which
	// helps no peer in SYN-SENT; the SYN-ACK says as much and more.
	if s.Seq == r.h.irs && s.Flags&(SYN|ACK|RST|FIN) == SYN {
		return r.repeatSYN(now, s), nil, DropDuplicate.event()
	}
	if reply, drop := l.refuse(now, r, s); drop != DropNone {
		return reply, nil, drop.event()
	}
	if s.Flags.Has(RST) {
		// "If this connection was initiated with a passive OPEN (i.e., came from the LISTEN state), then return this
		// connection to LISTEN state and return." (MUST-11)
		l.remove(r)
		return reply, nil, 0
	}
	if s.Ack != r.h.iss+1 {
		return l.wrongACK(now, r, s)
	}
	if t, e = l.complete(now, r.h, s, r.c); t != nil {
		l.remove(r)
	}
	return reply, t, e
}

// refuse makes the checks of §3.10.7.4 up to the ACK bit. A reset that it lets pass stands at RCV.NXT.
func (l *Listener) refuse(now time.Duration, r *halfOpen, s *Segment) (reply Segment, d Drop) {
	ts, rst := r.h.ts && !r.c.NoTimestamps, s.Flags.Has(RST)
	nxt := r.h.irs + 1
	switch {
	case ts && !rst && !s.Options.HasTimestamps:
		// RFC 7323 §3.2: "If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment."
		return reply, DropNoTimestamp
	case ts && !rst && int32(s.Options.TSVal-r.h.tsVal) < 0:
		return r.challenge(now), DropPAWS // RFC 7323 §5.3 R1
	case !overlaps(s, nxt, int(r.c.synWindow())):
		// "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless the RST bit is set, if
		// so drop the segment and return)"
		if rst {
			return reply, DropWindow
		}
		return r.challenge(now), DropWindow
	case rst && s.Seq != nxt:
		return r.challenge(now), DropRST // RFC 5961 §3.2
	case rst:
		return reply, DropNone
	case s.Flags.Has(SYN):
		// Where §3.10.7.4 returns to LISTEN at once, RFC 5961 §4.2's challenge asks the peer first: one that has begun anew
		// answers by the reset that does it, and a forged SYN ends nothing.
		return r.challenge(now), DropSYN
	case !s.Flags.Has(ACK):
		return reply, DropNoACK
	}
	return reply, DropNone
}

// wrongACK: "If the segment acknowledgment is not acceptable, form a reset segment <SEQ=SEG.ACK><CTL=RST> and send
// it." But a cookie may have answered an earlier SYN of the flow: then the peer goes by that one.
func (l *Listener) wrongACK(now time.Duration, r *halfOpen, s *Segment) (reply Segment, t *TCB, e Event) {
	if reply, t, e = l.arriveACK(now, &r.flow, s, r.c); reply.Flags != 0 {
		return reply, nil, DropSynReceivedACK.event()
	}
	if t != nil {
		l.remove(r)
	}
	return reply, t, e
}

// arriveHeld is SEGMENT ARRIVES while the SYN waits for its verdict: nothing was said, so the state is LISTEN.
func (l *Listener) arriveHeld(r *halfOpen, s *Segment) (reply Segment, t *TCB, e Event) {
	switch {
	case s.Flags.Has(RST):
		if s.Seq != r.h.irs+1 {
			return reply, nil, DropRST.event()
		}
		l.remove(r) // the peer has given up
		return reply, nil, 0
	case s.Flags.Has(ACK):
		reply, _ = ResetFor(s)
		return reply, nil, DropListenACK.event()
	case !s.Flags.Has(SYN) || s.Flags.Has(FIN):
		return reply, nil, DropFlags.event()
	case r.rejected:
		return reply, nil, DropRefused.event()
	}
	r.h.read(s) // the newest SYN is the one that the peer waits for an answer to
	return reply, nil, DropDuplicate.event()
}

// answer sends the SYN-ACK, first or again, and starts the timer.
func (l *Listener) answer(now time.Duration, r *halfOpen) Segment {
	reply := r.h.synAck(now, r.c)
	if r.retries == 0 {
		r.h.sentAt = max(now, 1)
	} else {
		r.h.sentAt = 0 // RFC 6298 §3, Karn: no sample from a segment that was sent twice
		reply.Cause = CauseRTO
	}
	// RFC 6298 §5.5: "The host MUST set RTO <- RTO * 2 ("back off the timer")."
	r.deadline = now + synAckRTO<<r.retries
	l.move(r, r.retries)
	return reply
}

// limited reports whether r has to be silent, and notes that it speaks where not.
func (r *halfOpen) limited(now time.Duration) bool {
	if r.repeated != 0 && now-r.repeated < repeatInterval {
		return true
	}
	r.repeated = max(now, 1)
	return false
}

// repeatSYN sends the SYN-ACK again because the SYN came again. The timer runs on.
func (r *halfOpen) repeatSYN(now time.Duration, s *Segment) (reply Segment) {
	if s.Options.HasTimestamps && int32(s.Options.TSVal-r.h.tsVal) > 0 {
		r.h.tsVal = s.Options.TSVal // RFC 7323 §4.3 (2)
	}
	// RFC 3168 §6.1.1.1: a peer that had no answer to an ECN-setup SYN may ask again without.
	r.h.ecn = r.h.ecn && setupECN(s)
	if r.limited(now) {
		return reply
	}
	r.h.sentAt = 0
	return r.h.synAck(now, r.c)
}

// challenge is <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>, or silence.
func (r *halfOpen) challenge(now time.Duration) (reply Segment) {
	if r.limited(now) {
		return reply
	}
	sa := r.h.synAck(now, r.c)
	reply = Segment{Seq: r.h.iss + 1, Ack: r.h.irs + 1, Flags: ACK, Window: sa.Window, Cause: CauseChallenge}
	if sa.Options.HasScale {
		reply.Window >>= sa.Options.WindowScale
	}
	if sa.Options.HasTimestamps {
		reply.Options = Options{HasTimestamps: true, TSVal: sa.Options.TSVal, TSEcr: sa.Options.TSEcr}
	}
	return reply
}

// overlaps is the test of RFC 9293 §3.10.7.4, Table 6, for a window of wnd octets from nxt.
func overlaps(s *Segment, nxt Seq, wnd int) bool {
	n, end := s.Len(), nxt+Seq(wnd)
	switch {
	case n == 0 && wnd == 0:
		return s.Seq == nxt
	case n == 0:
		return s.Seq.In(nxt, end)
	}
	return s.Seq.In(nxt, end) || (s.Seq+Seq(n)-1).In(nxt, end)
}
