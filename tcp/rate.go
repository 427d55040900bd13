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
	sample      RateSample    // lent to the model
}

// nanoseconds is d in 32 bits.
func nanoseconds(d time.Duration) uint32 { return uint32(min(max(d, 0), 1<<32-1)) }

// stamp is OnPacketSent of draft-ietf-ccwg-bbr §4.1.2, for n octets that are counted in already.
func (b *scoreboard) stamp(s *stamp, n int, now time.Duration) {
	k := &b.rate
	pipe := b.pipe()
	if pipe <= n {
		k.sentAt, k.deliveredAt = now, now
	}
	s.delivered, s.lost, s.inFlight = uint32(k.delivered), uint32(k.lost), int32(pipe)
	s.acked, s.flight = nanoseconds(now-k.deliveredAt), nanoseconds(now-k.sentAt)
}

// update is UpdateRateSample of draft-ietf-ccwg-bbr §4.1.2, for a run up to to whose sending is not in doubt.
func (k *rate) update(r *record, to Seq) {
	if k.known && (r.at < k.sentAt || r.at == k.sentAt && !k.end.Less(to)) {
		return
	}
	k.known, k.limited = true, r.fate&fateLimited != 0
	k.sentAt, k.end = r.at, to
	// one by one: what was just written in small pieces is slow to read as a whole
	s, n := &r.sent, &k.newest
	n.delivered, n.lost, n.inFlight, n.acked, n.flight = s.delivered, s.lost, s.inFlight, s.acked, s.flight
}

// interval is how long what was newly delivered had been on its way together. draft-ietf-ccwg-bbr §4.1.1: the longer of
// the time in which it was sent and the time in which it was acknowledged.
func (k *rate) interval(now time.Duration) time.Duration {
	return max(time.Duration(k.newest.flight), now-k.sentAt+time.Duration(k.newest.acked), 1)
}

// recent is what Info tells: the rate of the last sample, in octets a second; 0: there is none that can be relied on.
func (k *rate) recent(minRTT time.Duration) int64 {
	n, d := uint32(k.delivered)-k.newest.delivered, k.interval(k.deliveredAt)
	if n == 0 || d < minRTT {
		return 0
	}
	return int64(float64(n) * float64(time.Second) / float64(d))
}

// tell is GenerateRateSample of draft-ietf-ccwg-bbr §4.1.2. An interval below the shortest round trip is that of a
// retransmission which was not needed, and tells no rate.
func (b *scoreboard) tell(now, minRTT time.Duration) *RateSample {
	k := &b.rate
	s := &k.sample
	if k.limitedTo != 0 && k.delivered > k.limitedTo {
		k.limitedTo = 0 // the bubble has left the path
	}
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
	if b == nil || t.snd.nxt.Less(t.sendq.end) || b.lost > 0 || now < t.snd.departs || b.pipe() >= t.cc.Window() {
		return
	}
	b.discount()
}
