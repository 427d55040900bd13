package tcp

import (
	"math"
	"time"
)

// This file and bbr_*.go are BBR, version 3, as draft-ietf-ccwg-bbr has it; sections are the draft's. Here are its
// state, what the connection calls, and the control parameters of §5.6. bbr_model.go is the model of the path (§5.5),
// bbr_cycle.go the states that probe for bandwidth (§5.3.1 to §5.3.3), bbr_rtt.go ProbeRTT and idleness (§5.3.4, §5.4).
//
// It departs from the draft in what counts as too much loss: see bbr.excess and bbr.adaptShort.

// bbrState is BBR.state.
type bbrState uint8

const (
	bbrStartup bbrState = iota
	bbrDrain
	bbrDown // ProbeBW_DOWN
	bbrCruise
	bbrRefill
	bbrUp
	bbrProbeRTT
	bbrNone // BBR.undo_state: there is nothing to go back to
)

// bbrStates are the names, and the gains of §5.6.1's table. The window in ProbeBW_UP departs from its 2.25, as with that two
// flows that probe at once have 1.7 BDP in the queue; they share as evenly with 2, which BBR version 2 had.
var bbrStates = [...]struct {
	name           string
	pacing, window float64
}{
	bbrStartup:  {"startup", 2.77, 2},
	bbrDrain:    {"drain", 0.5, 2},
	bbrDown:     {"probe bandwidth: down", 0.9, 2},
	bbrCruise:   {"probe bandwidth: cruise", 1, 2},
	bbrRefill:   {"probe bandwidth: refill", 1, 2},
	bbrUp:       {"probe bandwidth: up", 1.25, 2},
	bbrProbeRTT: {"probe RTT", 1, 0.5},
}

// bbrAcks is BBR.ack_phase (§2.8): what the acknowledgements that arrive tell of.
type bbrAcks uint8

const (
	acksInit bbrAcks = iota
	acksRefilling
	acksStarting // ACKS_PROBE_STARTING
	acksFeedback // ACKS_PROBE_FEEDBACK
	acksStopping // ACKS_PROBE_STOPPING
)

// The constants of the draft.
const (
	bbrLossThresh   = 0.02 // BBR.LossThresh
	bbrBeta         = 0.7  // BBR.Beta: no larger a step down than CUBIC's
	bbrHeadroom     = 0.15 // BBR.Headroom
	bbrMargin       = 0.99 // 1 - BBR.PacingMarginPercent
	bbrMinPipe      = 4    // BBR.MinPipeCwnd, in packets
	bbrFullLosses   = 6    // BBRStartupFullLossCnt
	bbrFullRounds   = 3    // §5.3.1.2: rounds without growth
	bbrMinRTTFilter = 10 * time.Second
	bbrProbeRTTTime = 200 * time.Millisecond // BBR.ProbeRTTDuration
	bbrRenoRounds   = 63                     // §5.3.3.6: T_reno_bound
	bbrExtraRounds  = 5                      // half of BBR.ExtraAckedFilterLen: its filter has two slots
	bbrProbeWait    = 2 * time.Second        // §5.3.3.6: T_bbr is this and up to a second more
	bbrDrainRounds  = 3                      // §5.3.2
	bbrUpRounds     = 30                     // §5.3.3.8: the steps of inflight_longterm double at most so often
	bbrSampleLosses = 6                      // losses that a decision wants: see bbr.excess
	bbrSmallFlight  = 0.1                    // and the share of a small flight that is as good
	bbrNominalRTT   = time.Millisecond       // §5.6.2: where no RTT is known
	bbrUnbounded    = math.MaxInt64          // Infinity
	bbrFullBWGrowth = 1.25                   // §5.3.1.2
	bbrQuantaInPipe = 3                      // §5.5.8.1: C.send_quantum in the sender, the device and the receiver
	bbrUpPackets    = 2                      // §5.6.4.2: more in flight in ProbeBW_UP
	bbrJudgePackets = 20 / bbrLossThresh     // what bbr.adaptShort judges at once: 20 losses at the threshold
)

