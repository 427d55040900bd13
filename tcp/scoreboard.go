package tcp

import (
	"slices"
	"time"
)

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
// scoreboard, with the times of RFC 8985 §5.2. The records are sorted and leave nothing out between them. What the peer
// has reported in a row is one record, so that a block which every acknowledgement repeats costs one search.
type scoreboard struct {
	buf    []record // buf[head:] is outstanding
	head   int
	total  int       // octets of all records,
	sacked int       // of those which SACK reported,
	lost   int       // and of those which wait to be sent again
	search Seq       // nothing before it is lost
	model  PathModel // hears of what is found lost; nil: nobody does

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

// live are the records.
func (b *scoreboard) live() []record { return b.buf[b.head:] }

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
	if n := len(b.buf); n > b.head {
		last := &b.buf[n-1]
		switch {
		case last.fate&^(fateBlurred|fateLimited) != 0:
		case last.at == now:
			last.to, last.sent.inFlight = to, int32(b.pipe())
			return
		case n-b.head >= maxRecords:
			// It counts as sent later than it was, so that nothing is taken for lost too early.
			last.to, last.at, last.fate = to, now, f|fateBlurred
			b.stamp(&last.sent, octets, now)
			return
		}
	} else {
		b.buf, b.head, b.search = b.buf[:0], 0, from
	}
	if len(b.buf) == cap(b.buf) && b.head > len(b.buf)/2 {
		b.buf = b.buf[:copy(b.buf, b.buf[b.head:])]
		b.head = 0
	}
	n := len(b.buf)
	b.buf = slices.Grow(b.buf, 1)[:n+1]
	r := &b.buf[n]
	r.from, r.to, r.at, r.fate, r.resent = from, to, now, f, 0
	b.stamp(&r.sent, octets, now)
}

