package tcp

import "time"

// This file is how BBR probes for bandwidth: Startup, Drain and ProbeBW of draft-ietf-ccwg-bbr §5.3.1 to §5.3.3.

// resetFull is ResetFullBW of §5.3.1.2; bw is the base from which growth counts.
func (b *bbr) resetFull(bw int64) {
	b.fullBW, b.fullCount, b.fullNow = bw, 0, false
}

// checkFull is CheckFullBWReached of §5.3.1.2: three rounds without a quarter more say that the path is full.
func (b *bbr) checkFull(s *RateSample) {
	if b.fullNow || !b.roundStart || s.AppLimited {
		return
	}
	if float64(s.Rate) >= bbrFullBWGrowth*float64(b.fullBW) {
		b.resetFull(s.Rate)
		return
	}
	b.fullCount++
	b.fullNow = b.fullCount >= bbrFullRounds
	b.fullReached = b.fullReached || b.fullNow
}

// checkStartup is CheckStartupDone of §5.3.1.
func (b *bbr) checkStartup(s *RateSample) {
	if b.lossStart {
		// CheckStartupHighLoss of §5.3.1.3: a round of recovery in which much was lost, and not in one place
		if b.state == bbrStartup && !b.fullReached && b.recovering && b.lossEvents >= bbrFullLosses &&
			b.excess(int64(s.SentLost), int64(s.SentInFlight)) {
			b.undoTo = bbrStartup
			b.fullReached = true
			b.inflightLong = max(b.bdp(1), b.inflightLatest)
		}
		b.lossEvents = 0
	}
	if b.state == bbrStartup && b.fullReached {
		b.state, b.drainRound = bbrDrain, b.round // EnterDrain of §5.3.2
	}
}

// checkDrain is CheckDrainDone of §5.3.2.
func (b *bbr) checkDrain(now time.Duration, s *RateSample) {
	if b.state == bbrDrain && (int64(s.InFlight) <= b.quantize(b.bdp(1)) || b.round-b.drainRound > bbrDrainRounds) {
		b.startDown(now)
	}
}

// cycling is IsInAProbeBWState of §5.3.3.8.
func (b *bbr) cycling() bool { return b.state >= bbrDown && b.state <= bbrUp }

// probing is IsProbingBW of §5.3.3.8.
func (b *bbr) probing() bool {
	return b.state == bbrStartup || b.state == bbrRefill || b.state == bbrUp
}

// startDown is StartProbeBW_DOWN of §5.3.3.8.
func (b *bbr) startDown(now time.Duration) {
	b.resetSignals()
	b.upStep = bbrUnbounded
	b.pickWait(now)
	b.cycleAt = now
	b.acks = acksStopping
	b.nextRound = b.total
	b.state = bbrDown
}

// pickWait is PickProbeWait of §5.3.3.6. Chance is what the connection has seen so far: two flows never see the same.
func (b *bbr) pickWait(now time.Duration) {
	x := uint64(now)*0x9e3779b97f4a7c15 ^ uint64(b.total)*0xbf58476d1ce4e5b9 // the multipliers of splitmix64
	x ^= x >> 31
	x *= 0x94d049bb133111eb
	x ^= x >> 29
	b.sinceUp = uint32(x & 1)
	b.probeWait = bbrProbeWait + time.Duration(x>>1%uint64(time.Second))
}

// startRefill is StartProbeBW_REFILL of §5.3.3.8.
func (b *bbr) startRefill() {
	b.resetShort()
	b.upRounds, b.upAcked = 0, 0
	b.precaution = false
	b.acks = acksRefilling
	b.nextRound = b.total
	b.state = bbrRefill
}

// startUp is StartProbeBW_UP of §5.3.3.8.
func (b *bbr) startUp(s *RateSample) {
	b.acks = acksStarting
	b.nextRound = b.total
	b.resetFull(s.Rate)
	b.state = bbrUp
	b.raiseSlope()
}

