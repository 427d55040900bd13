package tcp

import (
	"testing"
	"time"
)

// windowed are the algorithms whose window RFC 5681 and RFC 7661 speak of.
var windowed = map[string]func(int) Congestion{"reno": NewReno, "cubic": NewCubic}

// TestC94WindowValidation: a trickle does not let the window grow; it is kept for five minutes, and halved after.
func TestC94WindowValidation(t *testing.T) {
	for name, make := range windowed {
		t.Run(name, func(t *testing.T) {
			c := make(mss)
			for c.Window() < 100*mss {
				c.Acked(time.Second, Sample{Acked: 10 * mss, InFlight: c.Window()})
			}
			full := c.Window()
			now := time.Second
			trickle := func(d time.Duration) {
				for end := now + d; now < end; now += 100 * ms {
					c.Acked(now, Sample{Acked: mss, InFlight: mss, AppLimited: true})
				}
			}
			trickle(5*time.Minute - time.Second)
			if c.Window() != full {
				t.Fatalf("window %d after less than five minutes of trickle, want %d as before", c.Window(), full)
			}
			trickle(2 * time.Second)
			if c.Window() != full/2 || c.Ssthresh() != full/4*3 {
				t.Errorf("window %d, ssthresh %d after five minutes, want %d and %d", c.Window(), c.Ssthresh(), full/2, full/4*3)
			}
			trickle(20 * nonValidated)
			if want := int(initialWindow(mss)); c.Window() != want {
				t.Errorf("window %d in the end, want the initial %d", c.Window(), want)
			}
			before := c.Window()
			c.Acked(now, Sample{Acked: before, InFlight: before})
			trickle(time.Minute)
			if c.Window() <= before {
				t.Errorf("window %d after it was used once, want it to have grown from %d", c.Window(), before)
			}
		})
	}
}

// TestC94TrickleThenBurst: on the wire, a burst after a trickle is no longer than what was acknowledged in a window that
// was used.
func TestC94TrickleThenBurst(t *testing.T) {
	s := plainly(t)
	for range 200 {
		s.write(100)
		s.take()
		s.now += 10 * ms
		s.ack(s.snd.nxt)
	}
	s.write(60000)
	if n := s.Info().InFlight; n > 14600 {
		t.Errorf("%d octets leave at once after a trickle, want at most the initial window, 14600", n)
	}
}

// TestC87SlowStartDoubles: each acknowledged packet adds one, and so a round trip doubles the window, never more,
// however few acknowledgements say it (RFC 3465).
func TestC87SlowStartDoubles(t *testing.T) {
	for name, make := range windowed {
		for _, each := range []int{1, 2, 10} {
			c := make(mss)
			for range 5 {
				w := c.Window()
				for acked := 0; acked < w; acked += each * mss {
					c.Acked(0, Sample{Acked: each * mss, InFlight: w})
				}
				if c.Window() != 2*w {
					t.Errorf("%s, %d packets an acknowledgement: %d octets after %d, want %d", name, each, c.Window(), w, 2*w)
				}
			}
		}
	}
}

// TestC88Ssthresh: what is in flight is halved, and by CUBIC cut to 0.7 of it; two packets are the least.
func TestC88Ssthresh(t *testing.T) {
	for name, share := range map[string]float64{"reno": 0.5, "cubic": 0.7} {
		for _, flight := range []int{1, 2, 3, 10} {
			c := windowed[name](mss)
			c.Loss(0, Sample{InFlight: flight * mss})
			want := max(int(share*float64(flight*mss)), 2*mss)
			if c.Ssthresh() != want {
				t.Errorf("%s: ssthresh %d after a loss among %d packets, want %d", name, c.Ssthresh(), flight, want)
			}
		}
	}
}
