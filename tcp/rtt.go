package tcp

import "time"

// rtt estimates the round-trip time as RFC 6298 does. The zero value has seen no sample.
type rtt struct {
	srtt   time.Duration // 0: no sample yet
	rttvar time.Duration
	min    time.Duration // the shortest sample
}

const (
	// initialRTO: RFC 6298 §2.1, "the sender SHOULD set RTO <- 1 second".
	initialRTO = time.Second
	// maxRTO is Linux's TCP_RTO_MAX. RFC 6298 §2.5: "A maximum value MAY be placed on RTO provided it is at least 60
	// seconds."
	maxRTO = 120 * time.Second
)

// sample takes a measurement of a segment that was sent only once (Karn, RFC 6298 §3).
func (r *rtt) sample(d time.Duration) {
	d = max(d, 1) // a wire without delay is a measurement as well
	if r.srtt == 0 {
		// RFC 6298 §2.2: "When the first RTT measurement R is made, the host MUST set"
		r.srtt, r.rttvar, r.min = d, d/2, d
		return
	}
	// RFC 6298 §2.3: "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|", with beta = 1/4 and alpha = 1/8, and
	// RTTVAR before SRTT.
	r.rttvar += ((r.srtt - d).Abs() - r.rttvar) / 4
	r.srtt += (d - r.srtt) / 8
	r.min = min(r.min, d)
}

// rto is the retransmission timeout without back-off. least is Config.MinRTO.
//
// It departs from RFC 6298 §2.4 as Linux does: least bounds the part of it that stands for variance and not the sum,
// or a steady path longer than least would leave no margin for a delayed acknowledgement.
func (r *rtt) rto(least time.Duration) time.Duration {
	if r.srtt == 0 {
		return initialRTO
	}
	return min(r.srtt+max(least, 4*r.rttvar), maxRTO)
}
