package sim

import (
	"math/rand/v2"
	"time"
)

// Path is one direction: a queue in front of a link of some rate, what happens to packets behind it, and a delay. The
// zero value of every field is the absence of what it describes.
type Path struct {
	// Rate is the link's in octets a second. 0: packets do not wait.
	Rate int64
	// Delay is how long a packet travels behind the queue.
	Delay time.Duration
	// Queue is how many octets wait at most, the packet that the link works on included; one that finds no room is
	// dropped. 0 means as many as the path holds in a round trip, and no fewer than 64 KB.
	Queue int
	// Mark is how many waiting octets make a packet of an ECN-capable transport carry CE from then on (RFC 3168 §5).
	// 0: no packet is marked.
	Mark int

	// Loss is the probability that a packet is lost.
	Loss float64
	// Burst is loss that comes in bursts.
	Burst Gilbert
	// Outages are when everything is lost.
	Outages []Outage

	// Jitter adds up to so much to a packet's delay, evenly distributed; packets stay in order.
	Jitter time.Duration
	// Reorder is the probability that a packet is held back, for up to Hold, evenly distributed, while others pass it.
	Reorder float64
	// Hold is how long at most.
	Hold time.Duration
	// Slot lets packets arrive only at multiples of it, as a link that grants turns or a card that saves interrupts
	// makes them do.
	Slot time.Duration

	// Changes are what becomes of rate and delay.
	Changes []Change
}

// Gilbert is the two-state loss model of that name: a burst begins with one packet and ends with another, and what is
// sent meanwhile is lost with a probability of its own.
type Gilbert struct {
	Begin float64 // the probability that a packet begins a burst
	End   float64 // that a packet of a burst is its last
	Loss  float64 // that a packet of a burst is lost; 0 means 1
}

// Outage is a black-out: what leaves the queue in [From, To) is lost.
type Outage struct{ From, To time.Duration }

// Change sets what a path is like from an instant on; 0 leaves something as it is.
type Change struct {
	At    time.Duration
	Rate  int64 // in octets a second
	Delay time.Duration
}

// leastQueue is the smallest queue that is chosen where a Path names none: a super-segment.
const leastQueue = 64 << 10

// PathResult is what happened to the packets of one direction.
type PathResult struct {
	Packets  int64  // that entered the queue, or were dropped at its tail
	Dropped  int64  // at the tail
	Lost     int64  // behind the queue
	Marked   int64  // with CE
	Octets   int64  // that the link carried, headers included
	Delay    Delays // of those that were carried, in the queue
	Capacity int64  // octets that the link could have carried; 0: the rate was not limited
}

// link is a Path in a run.
type link struct {
	Path
	w       *world
	random  *rand.Rand
	ring    []int32 // the packets that wait, first at head
	head    int
	count   int
	waiting int           // octets
	leaves  time.Duration // when the first of them is through
	last    time.Duration // when the last packet so far arrives
	burst   bool
	since   time.Duration // when Rate became what it is
	result  PathResult
	delays  histogram
}

// put lets packet i enter.
func (l *link) put(i int32) {
	p := &l.w.pool[i]
	l.result.Packets++
	if l.Rate == 0 {
		l.carry(i)
		return
	}
	if l.count > 0 && l.waiting+int(p.size) > l.Queue {
		l.result.Dropped++
		p.to.flow.result.Lost++
		l.w.drop(i)
		return
	}
	if l.Mark > 0 && l.waiting > l.Mark && p.s.ECN&3 != 0 {
		p.s.ECN |= 3
		l.result.Marked++
		p.to.flow.result.Marked++
	}
	if l.count == len(l.ring) {
		l.grow()
	}
	l.ring[(l.head+l.count)&(len(l.ring)-1)] = i
	l.count++
	l.waiting += int(p.size)
	if l.count == 1 {
		l.leaves = l.w.now + l.takes(p.size)
	}
}

// takes is how long the link works on a packet.
func (l *link) takes(size int32) time.Duration {
	return time.Duration(size) * time.Second / time.Duration(l.Rate)
}

// grow makes room in the ring, whose length is a power of two.
func (l *link) grow() {
	ring := make([]int32, max(2*len(l.ring), 64))
	for k := range l.count {
		ring[k] = l.ring[(l.head+k)&(len(l.ring)-1)]
	}
	l.ring, l.head = ring, 0
}

// send is the end of the link's work on the first packet that waits.
func (l *link) send() {
	i := l.ring[l.head]
	l.head = (l.head + 1) & (len(l.ring) - 1)
	l.count--
	l.waiting -= int(l.w.pool[i].size)
	if l.count > 0 {
		l.leaves += l.takes(l.w.pool[l.ring[l.head]].size)
	}
	l.carry(i)
}

// carry takes a packet from the queue to where it arrives, if it does.
func (l *link) carry(i int32) {
	p := &l.w.pool[i]
	wait := l.w.now - p.entered
	if l.Rate > 0 {
		wait = max(wait-l.takes(p.size), 0)
	}
	l.result.Octets += int64(p.size)
	l.delays.add(wait)
	p.to.flow.carried(p, wait)
	if l.unlucky(p) {
		l.result.Lost++
		p.to.flow.result.Lost++
		l.w.drop(i)
		return
	}
	at := l.w.now + l.Delay + p.to.flow.Delay
	if l.Jitter > 0 {
		at = max(at+time.Duration(l.random.Int64N(int64(l.Jitter))), l.last)
		l.last = at
	}
	if l.Reorder > 0 && l.random.Float64() < l.Reorder {
		at += time.Duration(l.random.Int64N(int64(max(l.Hold, 1))))
	}
	if l.Slot > 0 {
		at = (at + l.Slot - 1) / l.Slot * l.Slot
	}
	l.w.events.push(at, event{kind: arrives, i: i})
}

// unlucky draws whether a packet is lost.
func (l *link) unlucky(p *packet) bool {
	for _, o := range l.Outages {
		if o.From <= l.w.now && l.w.now < o.To {
			return true
		}
	}
	if b := &l.Burst; b.Begin > 0 {
		if !l.burst {
			l.burst = l.random.Float64() < b.Begin
		}
		if l.burst {
			lost := b.Loss == 0 || l.random.Float64() < b.Loss
			l.burst = l.random.Float64() >= b.End
			if lost {
				return true
			}
		}
	}
	if p.tail && l.random.Float64() < p.to.flow.TailLoss {
		return true
	}
	return l.Loss > 0 && l.random.Float64() < l.Loss
}

// change makes change k. The packet that the link works on is not affected.
func (l *link) change(k int32) {
	c := &l.Changes[k]
	if c.Rate > 0 {
		l.account()
		l.Rate = c.Rate
	}
	if c.Delay > 0 {
		l.Delay = c.Delay
	}
}

// account adds up the capacity up to now.
func (l *link) account() {
	l.result.Capacity += int64(float64(l.Rate) * (l.w.now - l.since).Seconds())
	l.since = l.w.now
}
