package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// path is what the wire does to packets, the same in both directions.
type path struct {
	rate    float64       // octets a second of IP packets; 0: as fast as they come
	delay   time.Duration // one way, beyond the queue
	queue   int           // octets that may wait at the bottleneck; what is more is dropped
	loss    float64       // probability that a packet is lost at random
	reorder float64       // probability that a packet is overtaken
	seed    uint64
}

const (
	// maxOvertaken: a packet that is held back lets 1 to 20 later ones pass.
	maxOvertaken = 20
	// maxHold is how late it is at most where no more packets come to overtake it: four times what twenty take at
	// 100 Mbit/s.
	maxHold = 10 * time.Millisecond
	// ourMTU is that of both ends. It is what "ip tuntap add" gives a device.
	ourMTU = 1500
)

// parcel is a packet on the wire.
type parcel struct {
	b    []byte
	due  time.Duration
	hold int // later packets that are to be delivered first
}

// lane is one direction of the wire: a queue that the rate empties, a delay, and what befalls packets. It is a value: now
// is passed in, and the same packets at the same times with the same seed come out the same.
type lane struct {
	path
	dice  *rand.Rand
	free  time.Duration // when the last bit of what waits at the bottleneck is out
	fifo  []parcel      // on the way, in order
	first int           // of fifo
	held  []parcel
	spare [][]byte
	flows flows
	laneStats
}

// laneStats is what a lane has done.
type laneStats struct {
	packets, octets uint64 // delivered
	lost, dropped   uint64 // packets, at random and for want of room
	overtaken       uint64
	needless        uint64 // octets of text that were delivered again
	late            uint64 // packets delivered a millisecond or more after their time
	worst           time.Duration
	queued          time.Duration // the longest wait at the bottleneck
}

func newLane(p path, direction uint64) *lane {
	return &lane{path: p, dice: rand.New(rand.NewPCG(p.seed, direction)), flows: flows{}}
}

// enter puts a copy of a packet on the wire.
func (l *lane) enter(now time.Duration, b []byte) {
	// Each packet throws the same dice, whatever becomes of it.
	lose, hold, overtakers := l.dice.Float64(), l.dice.Float64(), 1+l.dice.IntN(maxOvertaken)
	if lose < l.loss {
		l.lost++
		return
	}
	l.free = max(l.free, now)
	if l.rate > 0 {
		if wait := l.free - now; wait.Seconds()*l.rate+float64(len(b)) > float64(l.queue) {
			l.dropped++
			return
		}
		l.free += time.Duration(float64(len(b)) / l.rate * float64(time.Second))
	}
	l.queued = max(l.queued, l.free-now)
	p := parcel{b: append(l.buffer(), b...), due: l.free + l.delay}
	if hold < l.reorder {
		p.hold = overtakers
		l.overtaken++
	}
	l.fifo = append(l.fifo, p)
}

// next is when something is due; ok says that there is something.
func (l *lane) next() (at time.Duration, ok bool) {
	if l.first < len(l.fifo) {
		at, ok = l.fifo[l.first].due, true
	}
	for i := range l.held {
		if !ok || l.held[i].due < at {
			at, ok = l.held[i].due, true
		}
	}
	return at, ok
}

// deliver calls out with each packet that is due, in order. The bytes are the lane's again when out returns.
func (l *lane) deliver(now time.Duration, out func(b []byte)) {
	for l.first < len(l.fifo) && l.fifo[l.first].due <= now {
		p := l.fifo[l.first]
		l.fifo[l.first] = parcel{}
		l.first++
		if p.hold > 0 {
			p.due += maxHold
			l.held = append(l.held, p)
			continue
		}
		l.pass(now, &p, out)
		l.overtake(now, out)
	}
	for i := 0; i < len(l.held); i++ {
		if p := l.held[i]; p.due <= now {
			l.held = slices.Delete(l.held, i, i+1)
			i--
			l.pass(now, &p, out)
		}
	}
	if l.first > 1024 && l.first*2 > len(l.fifo) {
		n := copy(l.fifo, l.fifo[l.first:])
		clear(l.fifo[n:])
		l.fifo, l.first = l.fifo[:n], 0
	}
}

// overtake counts one delivery for all that are held back, and lets those go that were overtaken often enough. Each of them
// overtakes in turn what came before it.
func (l *lane) overtake(now time.Duration, out func(b []byte)) {
	for i := range l.held {
		l.held[i].hold--
	}
	for {
		i := slices.IndexFunc(l.held, func(p parcel) bool { return p.hold <= 0 })
		if i < 0 {
			return
		}
		p := l.held[i]
		l.held = slices.Delete(l.held, i, i+1)
		for j := range l.held[:i] {
			l.held[j].hold--
		}
		p.due = now
		l.pass(now, &p, out)
	}
}

func (l *lane) pass(now time.Duration, p *parcel, out func(b []byte)) {
	l.packets++
	l.octets += uint64(len(p.b))
	if late := now - p.due; late >= time.Millisecond {
		l.late++
		l.worst = max(l.worst, late)
	}
	l.needless += uint64(l.flows.delivered(p.b))
	out(p.b)
	l.spare = append(l.spare, p.b[:0])
}

// buffer is memory for a packet.
func (l *lane) buffer() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return make([]byte, 0, ourMTU)
}
