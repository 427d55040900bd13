//go:build !race

package tcp

import "testing"

// TestBBRAllocates: a paced flow with losses allocates nothing a segment, once it runs.
func TestBBRAllocates(t *testing.T) {
	c := full()
	c.Memory = &pool{}
	c.Congestion = NewBBR
	s := established(t, c, 65535, Options{MSS: 1460, SACKPermitted: true, HasScale: true, WindowScale: 8})
	b := make([]byte, 14600)
	in := Segment{Flags: ACK, Window: 65535}
	var out Segment
	sent := 0
	flush := func() {
		for range 100 {
			if s.Next(s.now, &out) {
				sent++
				continue
			}
			at, ok := s.Deadline()
			if !ok || !s.snd.held {
				return
			}
			s.now = at
			s.Expire(at)
		}
	}
	round := func() {
		una := s.snd.una
		s.Write(s.now, b)
		flush()
		s.now += 10 * ms
		in.Seq, in.Ack = s.rcv.nxt, una
		for k := una + 2920; k.LessEq(s.snd.nxt); k += 1460 {
			in.Options.SACK[0], in.Options.Blocks = Block{una + 1460, k}, 1
			s.Arrive(s.now, &in)
			flush()
		}
		s.now += 10 * ms
		in.Ack, in.Options.Blocks = s.snd.nxt, 0
		s.Arrive(s.now, &in)
		flush()
	}
	for range 20 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
	if sent < 1000 || s.snd.again < 100 {
		t.Errorf("only %d segments were sent, %d of them again", sent, s.snd.again)
	}
}
