package tcp

import "time"

// This file is BBR's model of the path: draft-ietf-ccwg-bbr §5.5.

// updateRound is UpdateRound of §5.5.1.
func (b *bbr) updateRound(s *RateSample) {
	b.roundStart = s.Prior >= b.nextRound
	if s.WindowLimited {
		b.limited[1] = true
	}
	if b.roundStart {
		b.nextRound = s.Total
		b.round++
		b.sinceUp++
		b.limited[0], b.limited[1] = b.limited[1], s.WindowLimited
	}
}

// windowLimited is C.is_cwnd_limited (§2.2): the window was full at some point of the last round trip.
func (b *bbr) windowLimited() bool { return b.limited[0] || b.limited[1] }

// updateLatest is UpdateLatestDeliverySignals of §5.5.10.3.
func (b *bbr) updateLatest(s *RateSample) {
	b.lossStart = false
	if b.lossEvent {
		b.lossEvents = min(b.lossEvents, 254) + 1
		b.lossEvent = false
	}
	if s.Prior < 0 {
		return
	}
	b.bwLatest = max(b.bwLatest, s.Rate)
	b.inflightLatest = max(b.inflightLatest, s.Total-s.Prior)
	if s.Prior >= b.lossRound {
		b.lossRound = s.Total
		b.lossStart = true
	}
}

// updateMaxBW is UpdateMaxBw of §5.5.5. §5.5.4: "the estimator does use application-limited samples if the measured
// delivery rate happens to be larger than the current BBR.max_bw estimate".
func (b *bbr) updateMaxBW(s *RateSample) {
	if s.Rate > 0 && (s.Rate >= b.maxBW || !s.AppLimited) {
		b.bwFilter[1] = max(b.bwFilter[1], s.Rate)
		b.maxBW = max(b.bwFilter[0], b.bwFilter[1])
	}
}

// advanceFilter is AdvanceMaxBwFilter of §5.5.6. Nothing is forgotten for nothing: a cycle without a sample does not
// count.
func (b *bbr) advanceFilter() {
	if b.bwFilter[1] == 0 {
		return
	}
	b.bwFilter[0], b.bwFilter[1] = b.bwFilter[1], 0
	b.maxBW = b.bwFilter[0]
}

// updateExtra is UpdateACKAggregation of §5.5.9.
func (b *bbr) updateExtra(now time.Duration, s *RateSample) {
	expected := int64(float64(b.bw) * (now - b.extraAt).Seconds())
	if b.extraAcked <= expected {
		b.extraAcked, b.extraAt, expected = 0, now, 0
	}
	b.extraAcked += int64(s.Acked)
	extra := min(b.extraAcked-expected, b.cwnd)
	span := uint32(bbrExtraRounds)
	if !b.fullReached {
		span = 1
	}
	if b.roundStart && b.round-b.extraSlot >= span {
		b.extraSlot = b.round
		b.extra[0], b.extra[1] = b.extra[1], 0
		if span == 1 {
			b.extra[0] = 0
		}
	}
	b.extra[1] = max(b.extra[1], extra)
}

// excess reports whether lost octets of a flight are so many that the queue must have been full. The draft (§5.5.10.2)
// asks for more than BBR.LossThresh, 2 %. It departs from that in asking as well for bbrSampleLosses packets, as §5.3.1.3
// does in Startup, or a tenth of a small flight: in a flight of 87 packets (100 Mbit/s over 10 ms), the draft's 2 % are
// two packets, which of all flights a quarter loses at 1 % random loss, and BBR is to bear that (§3.1).
func (b *bbr) excess(lost, flight int64) bool {
	least := min(bbrSampleLosses*b.mss, int64(bbrSmallFlight*float64(flight)))
	return lost > max(int64(bbrLossThresh*float64(flight)), least)
}

