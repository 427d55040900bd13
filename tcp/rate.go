package tcp

import "time"

// This file samples the rate at which the path delivers, as draft-ietf-ccwg-bbr §4.1 has it: each run of octets that
// leaves takes along what was known of the delivery by then (stamp), and the acknowledgement of it says how much was
// delivered since, and in what time.

// PathModel is a Congestion that reckons with the path's rate. It hears of every delivery and of every loss by itself,
// and its Window holds during recovery as well, in the stead of RFC 9937. It is used as such where SACK was agreed on.
type PathModel interface {
	Congestion
	// Start is called once, before the first text goes. srtt is what the handshake took, 0 where that is not known.
	Start(now, srtt time.Duration)
	// Delivered is called in the stead of Acked for each acknowledgement of something new, in recovery too. It may set
	// s.Discount; s is borrowed.
	Delivered(now time.Duration, s *RateSample)
	// Lost is called for each run that is found lost, before Loss or Timeout.
	Lost(now time.Duration, l LostRun)
	// Restart is called before text goes while nothing is in flight and the user had nothing to send.
	Restart(now time.Duration)
}

// RateSample is what one acknowledgement says of the path: RS of draft-ietf-ccwg-bbr §2.3. Octets throughout.
type RateSample struct {
	Acked         int           // newly delivered, cumulatively or by SACK
	Lost          int           // newly found lost
	InFlight      int           // in flight after it
	RTT           time.Duration // of what was sent last among that which was sent once; 0: none was measured
	Total         int64         // delivered in all
	Prior         int64         // Total when what was delivered last had been sent; -1: no telling
	Interval      time.Duration // in which Total-Prior was delivered; 0: no telling
	Rate          int64         // (Total-Prior)/Interval in octets a second; 0: no telling
	SentInFlight  int           // in flight when what was delivered last had been sent, itself included
	SentLost      int           // found lost since then
	AppLimited    bool          // the user had nothing to send in that time
	WindowLimited bool          // Window held text back before this acknowledgement
	Recovering    bool          // what was outstanding at the last loss or timeout still is in part
	Discount      bool          // set by Delivered: what is in flight now counts as AppLimited
}

// LostRun is a run of octets, sent in one piece, that is found lost.
type LostRun struct {
	Octets       int
	Total        int64 // octets delivered in all by now
	SentInFlight int   // octets in flight when it was sent, itself included
	SentLost     int   // octets found lost since, itself included
	AppLimited   bool  // the user had nothing to send at the time
}

// stamp is what a run of octets remembers of when it was sent: the per-packet state of draft-ietf-ccwg-bbr §4.1.2.
type stamp struct {
	delivered uint32 // P.delivered, modulo 2³²
	lost      uint32 // P.lost, likewise
	inFlight  int32  // P.tx_in_flight
	acked     uint32 // P.send_time - P.delivered_time in ns, at most 4.3 s
	flight    uint32 // P.send_time - P.first_send_time, likewise
}

// rate is the per-connection state of draft-ietf-ccwg-bbr §4.1.2, and what the acknowledgement at hand says.
type rate struct {
	delivered   int64         // C.delivered
	deliveredAt time.Duration // C.delivered_time
	sentAt      time.Duration // C.first_send_time: when what was delivered last was sent,
	end         Seq           // and where it ended
	known       bool          // newest was delivered by the acknowledgement at hand
	limited     bool          // newest was sent while the user had nothing more to send
	newest      stamp         // of what was sent last of that
	lost        int64         // C.lost
	limitedTo   int64         // C.app_limited; 0: the user keeps the path busy
	best        int64         // the last sample that Info tells: octets
	bestIn      time.Duration // and in what time
	sample      RateSample    // lent to the model
}

// nanoseconds is d in 32 bits.
func nanoseconds(d time.Duration) uint32 { return uint32(min(max(d, 0), 1<<32-1)) }

