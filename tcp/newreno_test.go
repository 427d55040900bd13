package tcp

import (
	"testing"
	"unsafe"
)

const mss = 1000

// flight is an acknowledgement of n octets with the window in use.
func flight(c Congestion, n int) Sample { return Sample{Acked: n, InFlight: c.Window()} }

func wantWindow(t *testing.T, c Congestion, what string, cwnd, ssthresh int) {
	t.Helper()
	if c.Window() != cwnd || c.Ssthresh() != ssthresh {
		t.Errorf("%s: cwnd %d, ssthresh %d; want %d, %d", what, c.Window(), c.Ssthresh(), cwnd, ssthresh)
	}
}

// RFC 6928 §2
func TestNewRenoInitialWindow(t *testing.T) {
	for _, tt := range []struct{ mss, want int }{{536, 5360}, {1460, 14600}, {1448, 14480}, {4000, 14600}, {8960, 17920},
		{65483, 130966}, {1, 10}, {0, 10}, {-5, 10}, {1 << 30, 131070}} {
		if got := NewReno(tt.mss).Window(); got != tt.want {
			t.Errorf("MSS %d: initial window %d, want %d", tt.mss, got, tt.want)
		}
	}
	if n := unsafe.Sizeof(reno{}); n > 48 {
		t.Errorf("the state takes %d octets", n)
	}
}

// RFC 5681 §3.1
func TestNewRenoSlowStart(t *testing.T) {
	c := NewReno(mss)
	for range 5 {
		c.Acked(0, flight(c, 2*mss))
	}
	wantWindow(t, c, "a window acknowledged in five", 20*mss, 0)
	c.Acked(0, flight(c, 20*mss))
	wantWindow(t, c, "a super-segment acknowledged in one", 40*mss, 0)
	c.Acked(0, flight(c, 1<<30))
	wantWindow(t, c, "no more than a super-segment at once", 40*mss+LargeChunk, 0)
	c.Acked(0, Sample{Acked: 2 * mss, InFlight: c.Window(), AppLimited: true})
	wantWindow(t, c, "the user had nothing to send", 40*mss+LargeChunk, 0)
	c.Acked(0, Sample{Acked: 2 * mss, InFlight: 10 * mss})
	wantWindow(t, c, "the peer's window holds us back", 40*mss+LargeChunk, 0)
	for range 1 << 16 {
		c.Acked(0, flight(c, LargeChunk))
	}
	wantWindow(t, c, "for ever", 65535<<14, 0)
}

// RFC 5681 §3.1, equation 4, and §3.2
func TestNewRenoLossAndAvoidance(t *testing.T) {
	c := NewReno(mss)
	for range 20 {
		c.Acked(0, flight(c, 2*mss))
	}
	c.Loss(0, Sample{InFlight: 40 * mss, Lost: mss})
	wantWindow(t, c, "loss", 20*mss, 20*mss)
	c.Recovered(0)
	wantWindow(t, c, "recovered", 20*mss, 20*mss)
	for range 9 {
		c.Acked(0, flight(c, 2*mss))
	}
	wantWindow(t, c, "less than a window acknowledged", 20*mss, 20*mss)
	c.Acked(0, flight(c, 2*mss))
	wantWindow(t, c, "a window acknowledged", 21*mss, 20*mss)
	c.Acked(0, flight(c, 21*mss))
	wantWindow(t, c, "a window acknowledged in one", 22*mss, 20*mss)
	c.Acked(0, flight(c, 21*mss))
	c.Loss(0, Sample{InFlight: mss})
	wantWindow(t, c, "loss of a small flight", 2*mss, 2*mss)
	c.Acked(0, flight(c, mss))
	wantWindow(t, c, "half a window acknowledged since", 2*mss, 2*mss)
}

