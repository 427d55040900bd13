package tcp

import (
	"testing"
	"time"
)

// round lets a window be acknowledged, segment by segment, each with rtt, in the time of one.
func round(c Congestion, now *time.Duration, rtt time.Duration, limited bool) {
	w := c.Window()
	for n := w / mss; n > 0; n-- {
		*now += rtt / time.Duration(w/mss)
		c.Acked(*now, Sample{Acked: mss, InFlight: max(w, c.Window()), RTT: rtt, AppLimited: !limited})
	}
}

// reduced is a cubic that has lost something at a window of n segments.
func reduced(n int) *cubic {
	q := NewCubic(mss).(*cubic)
	q.cwnd = int32(n) * mss
	q.Loss(0, Sample{InFlight: n * mss, Lost: mss})
	q.Recovered(0)
	return q
}

// TestC96CubicFunction: RFC 9438: a loss at 100 segments leaves 70, and after K = cbrt(100*0.3/0.4) = 4.2 s the window
// has come back to 100, flat, to grow faster from there.
func TestC96CubicFunction(t *testing.T) {
	q := reduced(100)
	wantWindow(t, q, "β_cubic is 0.7", 70*mss, 70*mss)
	now, rtt := time.Duration(0), 100*ms
	var at [90]int // by tenths of a second
	for i := range at {
		round(q, &now, rtt, true)
		at[i] = q.Window() / mss
	}
	if at[20] < 90 || at[20] > 98 || at[42] < 98 || at[42] > 101 || at[50] > 103 {
		t.Errorf("after 2 s %d, after K %d, after 5 s %d; want about 95, 100 and 100", at[20], at[42], at[50])
	}
	if at[84] < 122 {
		t.Errorf("after 2K it is %d, want 130 or somewhat less", at[84])
	}
	for i := 1; i < len(at); i++ {
		if at[i] < at[i-1] {
			t.Fatalf("the window shrinks: %v", at)
		}
	}
}

// TestCubicRenoFriendly: RFC 9438 §4.3: over a short path it is not slower than Reno.
func TestCubicRenoFriendly(t *testing.T) {
	q, now := reduced(20), time.Duration(0)
	for range 100 {
		round(q, &now, 2*ms, true)
	}
	// 14 segments, and 3*0.3/1.7 = 0.53 a round up to 20, then 1 a round: 20 + (100 - 12)
	if w := q.Window() / mss; w < 100 || w > 112 {
		t.Errorf("after 100 rounds of 2 ms the window is %d, want about 108", w)
	}
}

// TestC97CubicIdleTime: time without anything to send is no part of the epoch (RFC 9438 §5.8).
func TestC97CubicIdleTime(t *testing.T) {
	for _, idle := range []bool{true, false} {
		q, now := reduced(100), time.Duration(0)
		for range 10 {
			round(q, &now, 100*ms, true)
		}
		before := q.Window()
		if idle {
			now += 60 * time.Second
			q.Acked(now, Sample{Acked: mss, InFlight: mss, RTT: 100 * ms, AppLimited: true})
		} else {
			for range 600 {
				round(q, &now, 100*ms, false)
			}
		}
		round(q, &now, 100*ms, true)
		if w := q.Window(); w > before+5*mss {
			t.Errorf("after a minute without anything to send the window goes from %d to %d", before, w)
		}
	}
}

// TestC97CubicUndo: RFC 9438 §4.9.
func TestC97CubicUndo(t *testing.T) {
	q := reduced(100)
	now := time.Duration(0)
	for range 20 {
		round(q, &now, 100*ms, true)
	}
	before := *q
	q.Loss(now, Sample{InFlight: q.Window()})
	if q.Window() >= int(before.cwnd) {
		t.Fatal("a loss does not reduce")
	}
	q.Undo(now)
	if q.cwnd != before.cwnd || q.ssthresh != before.ssthresh || q.wMax != before.wMax || q.k != before.k ||
		q.epoch != before.epoch || q.wEst != before.wEst {
		t.Errorf("undone: %+v, was %+v", *q, before)
	}
	q.Undo(now)
	q.Timeout(now, Sample{InFlight: q.Window()})
	q.Timeout(now, Sample{InFlight: mss})
	wantWindow(t, q, "two timeouts", mss, int(float64(before.cwnd)*cubicBeta))
	q.Undo(now)
	if q.cwnd != before.cwnd {
		t.Errorf("two timeouts undone: %d, want %d", q.cwnd, before.cwnd)
	}
}

// TestCubicFastConvergence: RFC 9438 §4.7.
func TestCubicFastConvergence(t *testing.T) {
	q := reduced(100)
	q.Loss(0, Sample{InFlight: 70 * mss})
	if want := 70 * mss * (1 + cubicBeta) / 2; q.wMax != want {
		t.Errorf("W_max %v, want %v", q.wMax, want)
	}
	wantWindow(t, q, "twice", 49*mss, 49*mss)
	q.Loss(0, Sample{InFlight: mss})
	wantWindow(t, q, "at least two segments", 2*mss, 2*mss)
	q.Idle(0)
	wantWindow(t, q, "a window below the restart window", 2*mss, 2*mss)
	q.SetMSS(500)
	wantWindow(t, q, "smaller segments", 1000, 2*mss)
}