// bbr is the state of one connection. Rates are octets a second, volumes octets.
type bbr struct {
	mss      int64
	cwnd     int64
	pacing   int64 // C.pacing_rate
	state    bbrState
	undoTo   bbrState // BBR.undo_state
	acks     bbrAcks
	upRounds uint8 // bw_probe_up_rounds

	recovering   bool // a recovery has begun and not ended
	saved        bool // undo holds what was there before it
	idleRestart  bool
	fullReached  bool // full_bw_reached
	fullNow      bool // full_bw_now
	roundStart   bool
	lossStart    bool // loss_round_start
	lossInRound  bool // is_loss_in_round
	lossEvent    bool // something was found lost since the last acknowledgement
	probeSample  bool // is_bw_probe_sample
	tooHigh      bool // prev_probe_too_high
	precaution   bool // prev_probe_precautionary
	rttRoundDone bool // probe_rtt_round_done
	rttExpired   bool // min_rtt_expired
	limited      [2]bool
	fullCount    uint8
	lossEvents   uint8 // acknowledgements in this round that came with a loss

	bw, maxBW, bwShort, bwLatest                int64
	bwFilter                                    [2]int64 // the best sample of the last cycle and of this one
	fullBW                                      int64
	inflightLong, inflightShort, inflightLatest int64
	prior                                       int64 // prior_cwnd
	undo                                        bbrUndo

	nextRound, lossRound int64 // next_round_delivered, loss_round_delivered
	round, drainRound    uint32
	sinceUp              uint32 // rounds_since_probe_up
	upAcked, upStep      int64  // bw_probe_up_acked, probe_up_acked_per_inc
	cycleAt, probeWait   time.Duration
	lostRound            int64 // octets found lost in this round,
	lostSum, volumeSum   int64 // and in the rounds that were not judged yet, with what they delivered

	minRTT, minRTTAt time.Duration // minRTT 0: none was measured
	rttDone          time.Duration // probe_rtt_done_stamp
	rttWindow        int64         // probe_rtt_cwnd

	extraAt    time.Duration // extra_acked_interval_start
	extraAcked int64         // extra_acked_delivered
	extra      [2]int64      // the filter of extra_acked: the last bbrExtraRounds rounds and those before
	extraSlot  uint32        // the round in which the slot began
	total      int64         // C.delivered
}

// bbrUndo is what SaveStateUponLoss of §5.5.11.1 keeps.
type bbrUndo struct{ bwShort, inflightShort, inflightLong int64 }

// NewBBR makes the congestion control of draft-ietf-ccwg-bbr for an effective send MSS in octets. It is a [PathModel],
// which needs SACK: a connection whose peer has none gets NewCubic's.
func NewBBR(mss int) Congestion {
	b := &bbr{mss: int64(clampMSS(mss)), undoTo: bbrNone}
	b.cwnd = int64(initialWindow(int32(b.mss)))
	b.bwShort, b.inflightShort, b.inflightLong, b.upStep = bbrUnbounded, bbrUnbounded, bbrUnbounded, bbrUnbounded
	b.rttWindow = b.cwnd
	b.setInitialPacing(0)
	return b
}

// setInitialPacing is InitPacingRate of §5.6.2.
func (b *bbr) setInitialPacing(srtt time.Duration) {
	if srtt <= 0 {
		srtt = bbrNominalRTT
	}
	b.pacing = int64(bbrStates[bbrStartup].pacing * float64(b.cwnd) / srtt.Seconds())
}

// Start is OnInit of §5.2.1.
func (b *bbr) Start(now, srtt time.Duration) {
	b.minRTT, b.minRTTAt, b.extraAt = srtt, now, now
	b.setInitialPacing(srtt)
}

// Delivered is UpdateOnACK of §5.2.3.
func (b *bbr) Delivered(now time.Duration, s *RateSample) {
	b.total = s.Total
	if b.recovering && !s.Recovering {
		b.Recovered(now)
	}
	b.updateRound(s)
	b.updateLatest(s)
	b.updateMaxBW(s)
	b.updateShort(s)
	b.updateExtra(now, s)
	b.checkFull(s)
	b.checkStartup(s)
	b.checkDrain(now, s)
	b.updateCycle(now, s)
	b.updateMinRTT(now, s)
	b.checkProbeRTT(now, s)
	if b.lossStart {
		b.bwLatest, b.inflightLatest = s.Rate, max(s.Total-s.Prior, 0) // AdvanceLatestDeliverySignals, §5.5.10.3
	}
	b.bw = min(b.maxBW, b.bwShort) // BoundBWForModel
	b.setPacing(bbrStates[b.state].pacing)
	b.setWindow(s)
}

// setPacing is SetPacingRateWithGain of §5.6.2.
func (b *bbr) setPacing(gain float64) {
	rate := int64(gain * float64(b.bw) * bbrMargin)
	if rate > 0 && (b.fullReached || rate > b.pacing) {
		b.pacing = rate
	}
}

// bdp is BDPMultiple of §5.6.4.2.
func (b *bbr) bdp(gain float64) int64 {
	if b.minRTT == 0 || b.bw == 0 {
		return int64(initialWindow(int32(b.mss)))
	}
	return int64(gain * float64(b.bw) * b.minRTT.Seconds())
}

