//go:build !race

package tcp

import "testing"

func TestPipeAllocates(t *testing.T) {
	var p pipe
	var free *Chunk
	b := make([]byte, 1000)
	m := NewChunk(SmallChunk)
	views := make([][]byte, 0, 4)
	if n := testing.AllocsPerRun(100, func() {
		p.give(m, 500)
		p.append(heapMemory{}, b)
		views = p.views(views[:0], p.start, 1500)
		p.copyTo(b, p.start, 1000)
		p.discard(p.end, &free)
		free = nil
	}); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
}

// TestSegmentAllocates: a Segment that is kept allocates nothing, neither read nor written.
func TestSegmentAllocates(t *testing.T) {
	in := Segment{Seq: 1, Ack: 2, Flags: ACK, Options: Options{HasTimestamps: true, TSVal: 1, TSEcr: 2, Blocks: 3}}
	b := make([]byte, MaxHeaderLen+10)
	s := Segment{Text: make([][]byte, 0, 1)}
	if n := testing.AllocsPerRun(100, func() {
		k := in.Encode(b, Ports{1, 2})
		if _, err := s.Decode(b[:k+10]); err != nil || s.TextLen() != 10 {
			t.Fatalf("Decode: %v, %d octets of text", err, s.TextLen())
		}
	}); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
}

// TestRangesAllocate: holes that come and go in a set that is kept allocate nothing.
func TestRangesAllocate(t *testing.T) {
	x := &ranges{}
	var o Options
	at := Seq(0)
	round := func() {
		for i := range Seq(8) {
			x.add(Block{at + 10 + 20*i, at + 20 + 20*i})
		}
		o.Blocks = 0
		x.sack(&o)
		x.add(Block{at, at + 1000})
		at = x.takeFrom(at)
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations a round, want 0", n)
	}
}
