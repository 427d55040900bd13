package tcp

import "time"

// reno is the congestion control of RFC 5681, to which the connection's recovery adds RFC 6582 or RFC 6675. It counts
// octets (RFC 3465).
type reno struct {
	mss, cwnd int32
	ssthresh  int32 // 0: none yet, which is arbitrarily high (RFC 5681 §3.1)
	acked     int32 // octets acknowledged in congestion avoidance since the window grew
	priorCwnd int32 // the window before the last reduction; 0: nothing to undo
	priorSS   int32 // and its threshold
	timedOut  bool  // the timer expired, and nothing was acknowledged since
	afterRTO  bool  // in the slow start that follows a timeout
	valid     validity
}

// maxCwnd is the largest window that a peer can announce: 65535 shifted by 14 (RFC 7323 §2.3).
const maxCwnd = 65535 << maxWindowScale

// NewReno makes the congestion control of RFC 5681 for an effective send MSS in octets.
func NewReno(mss int) Congestion {
	r := &reno{mss: clampMSS(mss)}
	r.cwnd = initialWindow(r.mss)
	return r
}

// clampMSS keeps the arithmetic in range: a packet has at most 65535 octets.
func clampMSS(mss int) int32 { return int32(min(max(mss, 1), 65535)) }

// initialWindow is that for an MSS. RFC 6928 §2: "min (10*MSS, max (2*MSS, 14600))"
func initialWindow(mss int32) int32 { return min(10*mss, max(2*mss, 14600)) }

// Acked grows the window: by what was acknowledged in slow start, by one MSS a window afterwards.
func (r *reno) Acked(now time.Duration, s Sample) {
	r.timedOut = false
	if !s.limited(r.cwnd) {
		r.valid.unused(now, r.mss, &r.cwnd, &r.ssthresh)
		return
	}
	r.valid.since = 0
	n := int32(min(s.Acked, maxCwnd))
	if r.slowStart() {
		r.cwnd += min(n, slowLimit(r.cwnd, r.mss, r.afterRTO))
		if !r.slowStart() {
			r.cwnd, r.afterRTO = max(r.ssthresh, r.mss), false
		}
	} else {
		whole := max(r.cwnd-r.cwnd%r.mss, 1)
		// RFC 5681 §3.1: cwnd grows by no more than SMSS for a whole window of acknowledged octets. Of a window that a
		// reduction has left with half a segment, whole segments are in flight.
		if r.acked += min(n, whole); r.acked >= whole {
			r.acked -= whole
			r.cwnd += r.mss
		}
	}
	r.cwnd = min(r.cwnd, maxCwnd)
}

func (r *reno) slowStart() bool { return r.ssthresh == 0 || r.cwnd < r.ssthresh }

// slowLimit is what one acknowledgement may add in slow start: L of RFC 3465 §2.2, which has 2·SMSS, and 1·SMSS after a
// timeout. It departs from both, as they were written for one acknowledgement in two segments, and here one
// acknowledgement answers a super-segment: with 2·SMSS a window of 40 segments would grow by a twentieth a round trip.
// So L is a super-segment, which leaves in one piece anyway; and after a timeout, when one acknowledgement may cover
// what left the network long ago, it is the window: no acknowledgement does more than double it, the first adds 1·SMSS.
func slowLimit(cwnd, mss int32, afterRTO bool) int32 {
	if afterRTO {
		return cwnd
	}
	return max(2*mss, LargeChunk)
}

// reduce sets the slow-start threshold for what was in flight, and keeps what Undo needs.
func (r *reno) reduce(s Sample) {
	r.priorCwnd, r.priorSS = r.cwnd, r.ssthresh
	// RFC 5681 §3.1, equation 4: "ssthresh = max (FlightSize / 2, 2*SMSS)"; RFC 8511 §3.1 keeps 0.8 where a mark came in
	// congestion avoidance.
	flight := int32(min(s.InFlight, maxCwnd))
	if s.CE && !r.slowStart() {
		r.ssthresh = max(flight/5*4, 2*r.mss)
	} else {
		r.ssthresh = max(flight/2, 2*r.mss)
	}
	r.acked = 0
}

// Loss halves what is in flight. The inflation of RFC 5681 §3.2 step 3 is not here: the sender knows what has left
// the network and counts that (RFC 6675 §4).
func (r *reno) Loss(_ time.Duration, s Sample) {
	r.reduce(s)
	r.cwnd, r.afterRTO = r.ssthresh, false
}

// Recovered ends a recovery: the window stays what Loss made it (RFC 6582 §3.2 step 3, option 2), or what slow start
// made of it after a timeout.
func (r *reno) Recovered(time.Duration) { r.timedOut = false }

// Timeout begins again with the loss window.
func (r *reno) Timeout(_ time.Duration, s Sample) {
	// RFC 5681 §3.1: when the segment was already sent again by the timer, "the value of ssthresh is held constant".
	if !r.timedOut {
		r.reduce(s)
	}
	r.cwnd, r.timedOut, r.afterRTO = r.mss, true, true
}

// Undo takes the last reduction back, once.
func (r *reno) Undo(time.Duration) {
	if r.priorCwnd == 0 {
		return
	}
	r.cwnd, r.ssthresh = max(r.cwnd, r.priorCwnd), r.priorSS
	r.priorCwnd, r.timedOut, r.afterRTO = 0, false, false
}

// Idle falls back to the restart window. RFC 5681 §4.1: "RW = min(IW,cwnd)"
func (r *reno) Idle(time.Duration) { r.cwnd = min(r.cwnd, initialWindow(r.mss)) }

// SetMSS takes another segment size over. RFC 5681 §3.1: "cwnd SHOULD be reduced by the ratio of the old segment size
// to the new segment size."
func (r *reno) SetMSS(mss int) {
	m := clampMSS(mss)
	if m < r.mss {
		r.cwnd = int32(int64(r.cwnd) * int64(m) / int64(r.mss))
	}
	r.mss = m
	r.cwnd = max(r.cwnd, m)
}

func (r *reno) Window() int   { return int(r.cwnd) }
func (r *reno) Ssthresh() int { return int(r.ssthresh) }
func (r *reno) Pacing() int64 { return 0 }
func (r *reno) Name() string  { return "reno" }
func (r *reno) State() string { return phase(r.slowStart()) }
