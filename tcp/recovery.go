package tcp

import "time"

// This file is loss recovery without SACK (sack.go is that with it): RFC 5681 §3.2 and RFC 6582. What is lost is [rtx, lost), which Next sends again; what
// duplicate acknowledgements say has left the network is inflated, by which the congestion window is let exceeded.

// dupThresh: RFC 5681 §3.2, "after receiving 3 duplicate ACKs".
const dupThresh = 3

// duplicate looks at an acknowledgement of nothing new.
func (t *TCB) duplicate(now time.Duration, a *arrival) {
	if t.cc == nil || t.snd.una == t.snd.nxt || !t.isDuplicate(a) {
		return
	}
	mss, flight := t.textMSS(), t.snd.nxt.From(t.snd.una)
	t.snd.dups = min(t.snd.dups, 254) + 1
	switch {
	case t.snd.recovering:
		// RFC 5681 §3.2 step 4: "For each additional duplicate ACK received […], cwnd MUST be incremented by SMSS."
		// It departs from that in a bound: the duplicates that the flight at the loss can make are worth twice what the
		// window is now, about. What is more was made up, or it is text that the next window may send.
		if n := t.snd.inflated + int32(mss); int(n) <= 2*t.cc.Window() {
			t.snd.inflated = n
		}
	case t.snd.dups < dupThresh:
		// RFC 3042 §2: "The amount of outstanding data would remain less than or equal to the congestion window plus 2
		// segments"
		t.snd.inflated = int32(t.snd.dups) * int32(mss)
	case t.snd.dups == dupThresh && t.snd.recover.Less(t.snd.una):
		// RFC 5681 §3.2: "additional data sent in limited transmit MUST NOT be included in this calculation".
		limited := min(int(t.snd.inflated), max(flight-t.cc.Window(), 0))
		if !t.hasReduced() {
			t.cc.Loss(now, Sample{Lost: min(mss, flight), InFlight: max(flight-limited, mss)})
			t.tellReduced()
		}
		t.snd.recover, t.snd.recovering = t.snd.nxt, true
		t.snd.inflated = dupThresh * int32(mss)
		t.loseFirst()
	}
}

// isDuplicate is the definition of RFC 5681 §2: nothing new, no text, no FIN, and the window as it was.
func (t *TCB) isDuplicate(a *arrival) bool {
	return a.len == 0 && a.Flags&(SYN|FIN) == 0 && a.wnd == t.snd.wnd
}

// loseFirst marks the first segment that is outstanding as lost.
func (t *TCB) loseFirst() {
	t.snd.rtx = t.snd.una
	t.snd.lost = minSeq(t.snd.una+Seq(t.textMSS()), t.snd.nxt)
	t.snd.cause = CauseFast
	t.snd.timing = false // RFC 6298 §3 (Karn): what is sent twice is not measured
}

// recover tells congestion control of an acknowledgement of text octets, and goes on with a recovery or ends it.
func (t *TCB) recover(now time.Duration, text int, s Sample) {
	t.snd.dups = 0
	switch {
	case t.cc == nil:
	case !t.snd.recovering:
		t.snd.inflated = 0
		if !s.CE {
			t.cc.Acked(now, s)
		}
		if t.snd.recover.Less(t.snd.una) {
			t.snd.recover = t.snd.una - 1 // it stays within 2³¹ of SND.UNA
		}
	case t.snd.recover.LessEq(t.snd.una):
		t.snd.inflated, t.snd.recovering = 0, false
		t.cc.Recovered(now)
	default:
		// RFC 6582 §3.2 step 3: "If this ACK does *not* acknowledge all of the data up to and including recover, then
		// this is a partial ACK. In this case, retransmit the first unacknowledged segment. Deflate the congestion
		// window by the amount of new data acknowledged […]. If the partial ACK acknowledges at least one SMSS of new
		// data, then add back SMSS bytes to the congestion window."
		back := 0
		if mss := t.textMSS(); text >= mss {
			back = mss
		}
		t.snd.inflated = max(t.snd.inflated-int32(text)+int32(back), 0)
		t.loseFirst()
	}
}

// loseAll marks everything outstanding as lost, so that it is sent again as the congestion window allows.
func (t *TCB) loseAll(now time.Duration, why Cause) {
	t.snd.rtx, t.snd.lost, t.snd.cause = t.snd.una, t.snd.nxt, why
	if t.board != nil {
		t.board.loseAll(now, now, false, nil)
		t.snd.lost = maxSeq(t.snd.una, t.snd.iss+1) // only a SYN is not on the scoreboard
	}
	t.snd.inflated, t.snd.dups = 0, 0
	t.snd.timing = false
}

// rto is the retransmission timeout with its back-off.
func (t *TCB) rto() time.Duration {
	d := t.rtt.rto(orDefault(t.c.MinRTO, defaultMinRTO))
	if t.snd.synAgain && t.rtt.srtt == 0 && t.snd.una != t.snd.iss {
		// RFC 6298 §5.7: "If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an
		// RTO less than 3 seconds, the RTO MUST be re-initialized to 3 seconds when data transmission begins"
		d = 3 * time.Second
	}
	return backedOff(d, t.snd.backoff)
}

// backedOff is d doubled n times, at most maxRTO (RFC 6298 §5.5).
func backedOff(d time.Duration, n uint8) time.Duration {
	if d <= 0 || n > 30 || d > maxRTO>>n {
		return maxRTO
	}
	return d << n
}

// defaultMinRTO is Linux's TCP_RTO_MIN (RFC 6298 §2.4 says 1 s).
const defaultMinRTO = 200 * time.Millisecond
