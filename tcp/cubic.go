package tcp

import (
	"math"
	"time"
)

// cubic is the congestion control of RFC 9438, with HyStart++ (RFC 9406) in slow start. Windows are octets; the cubic
// itself is reckoned in segments and seconds, as the RFC has it.
type cubic struct {
	mss, cwnd int32
	ssthresh  int32   // 0: none yet, which is arbitrarily high
	timedOut  bool    // the timer expired, and nothing was acknowledged since
	afterRTO  bool    // in the slow start that follows a timeout
	growing   bool    // the epoch has begun
	before    int32   // cwnd_prior: octets at the last reduction; 0: there was none
	wMax      float64 // W_max: that, or less of it for fast convergence
	wEst      float64 // W_est: what Reno would have, in octets
	origin    float64 // W_max as it is used in this epoch, in octets
	carry     float64 // octets that the window is due, less than one
	k         time.Duration
	epoch     time.Duration // when congestion avoidance began, less the times when the sender had nothing to send
	ackedAt   time.Duration // the last acknowledgement that was looked at
	prior     *cubicPrior   // what Undo goes back to; nil: nothing
	hystart   hystart
	valid     validity
}

// cubicPrior is the state before the last reduction (RFC 9438 §4.9).
type cubicPrior struct {
	cwnd, ssthresh int32
	before         int32
	wMax, wEst     float64
	origin         float64
	k, epoch       time.Duration
	growing        bool
}

const (
	// cubicC and cubicBeta: RFC 9438 §4.1, C and β_cubic, with their values of §5.1 and §4.6.
	cubicC    = 0.4
	cubicBeta = 0.7
	// cubicMarked is β_cubic where a mark came in congestion avoidance: RFC 8511 §3.1, as the queue is a short one then.
	cubicMarked = 0.85
	// cubicAlpha: RFC 9438 §4.3: 3 * (1 - β_cubic) / (1 + β_cubic) makes W_est as aggressive as Reno.
	cubicAlpha = 3 * (1 - cubicBeta) / (1 + cubicBeta)
)

// NewCubic makes the congestion control of RFC 9438 for an effective send MSS in octets.
func NewCubic(mss int) Congestion {
	q := &cubic{mss: clampMSS(mss)}
	q.cwnd = initialWindow(q.mss)
	return q
}

// Acked grows the window.
func (q *cubic) Acked(now time.Duration, s Sample) {
	q.timedOut = false
	n := int32(min(s.Acked, maxCwnd))
	since := now - q.ackedAt
	q.ackedAt = now
	limited := s.limited(q.cwnd)
	if limited {
		q.valid.since = 0
	} else {
		q.valid.unused(now, q.mss, &q.cwnd, &q.ssthresh)
	}
	if q.slowStart() {
		q.slow(now, n, s, limited)
		return
	}
	if !limited {
		// RFC 9438 §5.8: time in which the sender was limited by the application is no part of the epoch: the window
		// would else jump afterwards.
		if q.growing {
			q.epoch += since
		}
		return
	}
	q.avoid(now, n, s.RTT)
}

func (q *cubic) slowStart() bool { return q.ssthresh == 0 || q.cwnd < q.ssthresh }

// slow is slow start; limited says that the window is used.
func (q *cubic) slow(now time.Duration, n int32, s Sample, limited bool) {
	done := q.hystart.acked(now, q, n, s, limited)
	if !limited {
		return
	}
	grow := min(n, slowLimit(q.cwnd, q.mss, q.afterRTO))
	if q.hystart.conservative {
		grow /= cssGrowthDivisor
	}
	q.cwnd = min(q.cwnd+grow, maxCwnd)
	if done {
		q.ssthresh = q.cwnd
	}
	if !q.slowStart() {
		q.cwnd, q.afterRTO = max(q.ssthresh, q.mss), false
	}
}

// begin starts an epoch (RFC 9438 §4.2).
func (q *cubic) begin(now time.Duration) {
	q.growing, q.epoch, q.carry = true, now, 0
	q.wEst, q.origin, q.k = float64(q.cwnd), q.wMax, 0
	if q.origin <= float64(q.cwnd) {
		// RFC 9438 §4.10: after slow start without a loss, K is 0 and W_max is cwnd.
		q.origin = float64(q.cwnd)
		return
	}
	// RFC 9438 §4.2, Figure 2: K = cbrt((W_max - cwnd_epoch) / C)
	q.k = time.Duration(math.Cbrt((q.origin-float64(q.cwnd))/float64(q.mss)/cubicC) * float64(time.Second))
}

// at is W_cubic(t) of RFC 9438 §4.2, Figure 1, in octets: C * (t - K)³ + W_max.
func (q *cubic) at(t time.Duration) float64 {
	d := (t - q.k).Seconds()
	return cubicC*d*d*d*float64(q.mss) + q.origin
}

