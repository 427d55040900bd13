package tcp

import "time"

// TimeWaitRecord stands for a connection in TIME-WAIT of which the user wants nothing more (RFC 9293 §3.3.2): 40
// octets instead of a TCB. TCB.TimeWaitRecord makes it. It is dropped at its Deadline.
type TimeWaitRecord struct {
	expires            time.Duration
	sndNxt, rcvNxt     Seq
	tsRecent, tsOffset uint32 // RFC 7323 §4.3 and §5.4; meaningful where hasTS
	wait               uint32 // 2 MSL, in ms
	repeated           uint32 // when a suspicious segment was answered last, in ms; 0: never
	window             uint16 // as it stood on the wire last
	scale              uint8  // of window
	hasTS              bool
}

// WaitVerdict is what a segment that arrives means for a TimeWaitRecord.
type WaitVerdict uint8

// The verdicts.
const (
	Stay   WaitVerdict = iota // it waits on; Deadline may be later than before
	Gone                      // it is CLOSED: the caller drops the record
	Reopen                    // a new connection begins: the caller drops the record and hands the SYN to Listener.Reopen
)

// Arrive is SEGMENT ARRIVES in TIME-WAIT (RFC 9293 §3.10.7.4). There is a reply to send where reply.Flags is not 0.
func (w *TimeWaitRecord) Arrive(now time.Duration, s *Segment) (reply Segment, v WaitVerdict) {
	switch {
	case s.Flags.Has(RST):
		return w.arriveRST(now, s)
	case s.Flags.Has(SYN):
		if s.Flags&(ACK|FIN) == 0 && w.reopens(s) {
			return reply, Reopen
		}
		// RFC 6191 §2 drops any other SYN in silence. RFC 5961 §4.2's challenge lets a peer that lost its memory reset us.
		return w.challenge(now), Stay
	case w.hasTS && !s.Options.HasTimestamps:
		return reply, Stay // RFC 7323 §3.2
	case w.old(s):
		return w.challenge(now), Stay // RFC 7323 §5.3 R1
	case !s.Flags.Has(ACK):
		return reply, Stay
	}
	return w.arriveACK(now, s)
}

// arriveACK takes what is left once RST, SYN and old timestamps are.
func (w *TimeWaitRecord) arriveACK(now time.Duration, s *Segment) (reply Segment, v WaitVerdict) {
	switch {
	case w.sndNxt.Less(s.Ack):
		return w.challenge(now), Stay
	case s.Flags.Has(FIN) && s.End() == w.rcvNxt:
		// "The only thing that can arrive in this state is a retransmission of the remote FIN. Acknowledge it, and restart
		// the 2 MSL timeout."
		w.note(s)
		w.expires = now + time.Duration(w.wait)*time.Millisecond
		return w.ack(now, CauseAck), Stay
	case s.Len() > 0 && !s.Flags.Has(FIN) && s.End().LessEq(w.rcvNxt):
		return w.ack(now, CauseAck), Stay // text again: the peer has not got our acknowledgement
	case s.Seq == w.rcvNxt && s.Len() == 0:
		w.note(s)
		return reply, Stay
	}
	return w.challenge(now), Stay
}

// arriveRST: "If the RST bit is set, then enter the CLOSED state, delete the TCB, and return." RFC 1337 §4 would
// ignore resets here, so that no old duplicate ends TIME-WAIT early (its hazards); as Linux does by default, we rather
// obey the one that stands exactly at RCV.NXT, which RFC 5961 §3.2 leaves as the only one that counts.
func (w *TimeWaitRecord) arriveRST(now time.Duration, s *Segment) (reply Segment, v WaitVerdict) {
	switch {
	case s.Seq == w.rcvNxt:
		return reply, Gone
	case s.Seq.In(w.rcvNxt, w.rcvNxt+Seq(w.window)<<w.scale):
		return w.challenge(now), Stay
	}
	return reply, Stay
}

// reopens is the decision of RFC 6191 §2 about a SYN.
func (w *TimeWaitRecord) reopens(s *Segment) bool {
	later := w.rcvNxt.LessEq(s.Seq) // the FIN's sequence number, the last one seen, is RCV.NXT-1
	if !s.Options.HasTimestamps {
		return later
	}
	if !w.hasTS {
		return true
	}
	d := int32(s.Options.TSVal - w.tsRecent)
	return d > 0 || d == 0 && later
}

// MinISS is the smallest ISS of a connection that follows: MAY-2 of RFC 9293 §3.6.1. The distance is a full window
// without a scale, as on Linux, since what we sent may still be under way. RFC 9293 also has the connection return to
// TIME-WAIT if the SYN was an old duplicate; we do not, as the rules of RFC 6191 let no old duplicate reopen it.
func (w *TimeWaitRecord) MinISS() Seq { return w.sndNxt + 1<<16 }

// reuseAfter is how long a connection stands in TIME-WAIT before our own side may open it anew, as Linux's tcp_tw_reuse.
const reuseAfter = time.Second

// Reusable reports whether an active OPEN may take the flow before TIME-WAIT ends. RFC 6191 allows it to a SYN that comes
// from the peer; for our own SYN the same holds, since with timestamps no segment of the old connection is taken for one
// of the new (RFC 7323 §5). Its ISS is no smaller than MinISS.
func (w *TimeWaitRecord) Reusable(now time.Duration) bool {
	entered := w.expires - time.Duration(w.wait)*time.Millisecond
	return w.hasTS && now-entered >= reuseAfter
}

// Deadline is when TIME-WAIT ends.
func (w *TimeWaitRecord) Deadline() time.Duration { return w.expires }

func (w *TimeWaitRecord) old(s *Segment) bool {
	return w.hasTS && int32(s.Options.TSVal-w.tsRecent) < 0
}

// note keeps the peer's newest timestamp, for RFC 6191.
func (w *TimeWaitRecord) note(s *Segment) {
	if w.hasTS {
		w.tsRecent = s.Options.TSVal
	}
}

// ack is <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>.
func (w *TimeWaitRecord) ack(now time.Duration, c Cause) Segment {
	a := Segment{Seq: w.sndNxt, Ack: w.rcvNxt, Flags: ACK, Window: w.window, Cause: c}
	if w.hasTS {
		a.Options = Options{HasTimestamps: true, TSVal: ticks(now) + w.tsOffset, TSEcr: w.tsRecent}
	}
	return a
}

// challenge is ack, or silence where the last one was less than repeatInterval ago (RFC 5961 §7).
func (w *TimeWaitRecord) challenge(now time.Duration) (reply Segment) {
	ms := ticks(now)
	if w.repeated != 0 && ms-w.repeated < uint32(repeatInterval/time.Millisecond) {
		return reply
	}
	w.repeated = max(ms, 1)
	return w.ack(now, CauseChallenge)
}
