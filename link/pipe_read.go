package link

import (
	"io"
	"time"
)

// read fills p with what is due, waiting for the first. Buffers handed out by the last read come back here.
func (w *wire) read(p []Packet) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, errClosed
	}
	for b := w.taken.pop(); b != nil; b = w.taken.pop() {
		w.recycle(b)
	}
	for len(p) > 0 {
		if n := w.take(p); n > 0 {
			return n, nil
		}
		if w.finished && w.sent.first == nil && w.held.first == nil {
			return 0, io.EOF
		}
		w.wait()
		if w.closed {
			return 0, errClosed
		}
	}
	return 0, nil
}

// take moves what is due from the wire to the reader.
func (w *wire) take(p []Packet) (n int) {
	if w.sent.first == nil && w.held.first == nil {
		return 0
	}
	now := w.now()
	for n < len(p) {
		from := w.next()
		if from.first == nil || from.first.due > now {
			break
		}
		b := from.pop()
		w.taken.push(b)
		p[n] = Packet{Head: b.bytes[:b.n], Offload: b.offload}
		if len(b.bytes) == bufferLen {
			p[n].Buffer = &b.bytes
		}
		n++
	}
	w.count -= n
	w.signalRoom()
	return n
}

// next says which list has the packet that is due first.
func (w *wire) next() *list {
	if w.sent.first == nil || w.held.first != nil && w.held.first.due < w.sent.first.due {
		return &w.held
	}
	return &w.sent
}

// due says when the next packet can be read; noAlarm if there is none.
func (w *wire) due() time.Duration {
	if b := w.next().first; b != nil {
		return b.due
	}
	return noAlarm
}

// wait waits for a packet to be written, or for one under way to become due.
func (w *wire) wait() {
	w.alarm = w.due()
	if w.alarm != noAlarm {
		d := w.alarm - w.now()
		if w.timer == nil {
			w.timer = time.AfterFunc(d, w.wake)
		} else {
			w.timer.Reset(d)
		}
	}
	w.waiting = true
	w.arrived.Wait()
	w.waiting = false
	w.alarm = noAlarm
}

// wake runs when a packet becomes due. Now and then it runs for nothing, for a packet that went another way: the
// reader looks again.
func (w *wire) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived.Signal()
}

// signalRoom tells a writer that was refused that there is room again: for half of the queue, so that it is not woken
// for a single packet.
func (w *wire) signalRoom() {
	if w.full && w.count <= w.config.Queue/2 {
		w.full = false
		w.notify()
	}
}

// notify makes the queue of the writing end ready.
func (w *wire) notify() {
	select {
	case w.ready <- struct{}{}:
	default: // a value waits there already
	}
}

// unplug closes the reading end: what is under way is gone. Buffers that the reader holds stay with it.
func (w *wire) unplug() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	for _, l := range []*list{&w.sent, &w.held} {
		for b := l.first; b != nil; b = b.next {
			w.stats.Down++
			w.count--
		}
		*l = list{}
	}
	w.taken, w.free = list{}, [2]freeList{}
	w.arrived.Broadcast()
	w.notify()
}

// finish says for the writing end that nothing more will come: once it has read what is under way, the reader gets io.EOF.
func (w *wire) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = true
	w.arrived.Broadcast()
}

// A buffer holds one packet under way.
type buffer struct {
	next    *buffer
	bytes   []byte
	n       int // length of the packet in bytes
	offload Offload
	due     time.Duration // since wire.start
	after   uint64        // held back until this many packets have been written
}

// fill copies p, and its Offload where the wire carries that.
func (b *buffer) fill(p *Packet, offload bool) {
	b.n = copy(b.bytes, p.Head)
	for _, t := range p.Text {
		b.n += copy(b.bytes[b.n:], t)
	}
	b.offload = Offload{}
	if offload {
		b.offload = p.Offload
		b.offload.Valid = p.Offload.Valid || p.Offload.Partial
	}
}

// A list is a queue of buffers.
type list struct{ first, last *buffer }

func (l *list) push(b *buffer) {
	b.next = nil
	if l.first == nil {
		l.first = b
	} else {
		l.last.next = b
	}
	l.last = b
}

func (l *list) pop() *buffer {
	b := l.first
	if b != nil {
		l.first, b.next = b.next, nil
	}
	return b
}

// A freeList is a stack of buffers of one size: the one used last, still in the processor's cache, is used next.
type freeList struct {
	first *buffer
	n     int
}

const (
	// smallBuffer is enough for a frame of ordinary Ethernet, and for every acknowledgement: two to the page.
	smallBuffer = 2048
	// keepSmall and keepLarge are how many buffers a direction keeps when idle: a batch of small ones, and as many
	// large ones as a writer and a reader have in hand at once. More go to a sync.Pool, and so to the garbage
	// collector in the end.
	keepSmall, keepLarge = 64, 4
)

// buffer returns a buffer with room for n bytes. w.mu is held.
func (w *wire) buffer(n int) *buffer {
	f := &w.free[0]
	if n > smallBuffer {
		f = &w.free[1]
	}
	if b := f.first; b != nil {
		f.first, b.next = b.next, nil
		f.n--
		return b
	}
	if n <= smallBuffer {
		if b, ok := w.spareSmall.Get().(*buffer); ok {
			return b
		}
		return &buffer{bytes: make([]byte, smallBuffer)}
	}
	if b, ok := w.spareLarge.Get().(*buffer); ok {
		return b
	}
	size := max(w.config.MTU, w.config.GSO)
	if w.config.Ethernet {
		size += maxFrameHeader
	}
	if size > bufferLen/2 {
		size = max(size, bufferLen)
	}
	return &buffer{bytes: make([]byte, size)}
}

// recycle takes back a buffer that nobody looks at any more. w.mu is held.
func (w *wire) recycle(b *buffer) {
	f, spare, keep := &w.free[0], &w.spareSmall, keepSmall
	if len(b.bytes) > smallBuffer {
		f, spare, keep = &w.free[1], &w.spareLarge, keepLarge
	}
	if f.n >= keep {
		spare.Put(b)
		return
	}
	b.next, f.first = f.first, b
	f.n++
}

// discard drops a packet that was on the wire. w.mu is held.
func (w *wire) discard(b *buffer) {
	w.count--
	w.recycle(b)
}

// copy returns a second packet like b. w.mu is held.
func (w *wire) copy(b *buffer, due time.Duration) *buffer {
	d := w.buffer(b.n)
	d.n = copy(d.bytes, b.bytes[:b.n])
	d.offload, d.due = b.offload, due
	return d
}

// A fate is what befalls a packet.
type fate struct {
	lost, duplicated bool
	passedBy         uint64 // how many packets overtake it; 0: none
}

// fate is a function of Seed, the direction, and the number of the packet: no state, so that no other packet has a
// say in it.
func (c *PipeConfig) fate(direction, n uint64) (f fate) {
	if c.Loss <= 0 && c.Reorder <= 0 && c.Duplicate <= 0 {
		return f
	}
	h := scramble(scramble(scramble(c.Seed)+direction) + n)
	f.lost = chance(scramble(h+1), c.Loss)
	f.duplicated = chance(scramble(h+2), c.Duplicate)
	if chance(scramble(h+3), c.Reorder) {
		f.passedBy = 1 + scramble(h+4)%holdPackets
	}
	return f
}

// chance says yes to a fraction p of all h. 53 bits are as many as a float64 holds exactly.
func chance(h uint64, p float64) bool { return float64(h>>11) < p*(1<<53) }

// scramble is one step of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): each
// bit of the result depends on each of x.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
