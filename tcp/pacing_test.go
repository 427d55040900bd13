package tcp

import (
	"testing"
	"time"
)

// fixed is a congestion control with a window and a rate that never change.
type fixed struct {
	Congestion
	window int
	rate   int64
}

func (f *fixed) Acked(time.Duration, Sample)   {}
func (f *fixed) Loss(time.Duration, Sample)    {}
func (f *fixed) Recovered(time.Duration)       {}
func (f *fixed) Timeout(time.Duration, Sample) {}
func (f *fixed) Idle(time.Duration)            {}
func (f *fixed) SetMSS(int)                    {}
func (f *fixed) Window() int                   { return f.window }
func (f *fixed) Ssthresh() int                 { return f.window }
func (f *fixed) Pacing() int64                 { return f.rate }
func (f *fixed) Name() string                  { return "fixed" }
func (f *fixed) State() string                 { return "" }
func at(rate int64) func(mss int) Congestion {
	return func(int) Congestion { return &fixed{window: 1 << 30, rate: rate} }
}
func paced(c Config, rate int64, gso int) Config { c.Congestion, c.MaxText = at(rate), gso; return c }

// TestPacingGaps: behind the first burst, segments leave exactly as far apart as the rate says, with SACK and without.
func TestPacingGaps(t *testing.T) {
	for name, c := range map[string]Config{"SACK": full(), "no SACK": plain()} {
		t.Run(name, func(t *testing.T) {
			const rate = 1e6 // a packet of 1460 octets each 1.46 ms
			s := established(t, paced(c, rate, 0), 65535, Options{MSS: 1460, SACKPermitted: !c.NoSACK})
			s.Write(s.now, make([]byte, 40*1460))
			var left []time.Duration
			var g Segment
			for len(left) < 40 {
				for s.Next(s.now, &g) {
					left = append(left, s.now)
				}
				if at, ok := s.Deadline(); ok && len(left) < 40 {
					if i := s.Info(); i.Limit != LimitedByPacing || i.PacingRate != rate {
						t.Fatalf("after %d segments: limited by %v at %d octets a second", len(left), i.Limit, i.PacingRate)
					}
					s.now = at
					s.Expire(at)
				}
			}
			burst := 0
			for burst < len(left) && left[burst] == left[0] {
				burst++
			}
			if want := int(pacingSlack/(1460*time.Microsecond)) + 1; burst != want {
				t.Errorf("%d segments left at once, want %d", burst, want)
			}
			for i := burst + 1; i < len(left); i++ {
				if gap := left[i] - left[i-1]; gap != 1460*time.Microsecond {
					t.Fatalf("segment %d left %v after the one before, want 1.46ms", i, gap)
				}
			}
		})
	}
}

// TestPacingKeepsUp: deadlines that are rounded up to ticks, and met late, do not lower the rate.
func TestPacingKeepsUp(t *testing.T) {
	const rate = 12.5e6 // a packet each 117 µs
	s := established(t, paced(full(), rate, 0), 65535, Options{MSS: 1460, HasScale: true, WindowScale: 10, SACKPermitted: true})
	ackAll := func() { s.Arrive(s.now, &Segment{Seq: 301, Ack: s.snd.nxt, Flags: ACK, Window: 65535}) }
	begin, sent, late := s.now, 0, 0
	var g Segment
	for s.now < begin+time.Second {
		s.Write(s.now, make([]byte, 256<<10))
		for s.Next(s.now, &g) {
			sent += g.TextLen()
		}
		ackAll()
		at, ok := s.Deadline()
		if !ok {
			t.Fatal("no deadline, though there is text to send")
		}
		late = (late + 7) % 20 // tenths of a millisecond
		s.now = max(s.now, (at+ms-1)/ms*ms+time.Duration(late)*ms/10)
		s.Expire(s.now)
	}
	if got := float64(sent) / (s.now - begin).Seconds(); got < 0.99*rate || got > 1.01*rate {
		t.Errorf("%.0f octets a second, want %.0f", got, float64(rate))
	}
}

// TestPacingQuantum: super-segments are 1 ms of the rate, and whole packets: two at the least and 64 KB at most.
func TestPacingQuantum(t *testing.T) {
	for _, tc := range []struct {
		rate int64
		want int
	}{
		{1, 2 * 1448}, {1e6, 2 * 1448}, {12.5e6, 8 * 1448}, {125e6, 44 * 1448}, {1250e6, 44 * 1448},
	} {
		c := paced(full(), tc.rate, 65000)
		s := established(t, c, 65535, Options{MSS: 1460, SACKPermitted: true, HasTimestamps: true, HasScale: true, WindowScale: 8})
		s.Write(s.now, make([]byte, 256<<10))
		var g Segment
		if !s.Next(s.now, &g) || g.TextLen() != tc.want {
			t.Errorf("at %d octets a second: %d octets in one segment, want %d", tc.rate, g.TextLen(), tc.want)
		}
	}
}

// TestPacingHoldsRetransmissions: what is sent again waits for its time as well.
func TestPacingHoldsRetransmissions(t *testing.T) {
	const rate = 1e5 // a packet each 14.6 ms
	s := established(t, paced(full(), rate, 0), 65535, Options{MSS: 1460, SACKPermitted: true})
	s.Write(s.now, make([]byte, 10*1460))
	var g Segment
	for n := 0; n < 10; {
		if s.Next(s.now, &g) {
			n++
			continue
		}
		s.now, _ = s.Deadline()
		s.Expire(s.now)
	}
	s.Arrive(s.now, &Segment{Seq: 301, Ack: 101, Flags: ACK, Window: 65535,
		Options: Options{SACK: [4]Block{{101 + 5*1460, 101 + 10*1460}}, Blocks: 1}})
	if s.board.lost != 5*1460 {
		t.Fatalf("%d octets are lost, want five packets", s.board.lost)
	}
	if s.Next(s.now, &g) {
		t.Fatalf("%v leaves at once", g.String())
	}
	before := s.now
	s.now, _ = s.Deadline()
	s.Expire(s.now)
	if !s.Next(s.now, &g) || g.Cause != CauseFast || s.now-before > 15*ms {
		t.Errorf("%v for %v after %v, want the first packet again within 14.6ms", g.String(), g.Cause, s.now-before)
	}
}

// TestNoPacing: CUBIC and NewReno name no rate, and a window leaves at once.
func TestNoPacing(t *testing.T) {
	for name, make := range windowed {
		if rate := make(mss).Pacing(); rate != 0 {
			t.Errorf("%s paces at %d octets a second", name, rate)
		}
	}
	s := plainly(t)
	s.write(14600)
	if n := s.Info().InFlight; n != 14600 {
		t.Errorf("%d octets leave at once, want the initial window", n)
	}
}

// TestCongestionNamed: each algorithm is found by the name that it says.
func TestCongestionNamed(t *testing.T) {
	for _, name := range []string{"reno", "cubic", "bbr"} {
		make, ok := CongestionNamed(name)
		if !ok || make(mss).Name() != name {
			t.Errorf("%s names no algorithm of that name", name)
		}
	}
	if _, ok := CongestionNamed("vegas"); ok {
		t.Error("vegas is found")
	}
}