// RFC 5681 §3.1: the loss window, and a threshold that is held when the timer expires again.
func TestNewRenoTimeout(t *testing.T) {
	c := NewReno(mss)
	for range 15 {
		c.Acked(0, flight(c, 2*mss))
	}
	c.Timeout(0, Sample{InFlight: 40 * mss})
	wantWindow(t, c, "timeout", mss, 20*mss)
	c.Timeout(0, Sample{InFlight: mss})
	wantWindow(t, c, "timeout again", mss, 20*mss)
	c.Acked(0, Sample{Acked: 40 * mss, InFlight: 40 * mss})
	wantWindow(t, c, "the first acknowledgement adds one segment, whatever it covers", 2*mss, 20*mss)
	for _, w := range []int{4, 8, 16, 20} {
		c.Acked(0, flight(c, c.Window()))
		wantWindow(t, c, "slow start, up to the threshold", w*mss, 20*mss)
	}
	c.Timeout(0, Sample{InFlight: 20 * mss})
	wantWindow(t, c, "timeout after progress", mss, 10*mss)
	c.Recovered(0)
	wantWindow(t, c, "recovered in slow start", mss, 10*mss)
}

func TestNewRenoUndo(t *testing.T) {
	c := NewReno(mss)
	c.Undo(0)
	wantWindow(t, c, "nothing to undo", 10*mss, 0)
	c.Loss(0, Sample{InFlight: 10 * mss})
	c.Undo(0)
	wantWindow(t, c, "a loss undone", 10*mss, 0)
	c.Recovered(0)
	wantWindow(t, c, "recovered after that", 10*mss, 0)
	c.Timeout(0, Sample{InFlight: 10 * mss})
	c.Timeout(0, Sample{InFlight: 10 * mss})
	c.Undo(0)
	wantWindow(t, c, "two timeouts undone", 10*mss, 0)
	c.Loss(0, Sample{InFlight: 10 * mss})
	c.Timeout(0, Sample{InFlight: 5 * mss})
	c.Undo(0)
	wantWindow(t, c, "of a loss and a timeout, the timeout undone", 5*mss, 5*mss)
	c.Undo(0)
	wantWindow(t, c, "undone twice", 5*mss, 5*mss)
}

// RFC 5681 §4.1
func TestNewRenoIdle(t *testing.T) {
	c := NewReno(mss)
	c.Loss(0, Sample{InFlight: 12 * mss})
	c.Idle(0)
	wantWindow(t, c, "a window below the restart window", 6*mss, 6*mss)
	c.Loss(0, Sample{InFlight: 80 * mss})
	c.Idle(0)
	wantWindow(t, c, "a window above it", 10*mss, 40*mss)
}

func TestNewRenoSetMSS(t *testing.T) {
	c := NewReno(mss)
	c.SetMSS(500)
	wantWindow(t, c, "smaller segments", 5*mss, 0)
	c.SetMSS(1000)
	wantWindow(t, c, "larger segments", 5*mss, 0)
	c.Timeout(0, Sample{InFlight: 5 * mss})
	c.SetMSS(4000)
	wantWindow(t, c, "never below one segment", 4000, 2500)
	c.Acked(0, flight(c, 4000))
	wantWindow(t, c, "above the threshold: avoidance", 8000, 2500)
	if c.Name() != "reno" || c.Pacing() != 0 {
		t.Errorf("Name %q, Pacing %d", c.Name(), c.Pacing())
	}
}

// TestHalfASegment: RFC 5681 §3.1: of a window of four and a half segments four are in flight, and when they are acknowledged
// the window grows.
func TestHalfASegment(t *testing.T) {
	c := NewReno(mss)
	c.Loss(0, Sample{InFlight: 9 * mss})
	wantWindow(t, c, "half of nine", 9*mss/2, 9*mss/2)
	for range 3 {
		c.Acked(0, Sample{Acked: mss, InFlight: 4 * mss})
	}
	wantWindow(t, c, "three of four are acknowledged", 9*mss/2, 9*mss/2)
	c.Acked(0, Sample{Acked: mss, InFlight: 4 * mss})
	wantWindow(t, c, "all four", 11*mss/2, 9*mss/2)
}
