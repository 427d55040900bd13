package tcp

import "time"

// hystart is HyStart++, RFC 9406: slow start ends where the round trip grows, before the queue overflows. Rounds are
// counted in octets: one ends when as much was acknowledged as the window held when it began.
type hystart struct {
	done         bool // RFC 9406 §4.3: only the first slow start of a connection is watched
	conservative bool // in Conservative Slow Start
	samples      uint8
	rounds       uint8         // rounds spent in it
	left         int32         // octets until the round ends
	last, now    time.Duration // the least RTT of the last round and of this one; 0: none
	baseline     time.Duration // the RTT for which conservative slow start was entered
}

// The constants of RFC 9406 §4.3.
const (
	hystartMinThresh  = 4 * time.Millisecond
	hystartMaxThresh  = 16 * time.Millisecond
	hystartDivisor    = 8
	hystartSamples    = 8
	cssGrowthDivisor  = 4
	cssRounds         = 5
	hystartLeastRound = 1 // octets
)

// acked takes an acknowledgement of n octets in slow start, and reports whether slow start is over.
func (h *hystart) acked(q *cubic, n int32, s Sample) bool {
	if h.done || q.ssthresh != 0 {
		return false
	}
	if h.left <= 0 { // a new round
		h.last, h.now, h.samples = h.now, 0, 0
		h.left = max(int32(min(s.InFlight, maxCwnd)), hystartLeastRound)
		if h.conservative {
			// RFC 9406 §4.2: after CSS_ROUNDS rounds, congestion avoidance begins with ssthresh = cwnd.
			if h.rounds++; h.rounds > cssRounds {
				h.done = true
				return true
			}
		}
	}
	h.left -= n
	if s.RTT > 0 {
		h.samples = min(h.samples, 254) + 1
		if h.now == 0 || s.RTT < h.now {
			h.now = s.RTT
		}
	}
	if h.samples < hystartSamples || h.now == 0 || h.last == 0 {
		return false
	}
	if h.conservative {
		// RFC 9406 §4.2: where currentRoundMinRTT falls below cssBaselineMinRtt, the delay was no queue: slow start again.
		if h.now < h.baseline {
			h.conservative, h.rounds = false, 0
		}
		return false
	}
	// RFC 9406 §4.2: RttThresh = max(MIN_RTT_THRESH, min(lastRoundMinRTT / MIN_RTT_DIVISOR, MAX_RTT_THRESH))
	if h.now >= h.last+max(hystartMinThresh, min(h.last/hystartDivisor, hystartMaxThresh)) {
		h.conservative, h.baseline, h.rounds = true, h.now, 0
	}
	return false
}