// noteLoss is NoteLoss of §5.5.10.2. What Undo needs is saved once for a recovery, before its first loss.
func (b *bbr) noteLoss(total int64) {
	if !b.lossInRound {
		b.lossRound = total
	}
	if !b.saved {
		b.saveWindow()
		b.saved, b.undoTo = true, bbrNone
		b.undo = bbrUndo{b.bwShort, b.inflightShort, b.inflightLong}
	}
	b.lossInRound, b.lossEvent = true, true
}

// Lost is HandleLostPacket of §5.5.10.2.
func (b *bbr) Lost(now time.Duration, l LostRun) {
	b.total = l.Total
	b.noteLoss(l.Total)
	b.lostRound += int64(l.Octets)
	if !b.probeSample || !b.excess(int64(l.SentLost), int64(l.SentInFlight)) {
		return
	}
	// InflightAtLoss of §5.5.10.2: at what volume losses had crossed the threshold, within what was sent in one piece
	before, lost := int64(l.SentInFlight-l.Octets), int64(l.SentLost-l.Octets)
	prefix := int64((bbrLossThresh*float64(before) - float64(lost)) / (1 - bbrLossThresh))
	b.handleTooHigh(now, before+max(prefix, 0), l.AppLimited)
}

// handleTooHigh is HandleInflightTooHigh of §5.5.10.2.
func (b *bbr) handleTooHigh(now time.Duration, flight int64, appLimited bool) {
	b.tooHigh = true
	b.probeSample = false // one answer to each probe
	if !appLimited {
		b.inflightLong = max(flight, int64(bbrBeta*float64(b.target())))
	}
	if b.state == bbrUp {
		b.undoTo = bbrUp
		b.startDown(now)
	}
}

// target is TargetInflight of §5.3.3.6.
func (b *bbr) target() int64 { return min(b.bdp(1), b.cwnd) }

// updateShort is the rest of UpdateCongestionSignals of §5.5.10.3: once a round, it answers to loss.
func (b *bbr) updateShort(s *RateSample) {
	if !b.lossStart {
		return
	}
	if !b.probing() {
		b.adaptShort()
	}
	b.lossInRound, b.lostRound = false, 0
}

// adaptShort is AdaptLowerBoundsFromCongestion of §5.5.10.3. As the draft has it, each round with a loss takes the rate
// down to what that round delivered, which is less than was sent by the margin of pacing and the loss: at 1 % random loss,
// 60 rounds of 2 % leave a third of the rate. It departs from that in judging the loss, by the draft's own 2 %, over as
// many rounds as it takes to send bbrJudgePackets, or over one that loses a tenth.
func (b *bbr) adaptShort() {
	b.lostSum += b.lostRound
	b.volumeSum += b.inflightLatest
	if b.volumeSum < bbrJudgePackets*b.mss && float64(b.lostRound) <= bbrSmallFlight*float64(b.inflightLatest) {
		return
	}
	much := float64(b.lostSum) > bbrLossThresh*float64(b.volumeSum)
	b.lostSum, b.volumeSum = 0, 0
	if !much {
		return
	}
	// InitLowerBounds, and LossLowerBounds
	if b.bwShort == bbrUnbounded {
		b.bwShort = b.maxBW
	}
	if b.inflightShort == bbrUnbounded {
		b.inflightShort = b.cwnd
	}
	b.bwShort = max(b.bwLatest, int64(bbrBeta*float64(b.bwShort)))
	b.inflightShort = max(b.inflightLatest, int64(bbrBeta*float64(b.inflightShort)))
}

// resetShort is ResetShortTermModel of §5.5.10.3.
func (b *bbr) resetShort() {
	b.bwShort, b.inflightShort = bbrUnbounded, bbrUnbounded
	b.lostSum, b.volumeSum = 0, 0
}

// resetSignals is ResetCongestionSignals of §5.5.10.3.
func (b *bbr) resetSignals() {
	b.lossInRound = false
	b.bwLatest, b.inflightLatest, b.lostRound = 0, 0, 0
}
