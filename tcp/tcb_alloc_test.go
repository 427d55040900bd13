//go:build !race

package tcp

import "testing"

// pool is a Memory that keeps what comes back.
type pool struct{ small, large []*Chunk }

func (p *pool) Borrow(n int) *Chunk {
	list := &p.small
	if n > SmallChunk {
		list = &p.large
	}
	if k := len(*list); k > 0 {
		c := (*list)[k-1]
		*list = (*list)[:k-1]
		return c
	}
	return NewChunk(n)
}

func (p *pool) Return(c *Chunk) {
	if len(c.Bytes) > SmallChunk {
		p.large = append(p.large, c)
	} else {
		p.small = append(p.small, c)
	}
}

// TestTCBAllocates: text in both directions, with holes and acknowledgements, allocates nothing.
func TestTCBAllocates(t *testing.T) {
	c := full()
	c.Memory = &pool{}
	s := established(t, c, 65535, Options{MSS: 1460, SACKPermitted: true})
	b := make([]byte, 4096)
	in := Segment{Flags: ACK, Window: 65535, Text: [][]byte{b[:1000]}}
	var out Segment
	sent := 0
	round := func() {
		s.now += ms
		s.Write(s.now, b)
		for s.Next(s.now, &out) {
			sent++
		}
		in.Seq, in.Ack = s.rcv.nxt+1000, s.snd.nxt
		s.Arrive(s.now, &in)
		for s.Next(s.now, &out) {
			sent++
		}
		in.Seq -= 1000
		s.Arrive(s.now, &in)
		for s.Next(s.now, &out) {
			sent++
		}
		if n := s.Read(s.now, b); n != 2000 {
			t.Fatalf("read %d octets, want 2000", n)
		}
	}
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
	if sent < 1000 {
		t.Errorf("only %d segments were sent", sent)
	}
}

// TestRecoveryAllocates: holes that SACK reports, and what is sent again for them, allocate nothing once there was one.
func TestRecoveryAllocates(t *testing.T) {
	c := full()
	c.Memory = &pool{}
	s := established(t, c, 65535, Options{MSS: 1460, SACKPermitted: true})
	b := make([]byte, 14600)
	in := Segment{Flags: ACK, Window: 65535}
	var out Segment
	again := 0
	flush := func() {
		for s.Next(s.now, &out) {
			if out.Cause == CauseFast {
				again++
			}
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
	for range 10 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
	if again < 100 {
		t.Errorf("only %d segments were sent again", again)
	}
}
