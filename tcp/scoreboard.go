package tcp

import "time"

// fate is what is known of a record.
type fate uint8

const (
	fateSacked  fate = 1 << iota // the peer reported it by SACK
	fateLost                     // it is taken for lost, and waits to be sent again
	fateAgain                    // it was sent more than once
	fateBlurred                  // parts of it were sent earlier than it says
	fateLimited                  // the user had nothing more to send when it was
)

// record is a run of octets that left at one instant and has had one fate: a packet, a super-segment or several.
type record struct {
	from, to Seq
	at       time.Duration // when it was sent last
	fate     fate
	resent   uint16 // the low bits of the timestamp that it was first sent again with, where it was
	sent     stamp
}

func (r *record) octets() int { return r.to.From(r.from) }

// scoreboard is what the sender of a connection with SACK knows of the octets that are outstanding: RFC 6675 §3's
// scoreboard, with the times of RFC 8985 §5.2. What the peer has reported in a row is one record, so that a block which
// every acknowledgement repeats costs one search.
type scoreboard struct {
	records           // what is outstanding
	total   int       // octets of all records,
	sacked  int       // of those which SACK reported,
	lost    int       // and of those which wait to be sent again
	search  Seq       // nothing before it is lost
	model   PathModel // hears of what is found lost; nil: nobody does

	rack   rack
	tail   tail
	prr    prr
	revert revert
	rate   rate

	pending pending // what timerLoss stands for
}

// maxRecords bounds the records of what was sent, and twice that all of a connection. 8,192 packets are 12 MB, or
// 500 Mbit/s over 200 ms; beyond it neighbours share a record, and blocks that would split one are ignored, so that
// neither search nor memory grow with what a peer invents (CVE-2019-11478).
const maxRecords = 8192

// pipe is RFC 6675 §4's estimate of the octets that are in the network.
func (b *scoreboard) pipe() int { return b.total - b.sacked - b.lost }

// push appends what was sent for the first time, [from, to), at now.
func (b *scoreboard) push(from, to Seq, now time.Duration) {
	octets := to.From(from)
	b.total += octets
	var f fate
	if b.rate.limitedTo != 0 {
		f = fateLimited
	}
	if b.n == 0 {
		b.search = from
	} else {
		l := &b.leaves[len(b.leaves)-1]
		last := &l.mem[l.hi-1]
		switch {
		case last.fate&^(fateBlurred|fateLimited) != 0:
		case last.at == now:
			last.to, last.sent.inFlight = to, int32(b.pipe())
			return
		case b.n >= maxRecords:
			// It counts as sent later than it was, so that nothing is taken for lost too early.
			last.to, last.at, last.fate = to, now, f|fateBlurred
			b.stamp(&last.sent, octets, now)
			b.touch(l)
			return
		}
	}
	r := b.records.push(from)
	r.from, r.to, r.at, r.fate, r.resent = from, to, now, f, 0
	b.stamp(&r.sent, octets, now)
}

// split makes the record at p end at s, which lies in it, and a new one begin there. It returns where the first of the
// two is, and false where there are too many already.
func (b *scoreboard) split(p place, s Seq) (place, bool) {
	if b.n >= 2*maxRecords {
		return p, false
	}
	return b.divide(p, s), true
}

// acknowledge takes away what stands before una, and notes in d what of it the peer had not reported before.
func (b *scoreboard) acknowledge(una Seq, d *delivery) {
	d.cumulative = true
	first := true
	for r := b.head(); r != nil && r.from.Less(una); r = b.head() {
		to := minSeq(r.to, una)
		n := to.From(r.from)
		b.total -= n
		b.forget(r.fate, n)
		if first {
			d.headAgain, d.headResent = r.fate&fateAgain != 0, r.resent
			first = false
		}
		if r.fate&fateSacked == 0 {
			b.deliver(r, to, d)
		}
		if r.from = to; r.from == r.to {
			b.pop()
		}
	}
	d.cumulative = false
	b.search = maxSeq(b.search, una)
}

// forget takes n octets out of the counts that f stands for.
func (b *scoreboard) forget(f fate, n int) {
	if f&fateSacked != 0 {
		b.sacked -= n
	}
	if f&fateLost != 0 {
		b.lost -= n
	}
}

// report notes that the peer has what k says. Octets that it had reported before cost one search. A part of a packet is
// no news: packets arrive whole, and a peer that says otherwise would cut the scoreboard into crumbs.
func (b *scoreboard) report(k Block, d *delivery) {
	p, from, news := b.find(k.Left), k.Left, false
	first := p // where from is
	for r := b.at(p); r != nil && r.from.Less(k.Right); r = b.at(p) {
		var ok bool
		switch {
		case r.fate&fateSacked != 0:
			p = b.next(p)
			continue
		case !r.from.Less(k.Left):
		case r.octets() <= d.mss:
			p, from = b.next(p), r.to
			first = p
			continue
		default:
			if p, ok = b.split(p, k.Left); !ok {
				return
			}
			p = b.next(p)
			first, r = p, b.at(p)
		}
		if k.Right.Less(r.to) {
			if r.octets() <= d.mss {
				break
			}
			if p, ok = b.split(p, k.Right); !ok {
				break
			}
			first, r = b.find(from), b.at(p)
		}
		b.deliver(r, r.to, d)
		n := r.octets()
		b.forget(r.fate, n)
		b.sacked += n
		if r.fate&fateLost == 0 {
			b.closed(&b.leaves[p.leaf], r)
		}
		r.fate = r.fate&^fateLost | fateSacked
		p, news = b.next(p), true
	}
	if news {
		b.join(first)
	}
}

