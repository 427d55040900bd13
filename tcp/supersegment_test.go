package tcp

import "testing"

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
