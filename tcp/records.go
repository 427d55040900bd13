package tcp

import (
	"slices"
	"time"
)

// records are what a scoreboard knows of: sorted, and none left out between the first and the last. They stand in leaves
// of up to leafLen, so that to divide one or to join some moves those of one leaf, however many there are.
type records struct {
	leaves  []leaf // leaves[first:] are in use; none of them is empty, but where it is the only one
	first   int
	n       int        // records in all
	changed bool       // some record that was known to be in doubt is not any more, or some other is
	spare   [][]record // memory of leaves that have gone
	own     struct {   // enough for a request or an answer
		leaf [1]leaf
		mem  [8]record
	}
}

const (
	// leafLen records are 2,560 octets: half of them are moved in some 30 ns, and 16,384 stand in a few hundred leaves.
	leafLen = 64
	// leafJoin is how many records two neighbouring leaves have at least, or they become one. With room left, what
	// alternately divides and joins does not move all of them each time.
	leafJoin = leafLen * 3 / 4
	// never is later than anything.
	never = time.Duration(1<<63 - 1)
)

// leaf is a run of neighbouring records, and what was found of them when they were last looked at.
type leaf struct {
	mem    []record
	lo, hi int  // mem[lo:hi] are its records
	from   Seq  // where they begin; that of the first leaf may lie before
	lost   bool // some of them may be lost

	known  bool          // what follows holds of those that are neither reported nor lost:
	oldest time.Duration // none was sent before this; never: there are none
	newest time.Duration // and the last one then
}

func (l *leaf) len() int { return l.hi - l.lo }

// closed notes that r, one of l, is not in doubt any more.
func (x *records) closed(l *leaf, r *record) {
	if r.at >= l.newest {
		l.known, x.changed = false, true
	}
}

// touch notes that something else is known of a record of l.
func (x *records) touch(l *leaf) { l.known, x.changed = false, true }

// place is where a record stands: index i of the memory of a leaf. It holds until a record comes or goes.
type place struct{ leaf, i int }

// begin is the place of the first record.
func (x *records) begin() place {
	if x.n == 0 {
		return place{leaf: len(x.leaves)}
	}
	return place{x.first, x.leaves[x.first].lo}
}

// last is the place of the last record, of which there must be one.
func (x *records) last() place {
	i := len(x.leaves) - 1
	return place{i, x.leaves[i].hi - 1}
}

// at is the record at p, or nil behind the last.
func (x *records) at(p place) *record {
	if p.leaf < len(x.leaves) {
		if l := &x.leaves[p.leaf]; p.i < l.hi {
			return &l.mem[p.i]
		}
	}
	return nil
}

// head is the first record, or nil.
func (x *records) head() *record {
	if x.n == 0 {
		return nil
	}
	l := &x.leaves[x.first]
	return &l.mem[l.lo]
}

// next is the place behind p.
func (x *records) next(p place) place {
	if p.i++; p.i >= x.leaves[p.leaf].hi && p.leaf+1 < len(x.leaves) {
		p.leaf++
		p.i = x.leaves[p.leaf].lo
	}
	return p
}

// nextLeaf is the place of the first record behind the leaf of p, or that behind the last.
func (x *records) nextLeaf(p place) place {
	if p.leaf++; p.leaf < len(x.leaves) {
		p.i = x.leaves[p.leaf].lo
	}
	return p
}

// prev is the place before p, where there is one.
func (x *records) prev(p place) (place, bool) {
	switch {
	case p.leaf < len(x.leaves) && p.i > x.leaves[p.leaf].lo:
		p.i--
	case p.leaf > x.first:
		p.leaf--
		p.i = x.leaves[p.leaf].hi - 1
	default:
		return p, false
	}
	return p, true
}

// find is the place of the first record that ends behind s, or that behind the last.
func (x *records) find(s Seq) place {
	if x.n == 0 {
		return x.begin()
	}
	lo, hi := x.first, len(x.leaves)
	for hi-lo > 1 {
		if mid := int(uint(lo+hi) >> 1); x.leaves[mid].from.LessEq(s) {
			lo = mid
		} else {
			hi = mid
		}
	}
	l := &x.leaves[lo]
	i, j := l.lo, l.hi
	for i < j {
		if mid := int(uint(i+j) >> 1); l.mem[mid].to.LessEq(s) {
			i = mid + 1
		} else {
			j = mid
		}
	}
	return place{lo, i}
}

// push makes room for a record behind all others, which begins at from.
func (x *records) push(from Seq) *record {
	k := len(x.leaves) - 1
	if k < 0 || x.leaves[k].hi == len(x.leaves[k].mem) {
		x.extend(from)
		k = len(x.leaves) - 1
	}
	l := &x.leaves[k]
	r := &l.mem[l.hi]
	l.known = false
	l.hi++
	x.n++
	return r
}

// extend gets push a leaf that has room at its end.
func (x *records) extend(from Seq) {
	k := len(x.leaves)
	if k == 0 {
		x.leaves = append(x.own.leaf[:0], leaf{mem: x.own.mem[:], from: from})
		return
	}
	switch l := &x.leaves[k-1]; {
	case l.lo > len(l.mem)/2:
		l.hi = copy(l.mem, l.mem[l.lo:l.hi])
		l.lo = 0
	case len(l.mem) < leafLen:
		l.grow()
	default:
		x.put(k, leaf{mem: x.memory(), from: from})
	}
}

