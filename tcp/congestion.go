package tcp

import "time"

// Sample is what one acknowledgement, or one timeout, tells congestion control. Octets throughout.
type Sample struct {
	Acked      int           // newly acknowledged, cumulatively or by SACK
	Lost       int           // newly found lost
	InFlight   int           // outstanding before this acknowledgement
	RTT        time.Duration // newest round-trip time; 0: none was measured
	Rate       int64         // delivery rate in octets a second; 0: unknown
	AppLimited bool          // the sender had nothing to send for part of the flight: do not grow (RFC 7661)
	CE         bool          // the peer echoed a congestion mark (RFC 3168)
}

// Congestion decides how much may be in flight. It is a value under its connection: no lock, no clock.
type Congestion interface {
	// Acked is called for each acknowledgement that brings something new outside of recovery.
	Acked(now time.Duration, s Sample)
	// Loss begins a recovery: duplicate acknowledgements or SACK say that something is lost (RFC 5681 §3.2).
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
	// Pacing is the rate to send at in octets a second; 0: as fast as the window allows.
	Pacing() int64
	// Name is the algorithm's name, such as "reno".
	Name() string
}
