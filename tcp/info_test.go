package tcp

import "testing"

// TestInfoLimit: Info tells what holds text back.
func TestInfoLimit(t *testing.T) {
	nagle := plain()
	nagle.Nagle = true
	small := plain()
	small.WriteBuffer = 4096
	for _, tc := range []struct {
		name   string
		c      Config
		window uint16
		write  int
		want   Limit
	}{
		{"the user wrote nothing", plain(), 65535, 0, LimitedByUser},
		{"all that was written has left", plain(), 65535, 1000, LimitedByUser},
		{"and fills the buffer", small, 65535, 4096, LimitedByBuffer},
		{"the peer takes two packets", plain(), 2920, 20000, LimitedByPeer},
		{"the initial window is full", plain(), 65535, 20000, LimitedByWindow},
		{"half a packet behind another", nagle, 65535, 2190, LimitedByCoalescing},
		{"paced", paced(plain(), 1000, 0), 65535, 10000, LimitedByPacing},
	} {
		s := established(t, tc.c, tc.window, Options{MSS: 1460})
		s.write(tc.write)
		if got := s.Info().Limit; got != tc.want {
			t.Errorf("%s: limited by %v, want %v", tc.name, got, tc.want)
		}
	}
	s := opened(t, plain())
	if got := s.Info().Limit; got != NotSending || got.String() != "not sending" || Limit(200).String() != "unknown" {
		t.Errorf("in SYN-SENT it is limited by %v", got)
	}
}

// TestInfoCongestion: Info tells of the algorithm, and of what SACK and RACK know.
func TestInfoCongestion(t *testing.T) {
	s := sacking(t, 10, Options{})
	s.sack(2000, Block{5000, 10000})
	i := s.Info()
	if i.Congestion != "reno" || i.Phase != "congestion avoidance" || !i.Recovering || i.Sacked != 5000 || i.Reordering {
		t.Errorf("%+v; want NewReno in congestion avoidance and in recovery, 5000 octets SACKed, no reordering", i)
	}
	if i.Pipe+i.Lost != 3000 || i.InFlight != 8000 || i.MinRTT <= 0 {
		t.Errorf("%d octets in the network and %d lost of %d in flight, shortest RTT %v; want 3000 together of 8000",
			i.Pipe, i.Lost, i.InFlight, i.MinRTT)
	}
	if i != s.Info() {
		t.Error("Info cannot be compared")
	}
}
