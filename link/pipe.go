package link

import (
	"sync"
	"sync/atomic"
	"time"
)

// PipeConfig describes an in-memory wire. The zero value is a perfect one: no Ethernet, MTU 65535, no delay, no fault.
//
// Loss, Reorder and Duplicate are probabilities from 0 to 1, for each packet on its own. What befalls the nth packet
// of a direction follows from Seed, the direction and n alone: the same Seed gives the same fates again, whatever the
// packets, the timing and the other direction do.
type PipeConfig struct {
	Ethernet bool // packets are Ethernet frames
	MTU      int  // the largest IP packet in bytes; 0: 65535
	// GSO is the largest super-segment in bytes of IP packet, at most 65535; 0: none. With it, both ends also take
	// Partial checksums, and nothing is cut or completed on the way: packets arrive as they were sent, in one piece
	// and with their Offload, Valid where it was Partial. Without it, Offload is not carried, and a super-segment
	// is dropped.
	GSO       int
	Delay     time.Duration // from the Write to the earliest Read
	Loss      float64       // the packet never arrives
	Reorder   float64       // up to eight packets written later arrive first; if none come, it is only late
	Duplicate float64       // the packet arrives twice
	Seed      uint64
	Queue     int // packets under way in each direction before Write says ErrFull; 0: 1024
}

const (
	// defaultQueue is about the length of the queue that Linux gives an Ethernet interface (txqueuelen, 1000).
	defaultQueue = 1024

	// A packet held back lets 1 to holdPackets others pass: both less and more than the three duplicate
	// acknowledgements that TCP takes for a loss (RFC 5681 §3.2).
	holdPackets = 8
	// holdTime is how late a held packet is at most, on top of half of Delay, if nothing comes to overtake it: far
	// below any retransmission timeout (RFC 6298 §2.4: a second), far above the gap between packets of a burst.
	holdTime = time.Millisecond
)

// Pipe makes a wire and returns the devices at its two ends, each with one queue. What is written at one end is read
// at the other, and only there: Write copies the bytes and returns, and runs nobody else's code.
//
// A pipe has no goroutine and holds buffers only for packets under way, besides a few. It waits on a condition and on
// package time's clock, so that in a testing/synctest bubble its delays cost no time.
//
// Closing one end is as pulling its cable: packets already under way to the other end still arrive there; what the
// other end writes from now on counts in its Stats as Down and is gone; and its Read waits on, for its own Close.
// Both devices have a method Stats() Stats, for the packets that they have written.
func Pipe(c PipeConfig) (a, b Device) {
	if c.MTU <= 0 || c.MTU > maxPacket {
		c.MTU = maxPacket
	}
	if c.Queue <= 0 {
		c.Queue = defaultQueue
	}
	c.GSO = min(max(c.GSO, 0), maxPacket)
	c.Delay = max(c.Delay, 0)
	start := time.Now()
	caps := Caps{
		MTU: c.MTU, Ethernet: c.Ethernet,
		Checksum: c.GSO > 0, GSO4: c.GSO, GSO6: c.GSO, GSOUDP: c.GSO,
	}
	ab, ba := newWire(c, caps, 0, start), newWire(c, caps, 1, start)
	return newEnd("pipe0", caps, ba, ab), newEnd("pipe1", caps, ab, ba)
}

// An end is both the device and its only queue.
type end struct {
	in, out *wire
	caps    Caps
	queues  [1]Queue
	closed  atomic.Bool
}

func newEnd(name string, caps Caps, in, out *wire) *end {
	e := &end{in: in, out: out, caps: caps}
	e.caps.Name = name
	e.queues[0] = e
	return e
}

func (e *end) Caps() Caps                         { return e.caps }
func (e *end) Queues() []Queue                    { return e.queues[:] }
func (e *end) Ready() <-chan struct{}             { return e.out.ready }
func (e *end) Read(p []Packet) (n int, err error) { return e.in.read(p) }

// Write copies p onto the wire. The bytes are copied outside of the wire's lock, so that the reader at the other end
// and other writers go on meanwhile.
func (e *end) Write(p []Packet) (n int, err error) {
	w := e.out
	if e.closed.Load() {
		return 0, errClosed
	}
	first, n, err := w.reserve(p)
	b := first
	for i := 0; b != nil; i++ {
		if w.caps.tooLong(&p[i]) {
			continue // reserve gave it no buffer
		}
		b.fill(&p[i], w.config.GSO > 0)
		b = b.next
	}
	w.commit(first)
	return n, err
}

