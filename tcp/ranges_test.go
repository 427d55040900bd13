package tcp

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRangesModel compares a set with a map of octets through random operations across the wrap.
func TestRangesModel(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		base := Seq(0xffffff00)
		x, want := &ranges{}, map[Seq]bool{}
		for range 600 {
			b := Block{Left: base + Seq(rnd.IntN(700))}
			b.Right = b.Left + Seq(rnd.IntN(12))
			switch rnd.IntN(8) {
			case 0:
				at := base + Seq(rnd.IntN(60))
				end := at
				for want[end] {
					end++
				}
				if got := x.takeFrom(at); got != end {
					t.Fatalf("seed %d: takeFrom(%v) = %v, want %v in %v", seed, at, got, end, x.r)
				}
				for s := base; s.Less(end); s++ {
					delete(want, s)
				}
				// A block that begins before at ends before at, or is part of what was taken.
				base = at
			case 1, 2:
				h, ok := x.hole(b)
				l := b.Left
				for l.Less(b.Right) && want[l] {
					l++
				}
				r := l
				for r.Less(b.Right) && !want[r] {
					r++
				}
				if ok != l.Less(b.Right) || ok && h != (Block{l, r}) {
					t.Fatalf("seed %d: hole(%v) = %v %v, want %v in %v", seed, b, h, ok, Block{l, r}, x.r)
				}
			default:
				if !x.add(b) {
					t.Fatalf("seed %d: add(%v) refused with %d blocks", seed, b, x.len())
				}
				for s := b.Left; s.Less(b.Right); s++ {
					want[s] = true
				}
			}
			checkRanges(t, x, want, base)
		}
	}
}

func checkRanges(t *testing.T, x *ranges, want map[Seq]bool, base Seq) {
	t.Helper()
	if x.bytes() != len(want) {
		t.Fatalf("%d octets, want %d: %v", x.bytes(), len(want), x.r)
	}
	for i, b := range x.r {
		if !b.Left.Less(b.Right) || i > 0 && !x.r[i-1].Right.Less(b.Left) {
			t.Fatalf("block %d of %v is empty, or touches the one before", i, x.r)
		}
	}
	for s := base; s.Less(base + 720); s++ {
		if b, ok := x.block(s); ok != want[s] || ok && !s.In(b.Left, b.Right) {
			t.Fatalf("block(%v) = %v %v, want %v in %v", s, b, ok, want[s], x.r)
		}
	}
}

func TestRangesNilIsEmpty(t *testing.T) {
	var x *ranges
	var o Options
	x.sack(&o)
	x.reset()
	h, ok := x.hole(Block{3, 9})
	if x.len() != 0 || x.bytes() != 0 || o.Blocks != 0 || x.takeFrom(7) != 7 || !ok || h != (Block{3, 9}) {
		t.Errorf("a nil set: len %d, bytes %d, %d SACK blocks, takeFrom(7) %v, hole %v %v", x.len(), x.bytes(), o.Blocks,
			x.takeFrom(7), h, ok)
	}
}

func TestRangesBound(t *testing.T) {
	x := &ranges{}
	for i := range maxRanges {
		if !x.add(Block{Seq(10 * i), Seq(10*i + 5)}) {
			t.Fatalf("block %d of %d refused", i, maxRanges)
		}
	}
	before := slices.Clone(x.r)
	if x.add(Block{10*maxRanges + 100, 10*maxRanges + 101}) || !slices.Equal(x.r, before) {
		t.Errorf("one block too many was taken, or changed the set: %d blocks", x.len())
	}
	if !x.add(Block{5, 10}) || x.len() != maxRanges-1 {
		t.Errorf("a block that closes a hole was refused in a full set: %d blocks", x.len())
	}
	if !x.add(Block{10, 12}) {
		t.Errorf("a block that is there already was refused")
	}
}

// RFC 2018 §4: the first block holds what arrived last, then come the most recently reported ones.
func TestRangesSACKOrder(t *testing.T) {
	b := func(l, r Seq) Block { return Block{l, r} }
	for _, tt := range []struct {
		name string
		add  []Block
		take Seq
		dup  []Block // what the option carries already
		want []Block
	}{
		{"RFC 2018 §8 case 2: the first of eight is lost", []Block{b(5500, 6000), b(6000, 6500), b(6500, 7000)}, 5000, nil,
			[]Block{b(5500, 7000)}},
		{"RFC 2018 §8 case 3: every other one is lost", []Block{b(5500, 6000), b(6500, 7000), b(7500, 8000), b(8500, 9000)}, 5000,
			nil, []Block{b(8500, 9000), b(7500, 8000), b(6500, 7000), b(5500, 6000)}},
		{"five: the one reported longest ago goes", []Block{b(10, 11), b(20, 21), b(30, 31), b(40, 41), b(50, 51)}, 0, nil,
			[]Block{b(50, 51), b(40, 41), b(30, 31), b(20, 21)}},
		{"a block that grows comes first", []Block{b(10, 11), b(20, 21), b(30, 31), b(11, 12)}, 0, nil,
			[]Block{b(10, 12), b(30, 31), b(20, 21)}},
		{"a merge is reported once", []Block{b(10, 11), b(12, 13), b(20, 21), b(11, 12)}, 0, nil,
			[]Block{b(10, 13), b(20, 21)}},
		{"a duplicate comes first as well", []Block{b(10, 15), b(20, 21), b(12, 13)}, 0, nil, []Block{b(10, 15), b(20, 21)}},
		{"what was delivered is not reported", []Block{b(20, 21), b(10, 11), b(30, 31)}, 10, nil, []Block{b(30, 31), b(20, 21)}},
		{"blocks forgotten come after those remembered", []Block{b(10, 11), b(50, 51), b(20, 21), b(30, 31), b(40, 41), b(5, 6)}, 41,
			nil, []Block{b(50, 51)}},
		{"a block that grows all the time leaves the order of the others", []Block{b(10, 11), b(20, 21), b(30, 31), b(31, 32),
			b(32, 33), b(33, 34)}, 0, nil, []Block{b(30, 34), b(20, 21), b(10, 11)}},
		{"RFC 2883 §4: behind a duplicate", []Block{b(10, 11), b(20, 21), b(30, 31), b(40, 41)}, 0, []Block{b(20, 21)},
			[]Block{b(20, 21), b(40, 41), b(30, 31), b(20, 21)}},
		{"across the wrap", []Block{b(0xfffffff0, 0xfffffff8), b(5, 9), b(0xfffffffc, 2)}, 0xffffff00, nil,
			[]Block{b(0xfffffffc, 2), b(5, 9), b(0xfffffff0, 0xfffffff8)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := &ranges{}
			for _, b := range tt.add {
				x.add(b)
			}
			x.takeFrom(tt.take)
			var o Options
			o.Blocks = uint8(copy(o.SACK[:], tt.dup))
			x.sack(&o)
			if got := o.SACK[:o.Blocks]; !slices.Equal(got, tt.want) {
				t.Errorf("SACK %v, want %v", got, tt.want)
			}
		})
	}
}
