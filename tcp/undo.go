package tcp

import "time"

// revert tells whether the last reduction of the congestion window was for nothing: whether all that was sent again had
// been delivered in any case. RFC 4015 is the response; the detection is by D-SACK (RFC 3708), by timestamps (Eifel,
// RFC 3522), and after a timeout by what is acknowledged (F-RTO, RFC 5682).
type revert struct {
	begun   bool // there is a reduction that may be undone
	stamped bool
	frto    frto
	again   bool   // something was sent again
	from    Seq    // SND.UNA when it began
	left    int    // octets sent again that no D-SACK has reported
	stamp   uint32 // the clock of our timestamps at the first retransmission, where stamped
}

// frto is where F-RTO stands (RFC 5682 §3.1).
type frto uint8

const (
	frtoNone    frto = iota
	frtoFirst        // step 1: the first segment was sent again, and nothing was acknowledged since
	frtoNewText      // step 2b: new text goes instead of what is lost, and the next acknowledgement decides
)

// begin starts an episode: the window is about to be reduced.
func (r *revert) begin(una Seq) { *r = revert{begun: true, from: una} }

// resent notes that n octets were sent again at stamp.
func (r *revert) resent(n int, stamp uint32) {
	if !r.begun {
		return
	}
	if !r.stamped {
		r.stamp, r.stamped = stamp, true
	}
	r.left += n
	r.again = true
}

// stamp is the clock of our timestamps, without the connection's offset. RFC 7323 §5.4 lets it tick between once a millisecond
// and once a second. Where the path reorders, it ticks once in a reordering window: a retransmission with a newer timestamp
// than that of a packet which it overtakes makes the receiver refuse the packet (§5.3, R1), which has to be sent again then.
func (t *TCB) stamp(now time.Duration) uint32 {
	n := ticks(now)
	if t.board == nil || !t.board.rack.reordering {
		return n
	}
	k := &t.board.rack
	if k.stamp == 0 || n-k.stamp >= k.tick(t.rtt.min) {
		k.stamp = n
	}
	return k.stamp
}

// tick is how many milliseconds are one of the clock of stamp, for a shortest round trip: the reordering window, and no more
// than half of the round trip, by which originals are told from retransmissions.
func (k *rack) tick(minRTT time.Duration) uint32 {
	if !k.reordering {
		return 0
	}
	return uint32(min(time.Duration(min(max(k.windowMult, 1), 2))*minRTT/4, time.Second) / time.Millisecond)
}

// spurious reports whether the last reduction turns out to have been for nothing. probe says that d's D-SACK is the
// answer to a tail loss probe, which no reduction goes with.
func (t *TCB) spurious(d *delivery, probe bool) bool {
	r := &t.board.revert
	if !r.begun {
		return false
	}
	if !r.again && t.board.lost == 0 {
		// What was taken for lost arrived before any of it was sent again, as where the acknowledgements that tell of both
		// came together. Linux undoes then as well (tcp_packet_delayed, where nothing was retransmitted).
		return true
	}
	if d.dsack && !probe && r.from.LessEq(d.duplicate.Left) && d.duplicate.Right.LessEq(t.snd.nxt) {
		r.left -= d.duplicate.Right.From(d.duplicate.Left)
		if r.again && r.left <= 0 {
			return true // RFC 3708 §3, B.1: all that was sent again arrived twice
		}
	}
	// RFC 3522 §3.2 step 4: the first acknowledgement that covers the retransmission echoes a timestamp from before it. What
	// a recovery before this one had sent again is acknowledged with an old timestamp as well, and says nothing.
	if d.headAgain && d.advanced && d.hasEcho && r.stamped && int32(d.echo-r.stamp) < 0 &&
		int16(d.headResent-uint16(r.stamp)) >= 0 {
		return true
	}
	return t.stepFRTO(d)
}

// stepFRTO is the SACK-enhanced F-RTO of RFC 5682 §3.1.
func (t *TCB) stepFRTO(d *delivery) bool {
	r := &t.board.revert
	switch {
	case r.frto == frtoNone:
	case d.untouched:
		// Step 3: an acknowledgement of what was not sent again after the timeout says that the timeout was spurious.
		return true
	case r.frto == frtoFirst && d.advanced && !d.hasEcho && t.snd.una.Less(t.snd.recover) &&
		t.snd.nxt.Less(t.sendq.end) && t.usable() > 0:
		// Step 2b: up to two segments of new text. Where there are timestamps, they have told already.
		r.frto = frtoNewText
	default:
		r.frto = frtoNone
	}
	return false
}

// undo takes the last reduction back, and everything that it took for lost counts as in flight (RFC 4015 §3).
func (t *TCB) undo(now time.Duration) {
	b := t.board
	b.revert = revert{}
	b.unlose()
	b.rack.reordering = true
	t.cc.Undo(now)
	t.withdrawReduced()
	if t.snd.recovering {
		t.snd.recovering = false
		t.cc.Recovered(now)
	}
	t.snd.recover = t.snd.una - 1
	t.snd.backoff, t.snd.retries = 0, 0
}