// grow doubles the memory of a leaf that has less than leafLen, as only one that stands alone has.
func (l *leaf) grow() {
	mem := make([]record, min(2*len(l.mem), leafLen))
	l.hi = copy(mem, l.mem[l.lo:l.hi])
	l.mem, l.lo = mem, 0
}

// memory is that for a leaf.
func (x *records) memory() []record {
	k := len(x.spare)
	if k == 0 {
		return make([]record, leafLen)
	}
	mem := x.spare[k-1]
	x.spare = x.spare[:k-1]
	return mem
}

// put makes l the leaf at index i, and returns the index that it has got.
func (x *records) put(i int, l leaf) int {
	if len(x.leaves) == cap(x.leaves) && x.first > len(x.leaves)/2 {
		x.leaves = slices.Delete(x.leaves, 0, x.first)
		i -= x.first
		x.first = 0
	}
	x.leaves = slices.Insert(x.leaves, i, l)
	return i
}

// drop takes the leaves [i, j) out.
func (x *records) drop(i, j int) {
	for _, l := range x.leaves[i:j] {
		x.spare = append(x.spare, l.mem)
	}
	x.leaves = slices.Delete(x.leaves, i, j)
}

// pop takes the first record out.
func (x *records) pop() {
	l := &x.leaves[x.first]
	x.closed(l, &l.mem[l.lo])
	l.lo++
	x.n--
	switch {
	case l.lo < l.hi:
	case x.n == 0:
		l.lo, l.hi = 0, 0
	default:
		x.spare = append(x.spare, l.mem)
		l.mem = nil
		x.first++
	}
}

// divide makes the record at p end at s, which lies in it, and a new one begin there. It returns the place of the first
// of the two.
func (x *records) divide(p place, s Seq) place {
	p = x.room(p)
	l := &x.leaves[p.leaf]
	r := l.mem[p.i]
	r.from, l.mem[p.i].to = s, s
	i := p.i + 1
	if l.hi == len(l.mem) || l.lo > 0 && i-l.lo < l.hi-i { // the shorter side moves
		copy(l.mem[l.lo-1:], l.mem[l.lo:i])
		l.lo--
		i--
	} else {
		copy(l.mem[i+1:l.hi+1], l.mem[i:l.hi])
		l.hi++
	}
	l.mem[i] = r
	x.n++
	return place{p.leaf, i - 1}
}

// room makes room for one record more in the leaf of p, and returns where the record at p is then.
func (x *records) room(p place) place {
	l := &x.leaves[p.leaf]
	switch {
	case l.lo > 0 || l.hi < len(l.mem):
		return p
	case len(l.mem) < leafLen:
		l.grow()
		return p
	}
	const half = leafLen / 2
	right := leaf{mem: x.memory(), from: l.mem[half].from, lost: l.lost}
	right.hi = copy(right.mem, l.mem[half:])
	l.hi, l.known = half, false
	i := x.put(p.leaf+1, right)
	if p.i < half {
		return place{i - 1, p.i}
	}
	return place{i, p.i - half}
}

// merge makes one record of [p, q), at least two, with the fate of the first. What is known of their leaves has been told
// of that fate already.
func (x *records) merge(p, q place) {
	l, m := &x.leaves[p.leaf], &x.leaves[q.leaf]
	r := &l.mem[p.i]
	if p.leaf == q.leaf {
		r.to = l.mem[q.i-1].to
		k := q.i - p.i - 1
		x.n -= k
		if p.i-l.lo < l.hi-q.i { // the shorter side moves
			copy(l.mem[l.lo+k:], l.mem[l.lo:p.i+1])
			l.lo += k
		} else {
			copy(l.mem[p.i+1:], l.mem[q.i:l.hi])
			l.hi -= k
		}
		x.level(p.leaf)
		return
	}
	if before, ok := x.prev(q); ok {
		r.to = x.at(before).to
	}
	x.n -= l.hi - p.i - 1 + q.i - m.lo
	l.hi = p.i + 1
	for i := p.leaf + 1; i < q.leaf; i++ {
		x.n -= x.leaves[i].len()
	}
	m.lo, m.from = q.i, r.to
	j := q.leaf
	if m.len() == 0 {
		j++
	}
	x.drop(p.leaf+1, j)
	x.level(p.leaf)
}

// level joins the leaf i with its neighbours where they are short.
func (x *records) level(i int) {
	if i+1 < len(x.leaves) && x.leaves[i].len()+x.leaves[i+1].len() < leafJoin {
		x.combine(i)
	}
	if i > x.first && x.leaves[i-1].len()+x.leaves[i].len() < leafJoin {
		x.combine(i - 1)
	}
}

// combine makes one leaf of i and the next.
func (x *records) combine(i int) {
	l, m := &x.leaves[i], &x.leaves[i+1]
	if l.hi+m.len() > len(l.mem) {
		l.hi = copy(l.mem, l.mem[l.lo:l.hi])
		l.lo = 0
	}
	l.hi += copy(l.mem[l.hi:], m.mem[m.lo:m.hi])
	l.lost, l.known = l.lost || m.lost, false
	x.drop(i+1, i+2)
}