// quantize is QuantizationBudget of §5.6.4.2.
func (b *bbr) quantize(volume int64) int64 {
	volume = max(volume, bbrQuantaInPipe*int64(sendQuantum(b.pacing, int(b.mss))), bbrMinPipe*b.mss)
	if b.state == bbrUp {
		volume += bbrUpPackets * b.mss
	}
	return volume
}

// setWindow is SetCwnd of §5.6.4.6.
func (b *bbr) setWindow(s *RateSample) {
	limit := b.quantize(b.bdp(bbrStates[b.state].window) + max(b.extra[0], b.extra[1])) // UpdateMaxInflight
	if b.fullReached {
		b.cwnd = min(b.cwnd+int64(s.Acked), limit)
	} else if b.cwnd < limit || s.Total < int64(initialWindow(int32(b.mss))) {
		b.cwnd += int64(s.Acked)
	}
	b.cwnd = max(b.cwnd, bbrMinPipe*b.mss)
	if b.state == bbrProbeRTT {
		b.cwnd = min(b.cwnd, b.rttWindow) // BoundCwndForProbeRTT
	}
	// BoundCwndForModel of §5.6.4.7
	bound := int64(bbrUnbounded)
	switch b.state {
	case bbrDown, bbrRefill, bbrUp:
		bound = b.inflightLong
	case bbrCruise, bbrProbeRTT:
		bound = b.headroom()
	}
	bound = max(min(bound, b.inflightShort), bbrMinPipe*b.mss)
	b.cwnd = min(b.cwnd, bound, maxCwnd)
}

// saveWindow is SaveCwnd of §5.6.4.4.
func (b *bbr) saveWindow() {
	if b.recovering || b.state == bbrProbeRTT {
		b.prior = max(b.prior, b.cwnd)
	} else {
		b.prior = b.cwnd
	}
}

// Acked has nothing to do: Delivered did.
func (b *bbr) Acked(time.Duration, Sample) {}

// Loss is OnEnterFastRecovery of §5.6.4.4.
func (b *bbr) Loss(time.Duration, Sample) {
	b.noteLoss(b.total)
	b.saveWindow()
	b.recovering = true
}

// Recovered ends a recovery. §5.6.4.4: "When BBR exits loss recovery it restores C.cwnd to the "last known good" value
// that C.cwnd held before entering recovery."
func (b *bbr) Recovered(time.Duration) {
	if b.recovering {
		b.cwnd = max(b.cwnd, b.prior)
	}
	b.recovering, b.saved = false, false
}

// Timeout is OnEnterRTO of §5.6.4.4: a packet may go, beside what is left in flight.
func (b *bbr) Timeout(_ time.Duration, s Sample) {
	b.noteLoss(b.total)
	b.saveWindow()
	b.recovering = true
	b.cwnd = min(int64(s.InFlight), b.cwnd) + b.mss
}

// Undo is HandleSpuriousLossDetection of §5.5.11.2.
func (b *bbr) Undo(now time.Duration) {
	if !b.saved {
		return
	}
	b.cwnd = max(b.cwnd, b.prior)
	b.recovering, b.saved, b.lossInRound = false, false, false
	b.resetFull(0)
	b.bwShort = max(b.bwShort, b.undo.bwShort)
	b.inflightShort = max(b.inflightShort, b.undo.inflightShort)
	b.inflightLong = max(b.inflightLong, b.undo.inflightLong)
	switch {
	case b.undoTo == bbrStartup && b.state != bbrStartup:
		b.fullReached = false
		if b.state != bbrProbeRTT {
			b.state = bbrStartup
		}
	case b.undoTo == bbrUp && b.state != bbrUp && b.state != bbrProbeRTT:
		b.startRefill()
	}
	b.undoTo = bbrNone
}

// Idle leaves the window as it is: Restart paces what follows (§5.4.2).
func (b *bbr) Idle(time.Duration) {}

// SetMSS takes another segment size over. Volumes are octets and stay, but for the window's least.
func (b *bbr) SetMSS(mss int) {
	b.mss = int64(clampMSS(mss))
	b.cwnd = max(b.cwnd, b.mss)
}

func (b *bbr) Window() int   { return int(b.cwnd) }
func (b *bbr) Ssthresh() int { return 0 }
func (b *bbr) Pacing() int64 { return b.pacing }
func (b *bbr) Name() string  { return "bbr" }
func (b *bbr) State() string { return bbrStates[b.state].name }
