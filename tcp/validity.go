package tcp

import "time"

// This file is RFC 7661: what becomes of a congestion window that the user does not fill.

// validity is how long a window has not been used.
type validity struct {
	since time.Duration // 0: it is in use
}

// nonValidated is the NVP of RFC 7661 §4.4: "The NVP SHOULD NOT exceed five minutes".
const nonValidated = 5 * time.Minute

// limited reports whether the congestion window, and not the user or the peer's window, held the sender back. A window
// that is not used says nothing about the path, and does not grow. RFC 7661 §4.3 takes it for used from a half on, and
// so does Linux in slow start, for acknowledgements come in lumps.
func (s *Sample) limited(cwnd int32) bool { return !s.AppLimited && 2*s.InFlight >= int(cwnd) }

// unused is an acknowledgement of a flight that does not use the window. RFC 7661 §4.4.3, for the end of the NVP:
// ssthresh = max(ssthresh, 3*cwnd/4) and cwnd = max(1/2*cwnd, IW).
func (v *validity) unused(now time.Duration, mss int32, cwnd, ssthresh *int32) {
	switch {
	case v.since == 0:
		v.since = max(now, 1)
	case now-v.since >= nonValidated:
		v.since = now
		if least := initialWindow(mss); *cwnd > least {
			*ssthresh = max(*ssthresh, *cwnd/4*3)
			*cwnd = max(*cwnd/2, least)
		}
	}
}
