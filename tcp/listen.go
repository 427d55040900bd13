package tcp

import (
	"iter"
	"time"
)

// ListenConfig is what a Listener is made with.
type ListenConfig struct {
	// Backlog is how many half-open connections are kept, at some 200 octets each, before SYN cookies take over.
	// 0 means 4096, as Linux has it on a host with memory; fewer than 0 means cookies alone.
	Backlog int
	// Secret keys the cookies. It is random, and stays the same as long as cookies are to hold.
	Secret [32]byte
	// ISS chooses our initial sequence number (RFC 6528 §3) and the offset of our timestamp clock (RFC 7323 §5.4) for a
	// flow. The offset depends on the flow alone: behind a cookie it is asked for a second time. f is valid until return.
	// Nil means zeros, which only a test wants.
	ISS func(now time.Duration, f *Flow) (iss Seq, tsOffset uint32)
	// Hold makes each SYN wait for Decide before it is answered. Cookies are not used then: beyond Backlog, SYNs drop.
	Hold bool
	// FastOpen takes SYNs with text and a cookie of ours, and gives such cookies out (RFC 7413). It is off where Hold is set.
	FastOpen bool
}

// Verdict is what a user decides about a held SYN.
type Verdict uint8

// The verdicts.
const (
	VerdictAccept Verdict = iota // answer it with a SYN-ACK
	VerdictReject                // answer it with a reset
	VerdictIgnore                // answer nothing; the peer's next SYN is held again
)

// The retransmission of SYN-ACKs.
const (
	// synAckRTO: RFC 6298 §2.1, "Until a round-trip time (RTT) measurement has been made for a segment sent between the
	// sender and receiver, the sender SHOULD set RTO <- 1 second".
	synAckRTO = time.Second
	// synAckRetries is Linux's tcp_synack_retries: the last wait ends 63 s after the first SYN-ACK.
	synAckRetries = 5
	// heldTimeout is how long a SYN waits for its verdict: as long as an answered one waits for its acknowledgement.
	heldTimeout = synAckRTO<<(synAckRetries+1) - synAckRTO
	// repeatInterval bounds how often one half-open connection repeats its SYN-ACK or a challenge ACK because of what
	// arrives (RFC 5961 §7); it is Linux's tcp_invalid_ratelimit.
	repeatInterval = 500 * time.Millisecond

	defaultBacklog = 4096
)

// Listener is a connection in LISTEN, with the connections in SYN-RECEIVED that came out of it. It has no lock, clock
// or I/O. A flood of SYNs takes no more than Backlog records: beyond them a SYN is answered with a cookie and
// forgotten (RFC 4987 §3.6).
type Listener struct {
	c            ListenConfig
	full         bool
	fastFull     bool          // SetFastFull
	cookiesUntil time.Duration // until then a cookie that was handed out may come back
	halfOpen     map[Flow]*halfOpen
	queues       [numQueues]queue
	floor        Seq  // the new ISS comes no sooner, where hasFloor
	hasFloor     bool // during Reopen
	flow         Flow // what ISS is shown, so that no caller's Flow escapes to the heap
}

// NewListener makes a Listener.
func NewListener(c ListenConfig) *Listener {
	if c.Backlog == 0 {
		c.Backlog = defaultBacklog
	}
	return &Listener{c: c, halfOpen: make(map[Flow]*halfOpen)}
}

