package tcp

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// checkRecords compares x with the same records in a row, and looks at its leaves.
func checkRecords(t *testing.T, x *records, want []record) {
	t.Helper()
	if got := x.live(); x.n != len(want) || !slices.Equal(got, want) {
		t.Fatalf("%d records, %d by count, want %d:\n%v\nwant\n%v", len(got), x.n, len(want), got, want)
	}
	for i := x.first; i < len(x.leaves); i++ {
		l := &x.leaves[i]
		switch {
		case l.lo < 0 || l.hi > len(l.mem) || len(l.mem) > leafLen || l.len() <= 0 && x.n > 0:
			t.Fatalf("leaf %d is [%d, %d) of %d", i, l.lo, l.hi, len(l.mem))
		case i > x.first && l.from != l.mem[l.lo].from:
			t.Fatalf("leaf %d begins at %v, and its first record at %v", i, l.from, l.mem[l.lo].from)
		}
	}
	if most := len(x.leaves) - x.first + len(x.spare); most > 2*(2*maxRecords)/leafJoin+2 {
		t.Fatalf("%d leaves for %d records", most, x.n)
	}
}

// TestRecordsModel compares with a slice, through all that is done to records.
func TestRecordsModel(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 11))
		x := new(records)
		var want []record
		una, nxt := Seq(0xffff8000), Seq(0xffff8000)
		rare := 1 + r.IntN(40)
		for step := range 3000 {
			switch k := r.IntN(6); {
			case k < 2:
				n := 100 + Seq(r.IntN(100))
				*x.push(nxt) = record{from: nxt, to: nxt + n, resent: uint16(step)}
				want = append(want, record{from: nxt, to: nxt + n, resent: uint16(step)})
				nxt += n
			case len(want) == 0:
			case k == 2 && step%rare == 0:
				for range min(r.IntN(100), len(want)) {
					x.pop()
					una, want = want[0].to, want[1:]
				}
			case k == 3 && step%rare == 0:
				i := r.IntN(len(want))
				j := min(i+2+r.IntN(1+r.IntN(200)), len(want))
				if j-i < 2 {
					break
				}
				x.merge(x.find(want[i].from), x.find(want[j-1].to))
				want[i].to = want[j-1].to
				want = slices.Delete(want, i+1, j)
			default:
				at := una + Seq(r.IntN(nxt.From(una)))
				p := x.find(at)
				i := slices.IndexFunc(want, func(r record) bool { return at.Less(r.to) })
				if got := *x.at(p); got != want[i] {
					t.Fatalf("seed %d: find(%v) is %v, want %v", seed, at, got, want[i])
				}
				if at == want[i].from {
					break
				}
				p = x.divide(p, at)
				second := want[i]
				want[i].to, second.from = at, at
				want = slices.Insert(want, i+1, second)
				if q := x.next(p); *x.at(p) != want[i] || *x.at(q) != second {
					t.Fatalf("seed %d: divided at %v into %v and %v", seed, at, x.at(p), x.at(q))
				}
				if q, ok := x.prev(p); ok != (i > 0) || ok && *x.at(q) != want[i-1] {
					t.Fatalf("seed %d: before record %d stands %v (%v)", seed, i, x.at(q), ok)
				}
			}
			if step%10 == 0 {
				checkRecords(t, x, want)
			}
		}
		if x.at(x.find(nxt)) != nil {
			t.Fatalf("seed %d: find returns a record that ends at %v for the end", seed, x.at(x.find(nxt)).to)
		}
	}
}

// lookAtAll is detect as RFC 8985 §6.2 has it, over all records, and without a memory.
func (b *scoreboard) lookAtAll(now, window time.Duration) (lost []Seq, due time.Duration) {
	k := &b.rack
	for _, r := range b.live() {
		if r.fate&(fateSacked|fateLost) != 0 || !sentAfter(k.at, k.end, r.at, r.to) {
			continue
		}
		if at := r.at + k.rtt + window; at <= now {
			lost = append(lost, r.from)
		} else {
			due = max(due, at)
		}
	}
	return lost, due
}

// TestDetectRemembers: what detect remembers of leaves makes it find neither less nor other than a look at all records,
// whatever is reported, acknowledged, sent again, taken back or thrown away in between.
func TestDetectRemembers(t *testing.T) {
	passed := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 12))
		b := &scoreboard{}
		una, now := Seq(0xffff8000), ms
		if seed%2 == 0 {
			una = 0x90000000 // to which 0 is the future
		}
		nxt := una
		window := time.Duration(r.IntN(3)) * 100 * time.Microsecond
		for step := range 2000 {
			now += time.Duration(r.IntN(3)) * time.Microsecond
			d := delivery{now: now, mss: 100}
			switch k := r.IntN(40); {
			case k < 15 && b.n < 2*walkLimit:
				n := 100 * Seq(1+r.IntN(4))
				b.push(nxt, nxt+n, now)
				nxt += n
			case una == nxt:
			case k < 30:
				at := una + Seq(r.IntN(nxt.From(una)/100+1))*100
				if r.IntN(2) == 0 {
					at = minSeq(una+Seq(r.IntN(5000)), nxt)
				}
				b.report(Block{at, minSeq(at+100*Seq(1+r.IntN(3)), nxt)}, &d)
			case k < 32:
				if una = minSeq(una+Seq(r.IntN(400)), nxt); step%200 == 0 {
					una = nxt
				}
				b.acknowledge(una, &d)
			case k < 38:
				if p, l, ok := b.firstLost(); ok {
					b.resent(p, minSeq(l.Left+300, l.Right), now)
				}
			case step%20 == 0:
				b.unlose()
			case step%51 == 0:
				b.renege()
			case step%52 == 0:
				b.loseAll(now, now-500*time.Microsecond, r.IntN(2) == 0, nil)
			}
			for i := b.first; i < len(b.leaves); i++ {
				if l := &b.leaves[i]; l.known && l.newest < b.rack.at && l.oldest+b.rack.rtt+window > now {
					passed++
				}
			}
			first, ok := Seq(0), false
			for _, r := range b.live() {
				if ok = r.fate&fateLost != 0; ok {
					first = r.from
					break
				}
			}
			if _, l, found := b.firstLost(); found != ok || ok && l.Left != first {
				t.Fatalf("seed %d, step %d: the first lost is %v (%v), want %v (%v)", seed, step, l.Left, found, first, ok)
			}
			before := b.lost
			want, due := b.lookAtAll(now, window)
			lost, again := b.detect(now, window)
			for calls := 0; b.rack.parted; calls++ {
				var more int
				if more, again = b.detect(now, window); calls > 2*2*walkLimit/leafLen {
					t.Fatalf("seed %d, step %d: a look at %d records does not end", seed, step, b.n)
				}
				lost += more
			}
			n := 0
			for _, s := range want {
				if at := b.at(b.find(s)); at.fate&fateLost == 0 {
					t.Fatalf("seed %d, step %d: %v is not found lost", seed, step, *at)
				}
				n += b.at(b.find(s)).octets()
			}
			if b.rack.rtt != 0 && (lost != n || b.lost-before != n) {
				t.Fatalf("seed %d, step %d: %d octets are lost, want %d", seed, step, lost, n)
			}
			if wait := max(due-now, 0); b.rack.rtt != 0 && again != wait {
				t.Fatalf("seed %d, step %d: the next look is after %v, want %v", seed, step, again, wait)
			}
		}
	}
	if passed == 0 {
		t.Error("no leaf was ever passed over")
	}
}