// updateCycle is UpdateProbeBWCyclePhase of §5.3.3.8.
func (b *bbr) updateCycle(now time.Duration, s *RateSample) {
	if !b.fullReached || b.adaptLong(s) {
		return
	}
	switch b.state {
	case bbrDown:
		if b.timeToProbe(now) {
			b.startRefill()
		} else if b.timeToCruise(s) {
			b.state = bbrCruise
		}
	case bbrCruise:
		if b.timeToProbe(now) {
			b.startRefill()
		}
	case bbrRefill:
		if b.roundStart {
			b.probeSample = true
			b.startUp(s)
		}
	case bbrUp:
		if b.timeToGoDown(s) {
			b.tooHigh = false // as far as is known
			b.startDown(now)
		}
	}
}

// timeToProbe is IsTimeToProbeBW of §5.3.3.6: after two to three seconds, or sooner where a Reno flow of this size would
// have grown by as much.
func (b *bbr) timeToProbe(now time.Duration) bool {
	return now > b.cycleAt+b.probeWait || int64(b.sinceUp) >= min(b.target()/b.mss, bbrRenoRounds)
}

// timeToCruise is IsTimeToCruise of §5.3.3.8.
func (b *bbr) timeToCruise(s *RateSample) bool {
	return int64(s.InFlight) <= min(b.headroom(), b.quantize(b.bdp(1)))
}

// timeToGoDown is IsTimeToGoDown of §5.3.3.8.
func (b *bbr) timeToGoDown(s *RateSample) bool {
	if b.tooHigh && int64(s.InFlight) >= b.inflightLong {
		b.precaution = true // §5.3.3.5: to here and no further, until this is known to be safe
		return true
	}
	if b.windowLimited() && b.cwnd >= b.inflightLong {
		b.resetFull(s.Rate) // inflightLong, and not the path, holds the rate back
		return false
	}
	return b.fullNow
}

// headroom is InflightWithHeadroom of §5.3.3.8.
func (b *bbr) headroom() int64 {
	if b.inflightLong == bbrUnbounded {
		return bbrUnbounded
	}
	room := max(b.mss, int64(bbrHeadroom*float64(b.inflightLong)))
	return max(b.inflightLong-room, bbrMinPipe*b.mss)
}

// raiseSlope is RaiseInflightLongtermSlope of §5.3.3.8.
func (b *bbr) raiseSlope() {
	b.upStep = max(b.cwnd>>b.upRounds, b.mss)
	b.upRounds = min(b.upRounds+1, bbrUpRounds)
}

// raiseLong is ProbeInflightLongtermUpward of §5.3.3.8.
func (b *bbr) raiseLong(s *RateSample) {
	if !b.windowLimited() || b.cwnd < b.inflightLong {
		return
	}
	b.upAcked += int64(s.Acked)
	if b.upAcked >= b.upStep {
		steps := b.upAcked / b.upStep
		b.upAcked -= steps * b.upStep
		b.inflightLong += steps * b.mss
	}
	if b.roundStart {
		b.raiseSlope()
	}
}

// adaptLong is AdaptLongTermModel of §5.3.3.8. It reports whether the state has changed.
func (b *bbr) adaptLong(s *RateSample) bool {
	if b.acks == acksStarting && b.roundStart {
		b.acks = acksFeedback
	}
	if b.acks == acksStopping && b.roundStart {
		b.probeSample = false
		b.acks = acksInit
		if b.cycling() && !s.AppLimited {
			b.advanceFilter()
		}
		if b.cycling() && b.precaution && !b.tooHigh {
			b.startRefill() // §5.3.3.5: the cautious probe was safe, and this one may go on
			return true
		}
	}
	if b.inflightLong == bbrUnbounded || b.excess(int64(s.SentLost), int64(s.SentInFlight)) {
		return false
	}
	b.inflightLong = max(b.inflightLong, int64(s.SentInFlight))
	if b.state == bbrUp {
		b.raiseLong(s)
	}
	return false
}
