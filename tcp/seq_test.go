package tcp

import "testing"

// RFC 9293 §3.4: comparison is modulo 2³², and a length is never taken across an order that does not hold.
func TestSeqOrder(t *testing.T) {
	for _, tt := range []struct {
		a, b         Seq
		less, lessEq bool
		from         int // of b behind a
	}{
		{0, 0, false, true, 0},
		{1, 2, true, true, 1},
		{2, 1, false, false, 0},
		{0xffffffff, 0, true, true, 1},
		{0, 0xffffffff, false, false, 0},
		{0xfffffff0, 0x10, true, true, 0x20},
		{5, 5 + 1<<31 - 1, true, true, 1<<31 - 1},
		{5 + 1<<31 - 1, 5, false, false, 0},
	} {
		if tt.a.Less(tt.b) != tt.less || tt.a.LessEq(tt.b) != tt.lessEq || tt.b.From(tt.a) != tt.from {
			t.Errorf("%v and %v: Less %v, LessEq %v, From %d; want %v, %v, %d", tt.a, tt.b, tt.a.Less(tt.b), tt.a.LessEq(tt.b),
				tt.b.From(tt.a), tt.less, tt.lessEq, tt.from)
		}
		lo, hi := tt.a, tt.b
		if tt.b.Less(tt.a) {
			lo, hi = tt.b, tt.a
		}
		if minSeq(tt.a, tt.b) != lo || maxSeq(tt.a, tt.b) != hi || minSeq(tt.b, tt.a) != lo || maxSeq(tt.b, tt.a) != hi {
			t.Errorf("min and max of %v and %v: %v and %v", tt.a, tt.b, minSeq(tt.a, tt.b), maxSeq(tt.a, tt.b))
		}
	}
}

func TestSeqIn(t *testing.T) {
	for _, tt := range []struct {
		s, lo, hi Seq
		want      bool
	}{
		{5, 5, 6, true}, {6, 5, 6, false}, {4, 5, 6, false}, {5, 5, 5, false}, {4, 5, 5, false},
		{0xffffffff, 0xfffffff0, 5, true}, {0, 0xfffffff0, 5, true}, {5, 0xfffffff0, 5, false}, {0xffffffef, 0xfffffff0, 5, false},
	} {
		if got := tt.s.In(tt.lo, tt.hi); got != tt.want {
			t.Errorf("%v in [%v, %v): %v", tt.s, tt.lo, tt.hi, got)
		}
	}
}

// TestNames: each value of an enumeration has a name of its own, and what is none says so.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		kind string
		n    int // values
		name func(i int) string
		none string
	}{
		{"State", int(TimeWait) + 1, func(i int) string { return State(i).String() }, "UNKNOWN"},
		{"Cause", int(CauseMTUProbe) + 1, func(i int) string { return Cause(i).String() }, "unknown"},
		{"Drop", int(NumDrops), func(i int) string { return Drop(i).String() }, "unknown"},
		{"Reason", int(TooBig) + 1, func(i int) string { return Reason(i).String() }, "unknown"},
	} {
		seen := map[string]int{}
		for i := range tt.n {
			s := tt.name(i)
			if j, twice := seen[s]; twice || s == tt.none {
				t.Errorf("%s %d is called %q, as %d is", tt.kind, i, s, j)
			}
			seen[s] = i
		}
		if s := tt.name(tt.n); s != tt.none {
			t.Errorf("%s %d is called %q, want %q", tt.kind, tt.n, s, tt.none)
		}
	}
	for _, tt := range []struct{ got, want string }{{TimeWait.String(), "TIME-WAIT"}, {FinWait1.String(), "FIN-WAIT-1"},
		{CauseReset.String(), "reset"}, {DropNotice.String(), "notice"}, {DropPAWS.String(), "paws"}, {TooBig.String(), "too big"}} {
		if tt.got != tt.want {
			t.Errorf("name %q, want %q", tt.got, tt.want)
		}
	}
}

// TestEvent: news and the check that refused a segment do not disturb each other.
func TestEvent(t *testing.T) {
	for d := range NumDrops {
		e := Readable | Waiting | d.event()
		if e.Drop() != d || !e.Has(Readable) || !e.Has(Readable|Waiting) || e.Has(Writable) || e.Has(Readable|Opened) {
			t.Errorf("%v with news: drop %v, bits %#x", d, e.Drop(), uint32(e))
		}
	}
}
