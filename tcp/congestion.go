package tcp

import "time"

// Sample is what one acknowledgement, or one timeout, tells congestion control. Octets throughout.
type Sample struct {
	Acked      int           // newly acknowledged, cumulatively or by SACK
	Lost       int           // newly found lost
	InFlight   int           // outstanding before this acknowledgement
	RTT        time.Duration // newest round-trip time; 0: none was measured
	AppLimited bool          // the sender had nothing to send for part of the flight: do not grow (RFC 7661)
	CE         bool          // Loss: the peer echoed a congestion mark, and nothing was lost (RFC 3168 §6.1.2)
}

// Congestion decides how much may be in flight. It is a value under its connection: no lock, no clock. One that needs
// to know the path's rate is a [PathModel] besides.
type Congestion interface {
	// Acked is called for each acknowledgement that brings something new outside of recovery.
	Acked(now time.Duration, s Sample)
	// Loss begins a recovery: duplicate acknowledgements or SACK say that something is lost (RFC 5681 §3.2). Where s.CE is
	// set nothing is: a router would have dropped something, and Recovered follows at once (RFC 3168 §6.1.2).
	Loss(now time.Duration, s Sample)
	// Recovered ends it.
	Recovered(now time.Duration)
	// Timeout: the retransmission timer expired (RFC 5681 §3.1).
	Timeout(now time.Duration, s Sample)
	// Undo takes the last reduction back: it was spurious.
	Undo(now time.Duration)
	// Idle: nothing was sent for longer than a retransmission timeout (RFC 5681 §4.1).
	Idle(now time.Duration)
	// SetMSS: the path's packets changed size.
	SetMSS(mss int)
	// Window is how many octets may be in flight.
	Window() int
	// Ssthresh is the slow-start threshold in octets, 0 where none is set yet.
	Ssthresh() int
	// Pacing is the rate to send at in octets a second. Where it is 0 at first, the connection sends as fast as the
	// window allows, and does not ask again.
	Pacing() int64
	// Name is the algorithm's name, such as "reno".
	Name() string
	// State is where the algorithm stands, such as "slow start".
	State() string
}

// CongestionNamed is what makes the congestion control of that name, for Config.Congestion: "reno", "cubic" or "bbr".
// It is false where there is none.
func CongestionNamed(name string) (func(mss int) Congestion, bool) {
	switch name {
	case "reno":
		return NewReno, true
	case "cubic":
		return NewCubic, true
	case "bbr":
		return NewBBR, true
	}
	return nil, false
}

// phase is the State of the algorithms that RFC 5681 shaped.
func phase(slowStart bool) string {
	if slowStart {
		return "slow start"
	}
	return "congestion avoidance"
}

// congestion is the congestion control, made when it is first asked for.
func (t *TCB) congestion(now time.Duration) Congestion {
	if t.cc != nil {
		return t.cc
	}
	t.cc = t.newCongestion(now)
	t.paces = t.cc.Pacing() > 0
	if t.snd.synAgain {
		// RFC 5681 §3.1: "If the SYN or SYN/ACK is lost, the initial window used by a sender after a correctly
		// transmitted SYN MUST be one segment". How much the path bears is as unknown as before.
		t.cc.Timeout(now, Sample{InFlight: maxCwnd})
	}
	return t.cc
}

// newCongestion makes what Config says. A model of the path is of no use where the peer has no SACK: what was delivered
// would be guesswork in each recovery. draft-ietf-ccwg-bbr §4.1.3 would have duplicate acknowledgements counted; here
// such a connection has the default.
func (t *TCB) newCongestion(now time.Duration) Congestion {
	if t.c.Congestion == nil {
		return NewCubic(t.textMSS())
	}
	cc := t.c.Congestion(t.textMSS())
	if m, ok := cc.(PathModel); ok {
		if !t.sack {
			return NewCubic(t.textMSS())
		}
		t.modelled = true
		t.ecn &^= ecnSends // such a model does not know what a mark means
		m.Start(now, t.rtt.srtt)
	}
	return cc
}

// model is the congestion control where it models the path, else nil.
func (t *TCB) model() PathModel {
	if !t.modelled || t.cc == nil {
		return nil
	}
	return t.cc.(PathModel)
}