// stamp is OnPacketSent of draft-ietf-ccwg-bbr §4.1.2, for n octets that are counted in already.
func (b *scoreboard) stamp(n int, now time.Duration) stamp {
	k := &b.rate
	pipe := b.pipe()
	if pipe <= n {
		k.sentAt, k.deliveredAt = now, now
	}
	return stamp{
		delivered: uint32(k.delivered), lost: uint32(k.lost), inFlight: int32(pipe),
		acked: nanoseconds(now - k.deliveredAt), flight: nanoseconds(now - k.sentAt),
	}
}

// update is UpdateRateSample of draft-ietf-ccwg-bbr §4.1.2, for a run whose sending is not in doubt.
func (k *rate) update(r *record) {
	if k.known && (r.at < k.sentAt || r.at == k.sentAt && !k.end.Less(r.to)) {
		return
	}
	k.known, k.limited, k.newest = true, r.fate&fateLimited != 0, r.sent
	k.sentAt, k.end = r.at, r.to
}

// interval is how long what was newly delivered had been on its way together. draft-ietf-ccwg-bbr §4.1.1: the longer of
// the time in which it was sent and the time in which it was acknowledged.
func (k *rate) interval(now time.Duration) time.Duration {
	return max(time.Duration(k.newest.flight), now-k.sentAt+time.Duration(k.newest.acked), 1)
}

// conclude is GenerateRateSample of draft-ietf-ccwg-bbr §4.1.2. It keeps what Info tells.
func (k *rate) conclude(now, minRTT time.Duration) {
	if k.limitedTo != 0 && k.delivered > k.limitedTo {
		k.limitedTo = 0
	}
	if !k.known {
		return
	}
	n, d := int64(uint32(k.delivered)-k.newest.delivered), k.interval(now)
	// An interval below the shortest round trip is that of a retransmission which was not needed.
	if d < minRTT {
		return
	}
	// where the user had nothing to send, a sample counts if it is higher (§4.1.1)
	if !k.limited || float64(n)*float64(k.bestIn) >= float64(k.best)*float64(d) {
		k.best, k.bestIn = n, d
	}
}

// tell makes the sample of the acknowledgement at hand.
func (b *scoreboard) tell(now, minRTT time.Duration) *RateSample {
	k := &b.rate
	s := &k.sample
	*s = RateSample{InFlight: b.pipe(), Total: k.delivered, Prior: -1}
	if !k.known {
		return s
	}
	n := int64(uint32(k.delivered) - k.newest.delivered)
	s.Prior = k.delivered - n
	s.SentInFlight, s.SentLost = int(k.newest.inFlight), int(uint32(k.lost)-k.newest.lost)
	s.AppLimited = k.limited
	if d := k.interval(now); d >= minRTT {
		s.Interval = d
		s.Rate = int64(float64(n) * float64(time.Second) / float64(d))
	}
	return s
}

// lostRun is what HandleLostPacket of draft-ietf-ccwg-bbr §5.5.10.2 needs of a run that was just counted as lost.
func (b *scoreboard) lostRun(r *record) LostRun {
	return LostRun{
		Octets: r.octets(), Total: b.rate.delivered, SentInFlight: int(r.sent.inFlight),
		SentLost: int(uint32(b.rate.lost) - r.sent.lost), AppLimited: r.fate&fateLimited != 0,
	}
}

// discount is MarkConnectionAppLimited of draft-ietf-ccwg-bbr §4.1.2.
func (b *scoreboard) discount() { b.rate.limitedTo = max(b.rate.delivered+int64(b.pipe()), 1) }

// checkLimited is CheckIfApplicationLimited of draft-ietf-ccwg-bbr §4.1.2: the window and the pacing would let text go,
// and there is none.
func (t *TCB) checkLimited(now time.Duration) {
	b := t.board
	if b == nil || t.snd.nxt.Less(t.sendq.end) || b.lost > 0 || now < t.snd.departs ||
		b.model != nil && b.pipe() >= b.model.Window() {
		return
	}
	b.discount()
}
