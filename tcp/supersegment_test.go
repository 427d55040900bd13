package tcp

import (
	"testing"
	"time"
)

// superSegments is a connection whose device takes super-segments of 64,000 octets, with a window of cwnd, and packets of
// 1,000.
func superSegments(t *testing.T, cwnd int32) *script {
	t.Helper()
	c := Config{MTU: 1480, MaxText: 64000, NoTimestamps: true, Congestion: NewReno}
	s := established(t, c, 65535, Options{MSS: 1000, SACKPermitted: true, HasScale: true, WindowScale: 4})
	s.congestion(s.now).(*reno).cwnd = cwnd
	return s
}

func wantLengths(t *testing.T, what string, g []Segment, want ...int) {
	t.Helper()
	ok := len(g) == len(want)
	for i := range g {
		ok = ok && g[i].TextLen() == want[i]
	}
	if !ok {
		t.Errorf("%s: %v, want text of %v octets", what, g, want)
	}
}

// TestWindowInTwo: where the congestion window decides how much goes, a super-segment has half of it at most, so that the
// fate of one tells of the other; what fits the window is sent in one piece.
func TestWindowInTwo(t *testing.T) {
	s := superSegments(t, 40000)
	s.write(100000)
	wantLengths(t, "100,000 octets, a window of 40,000", s.take(), 20000, 20000)
	s = superSegments(t, 40000)
	s.write(30000)
	wantLengths(t, "30,000 octets, a window of 40,000", s.take(), 30000)
	s = superSegments(t, 200000)
	s.write(100000)
	wantLengths(t, "100,000 octets, the peer's window of 65,535", s.take(), 64000, 1000)
}

// TestRetransmissionInTwo: a retransmission that would be alone in the network goes as two super-segments, and that the
// first of them is lost whole is found without a timeout (RFC 8985 §3.1).
func TestRetransmissionInTwo(t *testing.T) {
	s := superSegments(t, 40000)
	s.write(40000)
	wantLengths(t, "the flight", s.take(), 40000)
	s.now += 100 * ms
	wantLengths(t, "20,000 octets arrived behind a hole of as many", s.sack(0, Block{20000, 40000}), 10000, 10000)
	s.now += 99 * ms
	g := s.sack(0, Block{10000, 40000})
	if len(g) == 0 || g[0].Cause != CauseFast || int(g[0].Seq) != 101 {
		t.Errorf("the second half arrived, the first did not: %v, want that one again", g)
	}
}

// TestAcknowledgementsTogether: acknowledgements that come together let go what they would one by one, so that what was lost as a whole is
// repaired with twice as much in each round trip (RFC 9937 §4).
func TestAcknowledgementsTogether(t *testing.T) {
	s := superSegments(t, 40000)
	s.write(40000)
	s.take()
	s.now += 100 * ms
	s.sack(0, Block{39000, 40000})
	s.wait(s.rtt.min / 4) // the reordering window
	wantLengths(t, "all but 1,000 octets are lost", s.take(), 1000)
	wantLengths(t, "the first of them arrived", s.sack(1000, Block{39000, 40000}), 1000, 1000)
	s.now += ms
	for n := range Seq(2) {
		g := Segment{Seq: s.rcv.nxt, Ack: 101 + 2000 + 1000*n, Flags: ACK, Window: 65535}
		g.Options.SACK[0], g.Options.Blocks = Block{101 + 39000, 101 + 40000}, 1
		s.Arrive(s.now, &g)
	}
	sum := 0
	for _, g := range s.take() {
		sum += g.TextLen()
	}
	if sum != 4000 {
		t.Errorf("two arrived, and their acknowledgements came together: %d octets went, want 4,000", sum)
	}
}

// TestProbeInRecovery: where all that was sent last in a recovery is lost, a probe finds that out, and not the
// retransmission timer. It is the first segment again, and the window is not reduced again.
func TestProbeInRecovery(t *testing.T) {
	s := superSegments(t, 40000)
	s.write(40000)
	s.take()
	s.now += 100 * ms
	wantLengths(t, "20,000 octets arrived behind a hole of as many", s.sack(0, Block{20000, 40000}), 10000, 10000)
	window := s.Info().Cwnd
	s.wait(2*s.rtt.srtt + probeSlack)
	g := s.take()
	if len(g) != 1 || g[0].Cause != CauseTLP || g[0].Seq != 101 || g[0].TextLen() != 1000 {
		t.Fatalf("two round trips without an answer: %v, want the first segment as a probe", g)
	}
	s.now += 99 * ms
	g = s.sack(1000, Block{20000, 40000})
	if len(g) == 0 || g[0].Cause != CauseFast || g[0].Seq != 101+1000 {
		t.Errorf("the probe arrived, what was sent again before it did not: %v, want that once more", g)
	}
	if i := s.Info(); i.Cwnd != window || i.Backoff != 0 || !i.Recovering {
		t.Errorf("a window of %d, %d timeouts, in recovery: %t; want %d, none, true", i.Cwnd, i.Backoff, i.Recovering, window)
	}
	s.wait(2*s.rtt.srtt + probeSlack)
	if g = s.take(); len(g) != 1 || g[0].Cause != CauseTLP {
		t.Errorf("nothing came again: %v, want another probe", g)
	}
	s.wait(time.Second)
	if g = s.take(); len(g) == 0 || g[0].Cause != CauseRTO {
		t.Errorf("nor did an answer to it: %v, want the retransmission timer's", g)
	}
}

