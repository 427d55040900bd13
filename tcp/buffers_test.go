package tcp

import (
	"testing"
	"time"
)

// fill has the peer send all that the window allows, once in each round trip, as one segment for each 1,448 octets that
// echoes what we said last. read says how many octets the user takes then. It returns the window after each round trip.
func fill(t *testing.T, c Config, o Options, rtt time.Duration, rounds int, set func(*script), read func(unread int) int) (windows []int) {
	t.Helper()
	s := established(t, c, 65535, o)
	if set != nil {
		set(s)
	}
	seq, echo := Seq(301), uint32(0)
	b := make([]byte, 16<<20)
	for range rounds {
		s.now += rtt
		edge := s.rcv.edge
		for seq.Less(edge) {
			n := min(1448, edge.From(seq))
			g := Segment{Seq: seq, Ack: 101, Flags: ACK, Window: 65535, Text: [][]byte{b[:n]}}
			if o.HasTimestamps {
				g.Options = Options{HasTimestamps: true, TSVal: ticks(s.now), TSEcr: echo}
			}
			if ev := s.Arrive(s.now, &g); ev.Drop() != DropNone {
				t.Fatalf("%v was dropped: %v", g, ev.Drop())
			}
			seq += Seq(n)
			s.flush()
		}
		s.Read(s.now, b[:read(s.Buffered())])
		s.flush()
		echo = ticks(s.now)
		s.sent = nil
		if s.rcv.edge.Less(edge) {
			t.Fatalf("the right edge went back from %v to %v", edge, s.rcv.edge)
		}
		windows = append(windows, s.rcv.edge.From(s.rcv.nxt))
	}
	return windows
}

// TestReceiveWindowFollowsTheReader: the window becomes twice what the user takes in a round trip, and more while that
// grows, no more than Config allows, and stays where the user takes nothing more, or has set it.
func TestReceiveWindowFollowsTheReader(t *testing.T) {
	all := func(n int) int { return n }
	stamps := Options{MSS: 1460, HasScale: true, HasTimestamps: true}
	plain := Options{MSS: 1460, HasScale: true}
	for name, c := range map[string]struct {
		config Config
		o      Options
		rtt    time.Duration
		set    func(*script)
		read   func(int) int
		want   int // the window in the end, to the granularity of its scale
	}{
		"who reads all":              {Config{MTU: 1480}, stamps, 20 * ms, nil, all, DefaultBuffer},
		"without timestamps":         {Config{MTU: 1480}, plain, 200 * ms, nil, all, DefaultBuffer},
		"as far as Config says":      {Config{MTU: 1480, ReadBuffer: 500000}, stamps, 20 * ms, nil, all, 500000},
		"little from the start":      {Config{MTU: 1480, ReadBuffer: 50000}, stamps, 20 * ms, nil, all, 50000},
		"who reads 100 KB at a time": {Config{MTU: 1480}, stamps, 20 * ms, nil, func(n int) int { return min(n, 100000) }, 100000},
		"who reads nothing":          {Config{MTU: 1480}, stamps, 20 * ms, nil, func(int) int { return 0 }, 0},
		"who has set it":             {Config{MTU: 1480}, stamps, 20 * ms, func(s *script) { s.SetBuffers(s.now, 300000, 0) }, all, 300000},
	} {
		t.Run(name, func(t *testing.T) {
			w := fill(t, c.config, c.o, c.rtt, 12, c.set, c.read)
			if got := w[len(w)-1]; got > c.want || got < c.want-c.want/50 {
				t.Errorf("the window is %d in the end, want %d: %v", got, c.want, w)
			}
			for i, n := range w[1:] {
				if i > 0 && n > 6*w[i] {
					t.Errorf("the window grew from %d to %d in one round trip", w[i], n)
				}
			}
		})
	}
}

// TestSendBufferFollowsTheWindow: what a user can write grows with the congestion window, unless it was set.
func TestSendBufferFollowsTheWindow(t *testing.T) {
	for _, fixed := range []int{0, 200000} {
		s := established(t, full(), 65535, Options{MSS: 1460, HasScale: true, WindowScale: 7})
		s.SetBuffers(s.now, 0, fixed)
		text := make([]byte, 8<<20)
		if n, want := s.Write(s.now, text), max(fixed, initialBuffer); n != want {
			t.Fatalf("the first Write took %d octets, want %d", n, want)
		}
		for range 400 {
			s.flush()
			s.sent = nil
			s.now += 10 * ms
			s.Arrive(s.now, &Segment{Seq: 301, Ack: s.snd.nxt, Flags: ACK, Window: 65535})
			s.Write(s.now, text)
		}
		cwnd := s.Info().Cwnd
		want := min(2*cwnd, DefaultBuffer)
		if fixed != 0 {
			want = fixed
		}
		if got := s.sendq.end.From(s.sendq.start); got != want || cwnd < initialBuffer {
			t.Errorf("with a window of %d, %d octets wait to be sent, want %d", cwnd, got, want)
		}
	}
}