// Arrive is SEGMENT ARRIVES for a flow that has no TCB: RFC 9293 §3.10.7.2, and §3.10.7.4 for a flow in SYN-RECEIVED.
// The connection will be made with c, which the Listener keeps. There is a reply to send where reply.Flags is not 0.
// Where t is not nil the handshake is complete: t has taken this very segment with the event e, is past SYN-RECEIVED,
// and belongs to the caller, who calls t.Next at once. With FastOpen t may also be in SYN-RECEIVED: then s is a SYN whose cookie
// holds, and t has its text.
func (l *Listener) Arrive(now time.Duration, f *Flow, s *Segment, c *Config) (reply Segment, t *TCB, e Event) {
	if r := l.halfOpen[*f]; r != nil {
		return l.arriveHalfOpen(now, r, s)
	}
	// First, check for a RST: "An incoming RST segment could not be valid since it could not have been sent in response to
	// anything sent by this incarnation of the connection."
	if s.Flags.Has(RST) {
		return reply, nil, DropListenRST.event()
	}
	// Second, check for an ACK: "Any acknowledgment is bad if it arrives on a connection still in the LISTEN state."
	if s.Flags.Has(ACK) {
		return l.arriveACK(now, f, s, c)
	}
	// Third, check for a SYN. RFC 9293 would queue the FIN of a SYN+FIN; as other stacks do, we drop it: nobody sends one
	// but scanners.
	if !s.Flags.Has(SYN) || s.Flags.Has(FIN) {
		return reply, nil, DropFlags.event()
	}
	return l.arriveSYN(now, f, s, c)
}

// arriveACK takes an acknowledgement of nothing that we remember: it may answer a cookie.
func (l *Listener) arriveACK(now time.Duration, f *Flow, s *Segment, c *Config) (reply Segment, t *TCB, e Event) {
	drop := DropListenACK
	if !s.Flags.Has(SYN) && now < l.cookiesUntil { // no cookie is looked for where none was handed out
		if h, ok := l.openCookie(now, f, s, c); ok {
			t, e = l.complete(now, h, s, c)
			return reply, t, e
		}
		drop = DropCookie
	}
	reply, _ = ResetFor(s)
	return reply, nil, drop.event()
}

// arriveSYN begins a handshake. Without Fast Open, text behind the SYN is not kept: the peer sends it again, since the SYN-ACK does not
// acknowledge it (RFC 9293 §3.10.7.2 would queue it).
func (l *Listener) arriveSYN(now time.Duration, f *Flow, s *Segment, c *Config) (reply Segment, t *TCB, e Event) {
	room := len(l.halfOpen) < l.c.Backlog
	if l.full || l.c.Hold && !room {
		return reply, nil, DropBacklog.event()
	}
	if !room {
		return l.cookie(now, f, s, c), nil, 0
	}
	var offer FastOpenCookie
	if s.Options.HasFastOpen && l.c.FastOpen && !l.c.Hold {
		if t, offer = l.arriveFast(now, f, s, c); t != nil {
			if t.Buffered() > 0 {
				e = Readable
			}
			return reply, t, e
		}
	}
	r := &halfOpen{flow: *f, c: c, queue: queueReady}
	r.h.read(s)
	r.h.iss, r.h.tsOffset = l.iss(now, f)
	if l.c.Hold {
		r.deadline, r.queue = now+heldTimeout, queueHeld
		l.add(r)
		return reply, nil, DropHeld.event()
	}
	l.add(r)
	reply = l.answer(now, r)
	reply.Options.HasFastOpen, reply.Options.Cookie = offer.n > 0, offer
	return reply, nil, 0
}

// complete makes the connection whose handshake s completes. t is nil where the accept queue is full, which passes,
// or where a check of the connection itself refused s.
func (l *Listener) complete(now time.Duration, h handshake, s *Segment, c *Config) (t *TCB, e Event) {
	if l.full {
		return nil, DropBacklog.event()
	}
	t = restore(now, &h, c)
	e = t.Arrive(now, s)
	if t.State() <= SynReceived {
		return nil, e &^ (Opened | Ended)
	}
	return t, e
}

func (l *Listener) iss(now time.Duration, f *Flow) (iss Seq, tsOffset uint32) {
	if l.c.ISS != nil {
		l.flow = *f
		iss, tsOffset = l.c.ISS(now, &l.flow)
	}
	if l.hasFloor && iss.Less(l.floor) {
		iss = l.floor
	}
	return iss, tsOffset
}