func (e *end) Close() error {
	if e.closed.Swap(true) {
		return nil
	}
	e.in.unplug()
	e.out.notify()
	return nil
}

// Stats counts what this end has written that did not arrive, or not as it was.
func (e *end) Stats() Stats {
	e.out.mu.Lock()
	defer e.out.mu.Unlock()
	return e.out.stats
}

// A wire is one direction of a pipe.
type wire struct {
	config    PipeConfig
	caps      Caps
	direction uint64 // 0 or 1: goes into the fate
	start     time.Time
	ready     chan struct{} // of the writing end

	spareSmall, spareLarge sync.Pool // of *buffer: what the garbage collector may have

	mu       sync.Mutex
	arrived  sync.Cond // the reader waits here, on mu
	stats    Stats
	n        uint64 // packets written so far: the number of the next one
	count    int    // packets under way, those being written among them; at most config.Queue, and duplicates
	full     bool   // a writer was told ErrFull and waits for ready
	closed   bool   // by the reading end
	finished bool   // by the writing end, for the reader to know
	waiting  bool   // the reader waits

	sent  list // under way, in order of due
	held  list // held back to be overtaken, in order of due
	taken list // what the reader has been given and not yet returned
	free  [2]freeList

	timer *time.Timer   // wakes the reader
	alarm time.Duration // when timer fires; noAlarm: not set
}

const noAlarm = time.Duration(1<<63 - 1)

func newWire(c PipeConfig, caps Caps, direction uint64, start time.Time) *wire {
	w := &wire{config: c, caps: caps, direction: direction, start: start, ready: make(chan struct{}, 1), alarm: noAlarm}
	w.arrived.L = &w.mu
	return w
}

// timed reports whether packets have a time at which they are due; otherwise nobody looks at the clock.
func (w *wire) timed() bool { return w.config.Delay > 0 || w.config.Reorder > 0 }

func (w *wire) now() time.Duration {
	if !w.timed() {
		return 0
	}
	return time.Since(w.start)
}

// reserve takes one buffer for each packet of p that will go onto the wire, as far as there is room, and says for how
// many packets of p that is.
func (w *wire) reserve(p []Packet) (first *buffer, n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var l list
	for n = range p {
		if w.caps.tooLong(&p[n]) {
			w.stats.TooLong++
			continue
		}
		if w.count >= w.config.Queue {
			w.full = true
			return l.first, n, ErrFull
		}
		w.count++
		l.push(w.buffer(p[n].Len()))
	}
	return l.first, len(p), nil
}

// commit puts filled buffers onto the wire, each with its fate, and wakes the reader if one is due before it wakes by
// itself.
func (w *wire) commit(b *buffer) {
	if b == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	for b != nil {
		next := b.next
		b.next = nil
		w.carry(b, now)
		b = next
	}
	w.signalRoom() // since all may have been lost
	if w.waiting && w.due() < w.alarm {
		w.waiting = false
		w.arrived.Signal()
	}
}

// carry decides what befalls the next packet, b, and lets those go that were held back for it.
func (w *wire) carry(b *buffer, now time.Duration) {
	f := w.config.fate(w.direction, w.n)
	w.n++
	b.due = now + w.config.Delay
	switch {
	case w.closed: // nobody at the other end
		w.stats.Down++
		w.discard(b)
		return
	case f.lost:
		w.stats.Lost++
		w.discard(b)
	case f.passedBy > 0:
		w.stats.Reordered++
		b.due += holdTime + w.config.Delay/2
		b.after = w.n + f.passedBy
		w.held.push(b)
	default:
		w.sent.push(b)
	}
	if f.duplicated && !f.lost {
		w.stats.Duplicated++
		w.count++
		w.sent.push(w.copy(b, now+w.config.Delay))
	}
	w.overtaken(now)
}

// overtaken lets go the held packets that enough others have passed. They follow the newest packet.
func (w *wire) overtaken(now time.Duration) {
	if w.held.first == nil {
		return
	}
	var stay list
	for b := w.held.pop(); b != nil; b = w.held.pop() {
		if due := now + w.config.Delay; b.after <= w.n && due <= b.due {
			b.due = due
			w.sent.push(b)
		} else {
			stay.push(b)
		}
	}
	w.held = stay
}