// join makes one record of all in a row around p that SACK has reported.
func (b *scoreboard) join(p place) {
	sacked := func(r *record) bool { return r != nil && r.fate&fateSacked != 0 }
	if q, ok := b.prev(p); ok && sacked(b.at(q)) {
		p = q
	}
	n, q := 0, p
	for ; sacked(b.at(q)); q = b.next(q) {
		n++
	}
	if n > 1 {
		b.merge(p, q)
	}
}

// lose marks the record at p as lost.
func (b *scoreboard) lose(p place) (octets int) {
	r := b.at(p)
	if r.fate&(fateSacked|fateLost) != 0 {
		return 0
	}
	return b.loseOf(&b.leaves[p.leaf], r)
}

// loseOf marks r, one of l that is neither reported nor lost, as lost.
func (b *scoreboard) loseOf(l *leaf, r *record) (octets int) {
	octets = r.octets()
	l.lost = true
	b.closed(l, r)
	r.fate |= fateLost
	b.lost += octets
	b.rate.lost += int64(octets)
	b.search = minSeq(b.search, r.from)
	return octets
}

// unreport takes back that SACK reported the record at p.
func (b *scoreboard) unreport(p place) {
	if r := b.at(p); r.fate&fateSacked != 0 {
		b.sacked -= r.octets()
		r.fate = r.fate&^fateSacked | fateAgain // when it was sent is not known any more
		b.touch(&b.leaves[p.leaf])
	}
}

// renegeLimit bounds the records that renege looks at: a peer can make us do so as often as it likes, and an honest one
// that has thrown away what it reported has few packets of it, or little hope.
const renegeLimit = 64

// renege takes back what SACK reported of the first records, and marks them as lost: RFC 2018 §8 keeps what was reported
// until SND.UNA passes it, so that all of it can be sent again to a receiver that has thrown it away. What stands behind
// renegeLimit records waits until the peer shows that it has thrown that away as well.
func (b *scoreboard) renege() {
	p := b.begin()
	for i := 0; i < renegeLimit && b.at(p) != nil; i++ {
		b.unreport(p)
		b.lose(p)
		p = b.next(p)
	}
}

// loseAll marks as lost what was sent at or before at, and the first record in any case. Where forget is set, what SACK
// reported counts no more.
func (b *scoreboard) loseAll(now, at time.Duration, forget bool, m PathModel) {
	for p := b.begin(); b.at(p) != nil; p = b.next(p) {
		if forget {
			b.unreport(p)
		}
		if r := b.at(p); (p == b.begin() || r.at <= at) && b.lose(p) > 0 && m != nil {
			m.Lost(now, b.lostRun(r))
		}
	}
}

// unlose takes all marks of loss away: what was not sent again counts as in the network.
func (b *scoreboard) unlose() {
	for i := b.first; i < len(b.leaves); i++ {
		l := &b.leaves[i]
		if !l.lost {
			continue
		}
		for j := l.lo; j < l.hi; j++ {
			l.mem[j].fate &^= fateLost
		}
		l.lost = false
		b.touch(l)
	}
	b.lost = 0
}

// reneged reports whether the peer acknowledges up to something that it had reported, and not that: it has thrown it away.
func (b *scoreboard) reneged() bool {
	r := b.head()
	return r != nil && r.fate&fateSacked != 0
}

// firstLost returns the first run of octets that is lost, as far as one segment can take it, and the place where it
// begins; false: nothing is.
func (b *scoreboard) firstLost() (p place, k Block, ok bool) {
	if b.lost == 0 {
		return p, k, false
	}
	p = b.findLost(b.find(b.search))
	r := b.at(p)
	if r == nil {
		return p, k, false
	}
	k = Block{r.from, r.to}
	b.search = k.Left
	for i, q := 1, b.next(p); i < runLimit && k.Right.From(k.Left) < maxSegment; i, q = i+1, b.next(q) {
		if r = b.at(q); r == nil || r.fate&fateLost == 0 {
			break
		}
		k.Right = r.to
	}
	return p, k, true
}

// runLimit bounds the records that are sent again in one segment: more packets than a super-segment of usual ones has.
const runLimit = 64

// findLost is the place of the first record at or behind p that is lost, or that behind the last.
func (b *scoreboard) findLost(p place) place {
	for ; p.leaf < len(b.leaves); p = b.nextLeaf(p) {
		l := &b.leaves[p.leaf]
		if !l.lost {
			continue
		}
		for i := p.i; i < l.hi; i++ {
			if l.mem[i].fate&fateLost != 0 {
				return place{p.leaf, i}
			}
		}
		l.lost = p.i > l.lo // none is from p on
	}
	return p
}

// resent notes that what stands from the record at p to to was sent again at now.
func (b *scoreboard) resent(p place, to Seq, now time.Duration) {
	from := b.at(p).from
	n, q := 0, p
	for r := b.at(q); r != nil && r.from.Less(to); r = b.at(q) {
		if to.Less(r.to) {
			q, _ = b.split(q, to) // a record too many: then the rest of it counts as sent as well, and is found lost later
			r = b.at(q)
		}
		b.forget(r.fate, r.octets())
		if r.fate&fateAgain == 0 {
			r.resent = uint16(ticks(now))
		}
		r.at, r.fate = now, fateAgain
		b.touch(&b.leaves[q.leaf])
		q = b.next(q)
		n++
	}
	p = b.find(from)
	r := b.at(p)
	b.stamp(&r.sent, to.From(from), now)
	if b.rate.limitedTo != 0 {
		r.fate |= fateLimited
	}
	if n > 1 {
		b.merge(p, q)
	}
	b.search = maxSeq(b.search, to)
}