// Reopen is Arrive for a SYN that follows a connection in TIME-WAIT (RFC 6191). RFC 9293 §3.6.1, MAY-2, asks that the
// listener "assigns its initial sequence number for the new connection to be larger than the largest sequence number
// it used on the previous connection incarnation": no ISS comes before floor, which is TimeWaitRecord.MinISS.
func (l *Listener) Reopen(now time.Duration, f *Flow, s *Segment, c *Config, floor Seq) (reply Segment, t *TCB, e Event) {
	l.floor, l.hasFloor = floor, true
	reply, t, e = l.Arrive(now, f, s, c)
	l.hasFloor = false
	return reply, t, e
}

// SetFull tells whether there is room for one more completed connection. While there is none, the last
// acknowledgement of a handshake is ignored, so that the SYN-ACK is sent again later, and SYNs are dropped.
func (l *Listener) SetFull(full bool) { l.full = full }

// Decide gives the verdict about a held SYN. The answer then comes out of Next. It reports whether the SYN was held.
func (l *Listener) Decide(now time.Duration, f *Flow, v Verdict) bool {
	r := l.halfOpen[*f]
	if r == nil || r.queue != queueHeld {
		return false
	}
	if v == VerdictIgnore {
		l.remove(r)
		return true
	}
	r.rejected = v == VerdictReject
	l.move(r, queueReady)
	return true
}

// Notify takes an ICMP error that quotes a SYN-ACK with sequence number at. An error other than TooBig ends the
// half-open connection, if at is what we sent: RFC 5927 §4.1's check.
func (l *Listener) Notify(f *Flow, at Seq, n Notice) Event {
	r := l.halfOpen[*f]
	if r == nil || !r.answered() || at != r.h.iss {
		return DropNotice.event()
	}
	if n.Reason != TooBig {
		l.remove(r)
	}
	return 0
}

// Drop forgets a half-open connection.
func (l *Listener) Drop(f *Flow) {
	if r := l.halfOpen[*f]; r != nil {
		l.remove(r)
	}
}

// Next fills s with the next SYN-ACK or reset that is due on its own account, for flow f; ok is false when there is
// none. It is called after Decide and Expire until it answers false.
func (l *Listener) Next(now time.Duration, s *Segment) (f Flow, ok bool) {
	r := l.queues[queueReady].head
	if r == nil {
		return f, false
	}
	text := s.Text[:0]
	if r.rejected {
		// RFC 9293 §3.10.7.1: "<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>"
		*s = Segment{Ack: r.h.irs + 1, Flags: RST | ACK, Cause: CauseReset}
		l.remove(r)
	} else {
		*s = l.answer(now, r)
	}
	s.Text = text
	return r.flow, true
}

// Expire finds out which SYN-ACKs are to be sent again, for Next to send them, and which connections are given up.
func (l *Listener) Expire(now time.Duration) {
	for i := range queueReady {
		for r := l.queues[i].head; r != nil && r.deadline <= now; r = l.queues[i].head {
			if i == queueHeld || i == synAckRetries {
				l.remove(r)
				continue
			}
			r.retries++
			l.move(r, queueReady)
		}
	}
}

// Deadline is when to call Expire; ok is false where nothing waits.
func (l *Listener) Deadline() (at time.Duration, ok bool) {
	for i := range queueReady {
		if r := l.queues[i].head; r != nil && (!ok || r.deadline < at) {
			at, ok = r.deadline, true
		}
	}
	return at, ok
}

// Has reports whether the flow is half open, or its SYN held.
func (l *Listener) Has(f *Flow) bool { return l.halfOpen[*f] != nil }

// Len is the number of half-open connections, held ones included.
func (l *Listener) Len() int { return len(l.halfOpen) }

// All yields the half-open connections: in SYN-RECEIVED, or in LISTEN while the SYN is held. The Listener is not
// changed meanwhile.
func (l *Listener) All() iter.Seq2[Flow, State] {
	return func(yield func(Flow, State) bool) {
		for i := range l.queues {
			for r := l.queues[i].head; r != nil; r = r.next {
				state := SynReceived
				if !r.answered() {
					state = Listen
				}
				if !yield(r.flow, state) {
					return
				}
			}
		}
	}
}
