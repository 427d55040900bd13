package tcp

import (
	"testing"
	"time"
)

// TestUndoBeforeRetransmission: what was taken for lost arrives before it is sent again, as where two acknowledgements come
// in one batch: the reduction was for nothing (RFC 4015).
func TestUndoBeforeRetransmission(t *testing.T) {
	s := sacking(t, 10, Options{})
	before := s.cc.Window()
	hole := Segment{Seq: s.rcv.nxt, Ack: 101, Flags: ACK, Window: 65535}
	hole.Options.SACK[0], hole.Options.Blocks = Block{101 + 1000, 101 + 6000}, 1
	s.Arrive(s.now, &hole)
	if !s.snd.recovering || s.cc.Ssthresh() == 0 {
		t.Fatalf("five segments arrived above a hole: ssthresh %d, want a recovery", s.cc.Ssthresh())
	}
	s.Arrive(s.now, &Segment{Seq: s.rcv.nxt, Ack: 101 + 6000, Flags: ACK, Window: 65535})
	if s.snd.recovering || s.cc.Ssthresh() != 0 || s.cc.Window() < before {
		t.Errorf("the first arrived after all: window %d, ssthresh %d, recovering %v; want %d and no threshold",
			s.cc.Window(), s.cc.Ssthresh(), s.snd.recovering, before)
	}
	if g := s.take(); len(seqs(g)) != 0 {
		t.Errorf("sent again: %v", g)
	}
}

// TestStampTicksSlowerWhereThePathReorders: once reordering was seen, the timestamps' clock ticks once in a quarter of the
// shortest round trip, a half after a D-SACK, so that a packet that is late by less has no older timestamp than a
// retransmission that overtakes it. It never goes back.
func TestStampTicksSlowerWhereThePathReorders(t *testing.T) {
	for _, x := range []struct {
		name       string
		rtt        time.Duration
		reordering bool
		from       time.Duration
		tick       uint32
		mult       uint8 // RACK.reo_wnd_mult
	}{
		{"in order", 40 * ms, false, time.Second, 1, 0},
		{"40 ms", 40 * ms, true, time.Second, 10, 0},
		{"40 ms, as the clock begins", 40 * ms, true, 3 * ms, 10, 0},
		{"40 ms, after a D-SACK", 40 * ms, true, time.Second, 20, 2},
		{"40 ms, after many", 40 * ms, true, time.Second, 20, 9},
		{"as its counter wraps", 40 * ms, true, 1<<32*ms - 25*ms, 10, 0},
		{"below the clock's resolution", 3 * ms, true, time.Second, 1, 0},
		{"a second at most", time.Minute, true, time.Second, 1000, 0},
	} {
		tcb := &TCB{board: &scoreboard{}}
		tcb.rtt.min, tcb.board.rack.reordering, tcb.board.rack.windowMult = x.rtt, x.reordering, x.mult
		first := tcb.stamp(x.from)
		if first != ticks(x.from) {
			t.Errorf("%s: it begins with %d, want %d", x.name, first, ticks(x.from))
		}
		last := first
		for at := x.from; at < x.from+5*time.Second; at += ms {
			n := tcb.stamp(at)
			if n-first != ticks(at-x.from)/x.tick*x.tick || tcb.stamp(at) != n {
				t.Fatalf("%s: after %v it has gone on by %d, want by %d at once", x.name, at-x.from, n-first, x.tick)
			}
			if n-last > x.tick {
				t.Fatalf("%s: from %d to %d", x.name, last, n)
			}
			last = n
		}
	}
}