// TestProbeInRecoveryIsNewText: where there is text that was never sent, and nothing that is known to be lost waits, the probe
// is that: what was sent again may have arrived.
func TestProbeInRecoveryIsNewText(t *testing.T) {
	begin := func() (s *script, next Seq) {
		s = superSegments(t, 40000)
		s.write(100000)
		s.take()
		s.now += 100 * ms
		s.sack(0, Block{20000, 40000})
		next = s.snd.nxt
		s.wait(2*s.rtt.srtt + probeSlack)
		g := s.take()
		if len(g) != 1 || g[0].Cause != CauseTLP || g[0].Seq != next || g[0].TextLen() != 1000 {
			t.Fatalf("two round trips without an answer: %v, want 1,000 octets of new text as a probe, from %d on", g, next)
		}
		s.now += 100 * ms
		return s, next
	}
	s, next := begin()
	for _, g := range s.sack(next - 101 + 1000) {
		if g.Seq.Less(next) {
			t.Errorf("all has arrived, but %v goes", g)
		}
	}
	if i := s.Info(); i.Recovering || i.Retransmits != 2 {
		t.Errorf("all has arrived: %d sent again, in recovery: %t; want the two super-segments, false", i.Retransmits, i.Recovering)
	}
	s, next = begin()
	if g := s.sack(0, Block{20000, 40000}, Block{next - 101, next - 101 + 1000}); len(g) == 0 || g[0].Cause != CauseFast || g[0].Seq != 101 {
		t.Errorf("the probe alone arrived: %v, want what was sent again before it once more", g)
	}
}

// TestCorked: on the shortest of paths the rest of the user's text waits for more while a super-segment is on its way: until
// it fills one itself, the acknowledgement comes, a millisecond has passed, or nothing can follow.
func TestCorked(t *testing.T) {
	corked := func(rtt time.Duration) *script {
		s := superSegments(t, 1<<20)
		s.snd.wnd, s.snd.maxWnd, s.rtt.srtt, s.rtt.min = 1<<20, 1<<20, rtt, rtt
		s.write(64500)
		return s
	}
	s := corked(50 * time.Microsecond)
	wantLengths(t, "a rest of 500", s.take(), 64000)
	if i := s.Info(); i.Limit != LimitedByCoalescing {
		t.Errorf("held back by %v, want %v", i.Limit, LimitedByCoalescing)
	}
	s.write(63000)
	wantLengths(t, "63,000 octets more", s.take())
	s.write(1000)
	wantLengths(t, "1,000 more", s.take(), 64000)
	s.ack(101 + 128000)
	wantLengths(t, "the acknowledgement", s.take(), 500)

	s = corked(50 * time.Microsecond)
	s.take()
	s.wait(corkTime - 1)
	wantLengths(t, "less than a millisecond", s.take())
	s.wait(1)
	wantLengths(t, "a millisecond", s.take(), 500)
	s.write(500)
	wantLengths(t, "the next", s.take())
	s.wait(corkTime)
	wantLengths(t, "a millisecond later", s.take(), 500)

	s = corked(50 * time.Microsecond)
	s.take()
	s.Close(s.now)
	s.flush()
	wantLengths(t, "a FIN", s.take(), 500)

	s = corked(nearRTT + 1)
	wantLengths(t, "a longer path", s.take(), 64000, 500)
}

// TestWindowOfANearPeer: there a super-segment has seven eighths of the congestion window.
func TestWindowOfANearPeer(t *testing.T) {
	s := superSegments(t, 40000)
	s.rtt.srtt, s.rtt.min = nearRTT, nearRTT
	s.write(100000)
	wantLengths(t, "100,000 octets, a window of 40,000", s.take(), 35000, 5000)
}