// avoid is congestion avoidance: RFC 9438 §4.2 to §4.5.
func (q *cubic) avoid(now time.Duration, n int32, rtt time.Duration) {
	if !q.growing {
		q.begin(now)
	}
	cwnd, acked := float64(q.cwnd)+q.carry, float64(n)
	t := now - q.epoch
	// RFC 9438 §4.3, Figure 4: W_est = W_est + α_cubic * segments_acked / cwnd; from cwnd_prior on, α is 1
	alpha := cubicAlpha
	if q.wEst >= float64(q.before) {
		alpha = 1
	}
	q.wEst += alpha * float64(q.mss) * acked / cwnd
	grow := 0.0
	if q.at(t) < q.wEst {
		grow = max(q.wEst-cwnd, 0) // the Reno-friendly region
	} else {
		// RFC 9438 §4.2: the target is W_cubic(t + RTT), not below cwnd and not above 1.5 * cwnd; §4.4: an
		// acknowledged segment adds (target - cwnd) / cwnd.
		target := min(max(q.at(t+rtt), cwnd), 1.5*cwnd)
		grow = (target - cwnd) * acked / cwnd
	}
	// Whatever one acknowledgement says to have covered, it does not add more than half of that.
	cwnd = min(cwnd+min(grow, acked/2), maxCwnd)
	q.cwnd = int32(cwnd)
	q.carry = cwnd - float64(q.cwnd)
}

// reduce sets the slow-start threshold for what was in flight, and keeps what Undo needs.
func (q *cubic) reduce(s Sample) {
	if q.prior == nil {
		q.prior = new(cubicPrior)
	}
	*q.prior = cubicPrior{q.cwnd, q.ssthresh, q.before, q.wMax, q.wEst, q.origin, q.k, q.epoch, q.growing}
	// RFC 9438 §4.7, fast convergence: below the last W_max, it becomes cwnd * (1 + β_cubic) / 2.
	q.before = q.cwnd
	cwnd := float64(q.cwnd)
	if cwnd < q.wMax {
		q.wMax = cwnd * (1 + cubicBeta) / 2
	} else {
		q.wMax = cwnd
	}
	// RFC 9438 §4.6: ssthresh = flight_size * β_cubic, and at least two segments. Where less was in flight than the
	// window let, that is what the path is known to bear.
	beta := cubicBeta
	if s.CE && !q.slowStart() {
		beta = cubicMarked
	}
	q.ssthresh = max(int32(float64(min(s.InFlight, int(q.cwnd)))*beta), 2*q.mss)
	q.growing = false
	q.hystart = hystart{done: true}
}

// Loss is the multiplicative decrease of RFC 9438 §4.6.
func (q *cubic) Loss(_ time.Duration, s Sample) {
	q.reduce(s)
	q.cwnd, q.afterRTO = q.ssthresh, false
}

// Recovered ends a recovery: the epoch begins with the next acknowledgement.
func (q *cubic) Recovered(now time.Duration) { q.timedOut, q.growing, q.ackedAt = false, false, now }

// Timeout begins again with the loss window (RFC 9438 §4.8).
func (q *cubic) Timeout(_ time.Duration, s Sample) {
	if !q.timedOut {
		q.reduce(s)
	}
	q.cwnd, q.timedOut, q.afterRTO = q.mss, true, true
}

// Undo takes the last reduction back, once. RFC 9438 §4.9: what is restored is cwnd, ssthresh, W_max, K, t_epoch and W_est.
func (q *cubic) Undo(time.Duration) {
	p := q.prior
	if p == nil {
		return
	}
	q.cwnd, q.ssthresh = max(q.cwnd, p.cwnd), p.ssthresh
	q.before, q.wMax, q.wEst, q.origin, q.k, q.epoch, q.growing = p.before, p.wMax, p.wEst, p.origin, p.k, p.epoch, p.growing
	q.prior, q.timedOut, q.afterRTO = nil, false, false
	q.hystart = hystart{done: p.ssthresh != 0} // the first slow start goes on, and its end is looked for again
}

// Idle falls back to the restart window. RFC 5681 §4.1: "RW = min(IW,cwnd)". The epoch ends: RFC 9438 §5.8.
func (q *cubic) Idle(time.Duration) {
	if q.ssthresh != 0 && q.cwnd > initialWindow(q.mss) {
		q.ssthresh = max(q.ssthresh, q.cwnd/4*3) // what was borne before is known (RFC 2861 §3.1, as Linux does)
	}
	q.cwnd, q.growing = min(q.cwnd, initialWindow(q.mss)), false
}

// SetMSS takes another segment size over. RFC 5681 §3.1: "cwnd SHOULD be reduced by the ratio of the old segment size
// to the new segment size."
func (q *cubic) SetMSS(mss int) {
	m := clampMSS(mss)
	if m < q.mss {
		q.cwnd = int32(int64(q.cwnd) * int64(m) / int64(q.mss))
	}
	q.mss = m
	q.cwnd = max(q.cwnd, m)
	q.growing = false
}

func (q *cubic) Window() int   { return int(q.cwnd) }
func (q *cubic) Ssthresh() int { return int(q.ssthresh) }
func (q *cubic) Pacing() int64 { return 0 }
func (q *cubic) Name() string  { return "cubic" }
func (q *cubic) State() string { return phase(q.slowStart()) }
