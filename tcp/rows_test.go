package tcp

import (
	"fmt"
	"testing"
)

// TestC66Acceptability is Table 6 of RFC 9293 §3.10.7.4, octet by octet: what is accepted, and what is answered. A reset
// is never answered outside of the window.
func TestC66Acceptability(t *testing.T) {
	const wnd = 100
	for _, x := range []struct {
		name string
		at   int // against RCV.NXT
		n    int // octets
		open bool
		ok   bool // with the window open or closed
	}{
		{"nothing, left", -1, 0, true, false},
		{"nothing, left edge", 0, 0, true, true},
		{"nothing, mid", 50, 0, true, true},
		{"nothing, right - 1", wnd - 1, 0, true, true},
		{"nothing, right", wnd, 0, true, true}, // a departure: see atEdge
		{"nothing, right + 1", wnd + 1, 0, true, false},
		{"nothing, far", 1 << 30, 0, true, false},
		{"text, left", -10, 10, true, false},
		{"text, over the left edge", -10, 11, true, true},
		{"text, left edge", 0, 10, true, true},
		{"text, mid", 50, 10, true, true},
		{"text, right - 1", wnd - 1, 1, true, true},
		{"text, over the right edge", wnd - 1, 10, true, true},
		{"text, right", wnd, 1, true, false},
		{"text, far", 1 << 30, 10, true, false},
		{"text, the whole window and more", -10, wnd + 20, true, false}, // neither end is in it: as the table has it
		{"closed: nothing, left", -1, 0, false, false},
		{"closed: nothing at RCV.NXT", 0, 0, false, true},
		{"closed: nothing, right", 1, 0, false, false},
		{"closed: text at RCV.NXT", 0, 1, false, false},
		{"closed: text, left", -1, 1, false, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			at := func() *script {
				c := plain()
				c.ReadBuffer = wnd
				s := established(t, c, 65535, Options{MSS: 1460})
				if !x.open {
					s.text(301, wnd)
					s.wait(50 * ms)
				}
				s.take()
				return s
			}
			s := at()
			before := s.rcv.nxt
			ev := s.text(s.rcv.nxt+Seq(x.at), x.n)
			if got := ev.Drop() != DropWindow; got != x.ok {
				t.Errorf("accepted: %v, want %v", got, x.ok)
			}
			if sent := s.take(); !x.ok && (len(sent) != 1 || sent[0].String() != fmt.Sprintf("<SEQ=101><ACK=%v><CTL=ACK>", before)) {
				t.Errorf("answered by %v, want one acknowledgement of %v", sent, before)
			}
			if !x.ok && s.rcv.nxt != before {
				t.Errorf("RCV.NXT went from %v to %v", before, s.rcv.nxt)
			}
			s = at()
			inside := x.at == 0 || x.open && x.at >= 0 && x.at < wnd
			s.arrive(Segment{Seq: s.rcv.nxt + Seq(x.at), Flags: RST, Text: [][]byte{letters(0, x.n)}})
			if sent := s.take(); !inside && len(sent) > 0 {
				t.Errorf("a reset is answered by %v", sent)
			}
			if got := s.State() == Closed; got != (x.at == 0) {
				t.Errorf("a reset closes: %v", got)
			}
		})
	}
}

// TestC1LargeWindow: MUST-1, REC-1: a window of far more than 65535 octets, and than 2^30, is used as such.
func TestC1LargeWindow(t *testing.T) {
	c := plain()
	c.NoScale, c.WriteBuffer = false, 4<<20
	s := established(t, c, 65535, Options{MSS: 1460, HasScale: true, WindowScale: 14})
	s.ack(101)
	most := 0
	for range 20 {
		s.write(2 << 20)
		most = max(most, s.Info().InFlight)
		if most >= 1<<20 {
			return
		}
		sent := s.take()
		s.now += ms
		for _, g := range sent {
			s.ack(g.End())
		}
	}
	t.Errorf("at most %d octets in flight, want 1 MiB; %+v", most, s.Info())
}