// find returns the index of the first record that ends behind s.
func (b *scoreboard) find(s Seq) int {
	lo, hi := b.head, len(b.buf)
	for lo < hi {
		if mid := (lo + hi) / 2; b.buf[mid].to.LessEq(s) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// split makes record i end at s, which lies in it, and a new one begin there. It is false where there are too many.
func (b *scoreboard) split(i int, s Seq) bool {
	if len(b.buf)-b.head >= 2*maxRecords {
		return false
	}
	r := b.buf[i]
	r.from, b.buf[i].to = s, s
	b.buf = slices.Insert(b.buf, i+1, r)
	return true
}

// acknowledge takes away what stands before una, and notes in d what of it the peer had not reported before.
func (b *scoreboard) acknowledge(una Seq, d *delivery) {
	d.cumulative = true
	for first := true; b.head < len(b.buf) && b.buf[b.head].from.Less(una); first = false {
		r := &b.buf[b.head]
		to := minSeq(r.to, una)
		n := to.From(r.from)
		b.total -= n
		b.forget(r.fate, n)
		if first {
			d.headAgain, d.headResent = r.fate&fateAgain != 0, r.resent
		}
		if r.fate&fateSacked == 0 {
			b.deliver(r, to, d)
		}
		if r.from = to; r.from == r.to {
			b.head++
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
	i := b.find(k.Left)
	first := i
	for ; i < len(b.buf) && b.buf[i].from.Less(k.Right); i++ {
		if b.buf[i].fate&fateSacked != 0 {
			continue
		}
		if b.buf[i].from.Less(k.Left) {
			if b.buf[i].octets() <= d.mss {
				first = i + 1
				continue
			}
			if !b.split(i, k.Left) {
				return
			}
			i++
			first = i
		}
		if k.Right.Less(b.buf[i].to) && (b.buf[i].octets() <= d.mss || !b.split(i, k.Right)) {
			break
		}
		r := &b.buf[i]
		b.deliver(r, r.to, d)
		n := r.octets()
		b.forget(r.fate, n)
		b.sacked += n
		r.fate = r.fate&^fateLost | fateSacked
	}
	if i > first {
		b.join(first, i)
	}
}

// join makes one record of those in [i, j), which SACK has reported, and of their neighbours that it has as well.
func (b *scoreboard) join(i, j int) {
	if i > b.head && b.buf[i-1].fate&fateSacked != 0 {
		i--
	}
	if j < len(b.buf) && b.buf[j].fate&fateSacked != 0 {
		j++
	}
	if j-i > 1 {
		b.merge(i, j)
	}
}

// merge makes one record of [i, j), with the fate of the first. The indices change.
func (b *scoreboard) merge(i, j int) {
	b.buf[i].to = b.buf[j-1].to
	if i-b.head < len(b.buf)-j { // the shorter side moves
		b.head += copyUp(b.buf[b.head:j], i+1-b.head)
		return
	}
	b.buf = slices.Delete(b.buf, i+1, j)
}

// copyUp moves the first n of r to its end, and returns by how far.
func copyUp(r []record, n int) int { return len(r) - copy(r[len(r)-n:], r[:n]) }

// lose marks record i as lost.
func (b *scoreboard) lose(i int) (octets int) {
	r := &b.buf[i]
	if r.fate&(fateSacked|fateLost) != 0 {
		return 0
	}
	r.fate |= fateLost
	b.lost += r.octets()
	b.rate.lost += int64(r.octets())
	b.search = minSeq(b.search, r.from)
	return r.octets()
}

// renege takes back what SACK reported of the first records, and marks them as lost: RFC 2018 §8 keeps what was reported
// until SND.UNA passes it, so that all of it can be sent again to a receiver that has thrown it away. What stands behind
// walkLimit records waits until the peer shows that it has thrown that away as well.
func (b *scoreboard) renege() {
	for i := b.head; i < min(len(b.buf), b.head+walkLimit); i++ {
		if r := &b.buf[i]; r.fate&fateSacked != 0 {
			b.sacked -= r.octets()
			r.fate = r.fate&^fateSacked | fateAgain // when it was sent is not known any more
		}
		b.lose(i)
	}
}

// loseAll marks as lost what was sent at or before at, and the first record in any case. Where forget is set, what SACK
// reported counts no more.
func (b *scoreboard) loseAll(now, at time.Duration, forget bool, m PathModel) {
	for i := b.head; i < len(b.buf); i++ {
		r := &b.buf[i]
		if forget && r.fate&fateSacked != 0 {
			b.sacked -= r.octets()
			r.fate = r.fate&^fateSacked | fateAgain // when it was sent is not known any more
		}
		if (i == b.head || r.at <= at) && b.lose(i) > 0 && m != nil {
			m.Lost(now, b.lostRun(r))
		}
	}
}

// unlose takes all marks of loss away: what was not sent again counts as in the network.
func (b *scoreboard) unlose() {
	for i := range b.live() {
		b.buf[b.head+i].fate &^= fateLost
	}
	b.lost = 0
}

// reneged reports whether the peer acknowledges up to something that it had reported, and not that: it has thrown it away.
func (b *scoreboard) reneged() bool {
	return b.head < len(b.buf) && b.buf[b.head].fate&fateSacked != 0
}

// firstLost returns the first run of octets that is lost, as far as one segment can take it, and the index where it
// begins; -1: nothing is.
func (b *scoreboard) firstLost() (i int, k Block) {
	if b.lost == 0 {
		return -1, k
	}
	for i = b.find(b.search); i < len(b.buf) && b.buf[i].fate&fateLost == 0; i++ {
	}
	if i == len(b.buf) {
		return -1, k
	}
	k = Block{b.buf[i].from, b.buf[i].to}
	b.search = k.Left
	for _, r := range b.buf[i+1:] {
		if r.fate&fateLost == 0 || k.Right.From(k.Left) >= maxSegment {
			break
		}
		k.Right = r.to
	}
	return i, k
}

// resent notes that what stands from record i to to was sent again at now.
func (b *scoreboard) resent(i int, to Seq, now time.Duration) {
	j := i
	for ; j < len(b.buf) && b.buf[j].from.Less(to); j++ {
		if to.Less(b.buf[j].to) {
			b.split(j, to) // a record too many: then the rest of it counts as sent as well, and is found lost later
		}
		r := &b.buf[j]
		b.forget(r.fate, r.octets())
		if r.fate&fateAgain == 0 {
			r.resent = uint16(ticks(now))
		}
		r.at, r.fate = now, fateAgain
	}
	b.stamp(&b.buf[i].sent, to.From(b.buf[i].from), now)
	if b.rate.limitedTo != 0 {
		b.buf[i].fate |= fateLimited
	}
	if j-i > 1 {
		b.merge(i, j)
	}
	b.search = maxSeq(b.search, to)
}
