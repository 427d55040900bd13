package tcp

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// live are the records in a row.
func (x *records) live() (all []record) {
	for p := x.begin(); x.at(p) != nil; p = x.next(p) {
		all = append(all, *x.at(p))
	}
	return all
}

// naive is a scoreboard of single octets.
type naive struct {
	una, nxt     Seq
	sacked, lost map[Seq]bool
}

// TestC102C104Scoreboard plays at random what a sender and its peer may do, and compares with single octets.
func TestC102C104Scoreboard(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		const start = Seq(0xffffff00) // it wraps
		b := &scoreboard{}
		n := naive{una: start, nxt: start, sacked: map[Seq]bool{}, lost: map[Seq]bool{}}
		for step := range 400 {
			now := (1 + Seq(step/3)).at()
			d := delivery{now: now}
			want := 0
			deliver := func(s Seq) {
				if !n.sacked[s] {
					want++
				}
				n.sacked[s] = true
				delete(n.lost, s)
			}
			switch outstanding := n.nxt.From(n.una); r.IntN(6) {
			case 0, 1:
				k := Seq(1 + r.IntN(30))
				b.push(n.nxt, n.nxt+k, now)
				n.nxt += k
			case 2:
				to := n.una + Seq(r.IntN(outstanding/4+1))
				for s := n.una; s != to; s++ {
					deliver(s)
					delete(n.sacked, s)
				}
				n.una = to
				b.acknowledge(to, &d)
			case 3:
				k := Block{n.una + Seq(r.IntN(outstanding+1)), n.nxt}
				k.Right = k.Left + Seq(r.IntN(n.nxt.From(k.Left)+1))
				for s := k.Left; s != k.Right; s++ {
					deliver(s)
				}
				if k.Left != k.Right {
					b.report(k, &d)
					b.report(k, &d) // once more says nothing
				}
			case 4:
				if outstanding > 0 {
					p := b.find(n.una + Seq(r.IntN(outstanding)))
					for s := b.at(p).from; s != b.at(p).to; s++ {
						if !n.sacked[s] {
							n.lost[s] = true
						}
					}
					b.lose(p)
				}
			case 5:
				if p, k, ok := b.firstLost(); ok {
					k.Right = k.Left + 1 + Seq(r.IntN(k.Right.From(k.Left)))
					for s := k.Left; s != k.Right; s++ {
						if !n.lost[s] {
							t.Fatalf("seed %d: %v is to be sent again, and %v is not lost", seed, k, s)
						}
						delete(n.lost, s)
					}
					b.resent(p, k.Right, now)
				}
			}
			if d.octets != want {
				t.Fatalf("seed %d, step %d: %d octets delivered, want %d", seed, step, d.octets, want)
			}
			n.check(t, b, seed)
		}
	}
}

func (n *naive) check(t *testing.T, b *scoreboard, seed uint64) {
	t.Helper()
	at := n.una
	for _, r := range b.live() {
		if r.from != at || !r.from.Less(r.to) {
			t.Fatalf("seed %d: %v begins at %v, want %v", seed, r, r.from, at)
		}
		for ; at != r.to; at++ {
			if n.sacked[at] != (r.fate&fateSacked != 0) || n.lost[at] != (r.fate&fateLost != 0) {
				t.Fatalf("seed %d: octet %v in %+v: sacked %v, lost %v", seed, at, r, n.sacked[at], n.lost[at])
			}
		}
	}
	if at != n.nxt || b.total != n.nxt.From(n.una) || b.sacked != len(n.sacked) || b.lost != len(n.lost) {
		t.Fatalf("seed %d: ends at %v, %d octets, %d sacked, %d lost; want %v, %d, %d, %d", seed, at, b.total, b.sacked, b.lost,
			n.nxt, n.nxt.From(n.una), len(n.sacked), len(n.lost))
	}
	first := n.nxt
	for s := range n.lost {
		first = minSeq(first, s)
	}
	if _, k, ok := b.firstLost(); ok != (len(n.lost) > 0) || ok && k.Left != first {
		t.Fatalf("seed %d: the first lost is %v (%v), want %v", seed, k, ok, first)
	}
	sacked := func(r record) bool { return r.fate&fateSacked != 0 }
	if i := slices.IndexFunc(b.live(), sacked); i >= 0 && i+1 < len(b.live()) && sacked(b.live()[i+1]) {
		t.Fatalf("seed %d: two records in a row that SACK reported", seed)
	}
}

// TestA19ScoreboardIsBounded: a peer that reports every other octet makes neither memory nor work without end.
func TestA19ScoreboardIsBounded(t *testing.T) {
	b := &scoreboard{}
	for i := range Seq(100000) {
		b.push(i*100, i*100+100, (i + 1).at())
	}
	if n := len(b.live()); n > maxRecords {
		t.Fatalf("%d records of what was sent, want at most %d", n, maxRecords)
	}
	d := delivery{now: Seq(200000).at()}
	for i := Seq(1); i < 100000; i += 2 {
		b.report(Block{i, i + 1}, &d)
	}
	if n := len(b.live()); n > 2*maxRecords+2 {
		t.Errorf("%d records after nonsense, want at most %d", n, 2*maxRecords+2)
	}
	b.acknowledge(100000*100, &d)
	if len(b.live()) != 0 || b.pipe() != 0 || b.sacked != 0 || b.lost != 0 {
		t.Errorf("all is acknowledged, and %d records stay, %d octets in flight", len(b.live()), b.pipe())
	}
}
