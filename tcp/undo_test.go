package tcp

import "testing"

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
