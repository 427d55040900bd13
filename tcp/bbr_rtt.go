package tcp

import "time"

// This file is ProbeRTT of draft-ietf-ccwg-bbr §5.3.4, and what follows idleness (§5.4).

// updateMinRTT is UpdateMinRTT of §5.3.4.3. The window of ProbeRTT is reckoned from the estimate that expires, before a
// sample that a queue has lengthened takes its place.
func (b *bbr) updateMinRTT(now time.Duration, s *RateSample) {
	b.rttExpired = now > b.minRTTAt+bbrMinRTTFilter
	if b.rttExpired && b.state != bbrProbeRTT {
		b.rttWindow = max(b.bdp(bbrStates[bbrProbeRTT].window), bbrMinPipe*b.mss) // SaveProbeRTTCwnd of §5.6.4.5
	}
	if s.RTT > 0 && (s.RTT < b.minRTT || b.minRTT == 0 || b.rttExpired) {
		b.minRTT, b.minRTTAt = s.RTT, now
	}
}

// checkProbeRTT is CheckProbeRTT of §5.3.4.3.
func (b *bbr) checkProbeRTT(now time.Duration, s *RateSample) {
	if b.state != bbrProbeRTT && b.rttExpired && !b.idleRestart {
		b.saveWindow()
		b.state = bbrProbeRTT
		b.rttDone = 0
		b.acks = acksStopping
		b.nextRound = b.total
	}
	if b.state == bbrProbeRTT {
		b.handleProbeRTT(now, s)
	}
	if s.Prior >= 0 {
		b.idleRestart = false
	}
}

// handleProbeRTT is HandleProbeRTT of §5.3.4.3: once little is in flight, it stays so for 200 ms and a round trip.
func (b *bbr) handleProbeRTT(now time.Duration, s *RateSample) {
	s.Discount = true // §5.3.4.3: "Ignore low rate samples during ProbeRTT"
	if b.rttDone == 0 {
		if int64(s.InFlight) <= b.rttWindow {
			b.rttDone = now + bbrProbeRTTTime
			b.rttRoundDone = false
			b.nextRound = b.total
		}
		return
	}
	b.rttRoundDone = b.rttRoundDone || b.roundStart
	if b.rttRoundDone {
		b.checkProbeRTTDone(now)
	}
}

// checkProbeRTTDone is CheckProbeRTTDone of §5.3.4.3, and ExitProbeRTT of §5.3.4.4.
func (b *bbr) checkProbeRTTDone(now time.Duration) {
	if b.rttDone == 0 || now <= b.rttDone {
		return
	}
	b.minRTTAt = now
	b.cwnd = max(b.cwnd, b.prior)
	b.resetShort()
	if !b.fullReached {
		b.state = bbrStartup
		return
	}
	b.startDown(now)
	b.state = bbrCruise
}

// Restart is HandleRestartFromIdle of §5.4.1: "BBR leaves C.cwnd as-is and paces packets at exactly BBR.bw".
func (b *bbr) Restart(now time.Duration) {
	b.idleRestart = true
	b.extraAt, b.extraAcked = now, 0
	if b.cycling() {
		b.setPacing(1)
	} else if b.state == bbrProbeRTT {
		b.checkProbeRTTDone(now)
	}
}
