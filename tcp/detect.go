package tcp

import "time"

// This file is step 5 of RFC 8985 §6.2: which records are lost. As written, each acknowledgement looks at every record.
// Here what a look would find is remembered: of each leaf of records (leaf.known), and of all up to the first leaf that is
// worth a look (passed), so that a peer that keeps thousands in doubt does not make us look at them again and again.

// passed is what is known of the records before end: each is reported or lost, or in doubt, as it was sent before what was
// delivered last of all (rack.at) but not yet long ago, or sent again after that.
type passed struct {
	on     bool          // the walk at hand has come from the first record up to here
	end    Seq           // the records before it
	oldest time.Duration // when the first of those in doubt was sent; never: there are none
	newest time.Duration // and the last; negative: there are none
	after  time.Duration // when the first of the others was sent again; never: there are none
}

// stop ends the walk that adds to y at s.
func (y *passed) stop(s Seq) {
	if y.on {
		y.on, y.end = false, s
	}
}

// start is where detect begins: behind what was passed, or at the first record where that may not hold any more: something
// has changed, the oldest in doubt was sent no later than since and is lost, or what was sent again is in doubt as well.
func (b *scoreboard) start(since time.Duration) place {
	k := &b.rack
	y := &k.passed
	y.on = !k.parted
	switch {
	case k.parted:
		k.parted = false
		return b.find(k.rest)
	case b.changed || y.oldest <= since || y.after <= k.at:
		*y, b.changed = passed{on: true, oldest: never, newest: -1, after: never}, false
		k.newest = -1
		return b.begin()
	}
	k.newest = y.newest
	if y.end == b.head().from {
		return b.begin()
	}
	return b.find(y.end)
}

// detect is RACK_detect_loss of RFC 8985 §6.2, step 5. It returns the octets that it finds lost, and after how long
// more may be; 0: nothing is in doubt. It departs from it in looking at walkLimit records at a time.
func (b *scoreboard) detect(now, window time.Duration) (lost int, again time.Duration) {
	k, y := &b.rack, &b.rack.passed
	if r := b.head(); r == nil || k.rtt == 0 || r.fate&^fateLimited == 0 && !sentAfter(k.at, k.end, r.at, r.to) {
		// What was sent once was sent in order. Nothing is remembered, lest its end should be far behind some time.
		k.parted, b.changed = false, true
		return 0, 0
	}
	since := now - k.rtt - window // a segment is lost when it was sent RACK.rtt + RACK.reo_wnd ago
	p := b.start(since)
	if b.at(p) == nil {
		p.leaf = len(b.leaves)
	}
	left := walkLimit
	for first := p.leaf; p.leaf < len(b.leaves); p.leaf++ {
		l := &b.leaves[p.leaf]
		if p.leaf > first {
			p.i = l.lo
		}
		switch known := l.known && p.i == l.lo; {
		case left < leafLen:
			k.parted, k.rest = true, l.mem[p.i].from
			y.stop(k.rest)
			return lost, walkAgain
		case known && l.sentAfter(k):
			left--
			if y.on {
				y.after = min(y.after, l.oldest)
			}
			continue
		case known && l.sentBefore(k) && l.oldest > since:
			left--
			k.newest = max(k.newest, l.newest)
			if y.on {
				y.oldest, y.newest = min(y.oldest, l.oldest), max(y.newest, l.newest)
			}
			continue
		}
		y.stop(l.mem[p.i].from)
		left -= l.hi - p.i
		n, ok := b.look(now, since, p)
		if lost += n; !ok {
			break
		}
	}
	if y.on {
		y.stop(b.at(b.last()).to)
	}
	if k.newest < 0 {
		return lost, 0
	}
	return lost, max(k.newest-since, 1)
}

// sentBefore reports whether all of l that is in doubt was sent before what was delivered last of all.
func (l *leaf) sentBefore(k *rack) bool {
	return l.newest < k.at || l.newest == k.at && l.mem[l.hi-1].to.Less(k.end)
}

// sentAfter reports whether none of it was.
func (l *leaf) sentAfter(k *rack) bool {
	return l.oldest > k.at || l.oldest == k.at && !l.mem[l.lo].to.Less(k.end)
}

// look is detect for the records of one leaf from p on. It notes what is known of them then. ok is false where what
// stands behind needs no look.
func (b *scoreboard) look(now, since time.Duration, p place) (lost int, ok bool) {
	k, l := &b.rack, &b.leaves[p.leaf]
	oldest, newest := never, time.Duration(-1)
	whole := p.i == l.lo
	for ; p.i < l.hi; p.i++ {
		r := &l.mem[p.i]
		if r.fate&(fateSacked|fateLost) != 0 {
			continue
		}
		switch {
		case !sentAfter(k.at, k.end, r.at, r.to):
			if r.fate&fateAgain == 0 {
				return lost, false // what was sent once was sent in order
			}
		case r.at <= since:
			lost += b.loseOf(l, r)
			if b.model != nil {
				b.model.Lost(now, b.lostRun(r))
			}
			continue
		default:
			k.newest = max(k.newest, r.at)
		}
		oldest, newest = min(oldest, r.at), max(newest, r.at)
	}
	if whole {
		l.known, l.oldest, l.newest = true, oldest, newest
	}
	return lost, true
}