// TestC97CubicFriendlyPace: RFC 9438 §4.3: W_est grows by α_cubic segments a round trip up to the window of the last reduction,
// and by one from there on. Fast convergence, which lowers W_max, must not make it grow faster (cwnd_prior).
func TestC97CubicFriendlyPace(t *testing.T) {
	for _, last := range []float64{90 * mss, 110 * mss} { // the W_max before: without and with fast convergence
		q, now := NewCubic(mss).(*cubic), time.Duration(0)
		q.cwnd, q.ssthresh, q.wMax = 100*mss, 50*mss, last
		q.Loss(now, Sample{InFlight: 100 * mss})
		for q.cwnd < 110*mss && now < 10*time.Second {
			from := q.cwnd
			round(q, &now, 10*ms, true)
			want := cubicAlpha
			switch at := q.cwnd / mss; {
			case at == 99 || at == 100:
				continue // from one pace to the other
			case at > 100:
				want = 1
			}
			if grown := float64(q.cwnd-from) / mss; grown < want*0.8 || grown > want*1.2 {
				t.Errorf("W_max was %v: at %d segments the window grows by %.2f a round trip, want %.2f", last/mss, from/mss, grown, want)
			}
		}
		if q.cwnd < 110*mss {
			t.Errorf("W_max was %v: %d segments after 10 s", last/mss, q.cwnd/mss)
		}
	}
}

// TestC98HyStart: RFC 9406: slow start ends where the round trip grows by an eighth, without a loss, after five rounds
// of slower growth; and goes on where it grew for a moment only.
func TestC98HyStart(t *testing.T) {
	grow := func(q Congestion, now *time.Duration, rounds int, rtt func(i int) time.Duration) {
		for i := range rounds {
			round(q, now, rtt(i), true)
		}
	}
	now := time.Duration(0)
	q := NewCubic(mss)
	grow(q, &now, 4, func(int) time.Duration { return 4 * time.Second })
	if w := q.Window(); w != 160*mss || q.Ssthresh() != 0 {
		t.Fatalf("with a steady round trip: %d, threshold %d", w, q.Ssthresh())
	}
	grow(q, &now, 9, func(i int) time.Duration { return 4020 * ms })
	if w := q.Ssthresh() / mss; w > 160*8 || w < 160*2 {
		t.Errorf("with a longer round trip: %d segments, threshold %d", q.Window()/mss, w)
	}
	q = NewCubic(mss)
	grow(q, &now, 6, func(i int) time.Duration {
		if i == 3 {
			return 4020 * ms
		}
		return 4 * time.Second
	})
	if q.Ssthresh() != 0 || q.(*cubic).hystart.conservative {
		t.Errorf("one long round ends slow start: threshold %d", q.Ssthresh())
	}
}

// TestHyStartTrain: slow start also ends where acknowledgements come without a pause for half a round trip, unless the
// window is not used, or the round trip is too short to tell.
func TestHyStartTrain(t *testing.T) {
	for _, x := range []struct {
		what    string
		rtt     time.Duration
		apart   time.Duration
		limited bool
		ends    bool
	}{
		{"a round of 80 ms in 100 ms", 100 * ms, ms, true, true},
		{"with pauses", 100 * ms, 3 * ms, true, false},
		{"a round of 40 ms in 100 ms", 100 * ms, ms / 2, true, false},
		{"window not used", 100 * ms, ms, false, false},
		{"a round trip of 5 ms", 5 * ms, ms, true, false},
	} {
		q := NewCubic(mss).(*cubic)
		q.cwnd = 80 * mss
		now := x.rtt
		for range 80 {
			now += x.apart
			q.Acked(now, Sample{Acked: mss, InFlight: 80 * mss, RTT: x.rtt, AppLimited: !x.limited})
		}
		if ended := q.Ssthresh() != 0; ended != x.ends {
			t.Errorf("%s: slow start has ended: %v; window %d, threshold %d", x.what, ended, q.Window()/mss, q.Ssthresh()/mss)
		}
	}
}

// TestHyStartAfterUndo: where a reduction in the first slow start was for nothing, the end of that is looked for as before.
func TestHyStartAfterUndo(t *testing.T) {
	q := NewCubic(mss).(*cubic)
	q.Loss(0, Sample{InFlight: 10 * mss, Lost: mss})
	q.Undo(0)
	if q.Ssthresh() != 0 || q.hystart.done {
		t.Errorf("undone: threshold %d, slow start is watched: %v; want 0, true", q.Ssthresh(), !q.hystart.done)
	}
	q = reduced(100)
	q.Loss(0, Sample{InFlight: 70 * mss, Lost: mss})
	q.Undo(0)
	if !q.hystart.done {
		t.Error("a later slow start is watched as well")
	}
}

// TestCubicStaysInRange: no acknowledgement, however odd, makes a window below a segment or beyond the largest.
func TestCubicStaysInRange(t *testing.T) {
	q, now := NewCubic(1), time.Duration(0)
	for i := range 10000 {
		now += time.Duration(i%7) * time.Hour
		s := Sample{Acked: 1 << (i % 34), InFlight: 1 << (i % 33), RTT: time.Duration(i%11) * time.Minute}
		switch i % 97 {
		case 13:
			q.Loss(now, s)
		case 14:
			q.Recovered(now)
		case 50:
			q.Timeout(now, s)
		case 60:
			q.Undo(now)
		case 70:
			q.SetMSS(i)
		default:
			q.Acked(now, s)
		}
		if w := q.Window(); w < 1 || w > maxCwnd || q.Ssthresh() < 0 {
			t.Fatalf("step %d: window %d, threshold %d", i, w, q.Ssthresh())
		}
	}
}
