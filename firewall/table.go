package firewall

import (
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

const (
	protoICMP4 = ipv4.ProtoICMP
	protoICMP6 = ipv6.ProtoICMP
)

// class is how long a connection lasts without a packet, and whether it may be given up for another.
type class uint8

// The classes. Those up to classClosing may be given up.
const (
	classHalf    class = iota // TCP, not yet established
	classNew                  // UDP and others, no conversation yet
	classICMP                 // queries
	classClosing              // TCP, FIN from both sides, or RST
	classUDP                  // UDP and others, a conversation
	classTCP                  // established
	numClasses
)

// conn is a connection of any protocol.
type conn struct {
	tuples     [2]tuple // as its first side sends, before translation; and as the answers come, before theirs
	prev, next uint32   // in the queue of its class
	gen        uint32   // counts the connections that had this place
	source     uint32   // the mapping that its first side goes out by; 0: none
	target     uint32   // the mapping that it came in by
	progress   Progress
	live       bool
	steady     bool // TCP: it was established once
	class      class
	judged     uint8 // a bit for each Direction in which the rules have let it begin
	translated bool  // its destination
	peered     bool  // it counts in the peers of source
	seen       time.Duration
	queued     time.Duration // when it took its place in the queue
	sides      [2]side       // of TCP
	packets    [2]uint64
}

// heading is the flow as it leaves, of packets that side d sends.
func (c *conn) heading(d int) tuple { return c.tuples[1-d].inverse() }

// chunk is how many connections are allocated at once: about 64 KB.
const chunk = 256

// queue lists connections in the order of their last packet, by a second or so.
type queue struct {
	head, tail uint32
	n          int
}

// table holds the connections.
type table struct {
	chunks   []*[chunk]conn
	free     uint32 // the first of the unused, by next
	used     uint32 // places ever used; place 0 is none
	n, limit int
	index    index // of both tuples; the reference is the place, and on its right a bit for the side
	queues   [numClasses]queue
}

func (t *table) at(ref uint32) *conn { return &t.chunks[ref/chunk][ref%chunk] }

// take is the place for a new connection, or 0 if there is none.
func (t *table) take() uint32 {
	if t.n >= t.limit {
		return 0
	}
	ref := t.free
	if ref != 0 {
		t.free = t.at(ref).next
	} else {
		t.used++
		ref = t.used
		if int(ref/chunk) == len(t.chunks) {
			t.chunks = append(t.chunks, new([chunk]conn))
		}
	}
	t.n++
	return ref
}

// release gives a place back.
func (t *table) release(ref uint32) {
	c := t.at(ref)
	*c = conn{gen: c.gen + 1, next: t.free}
	t.free = ref
	t.n--
}

// push puts a connection at the end of its class's queue, and pull takes it out.
func (t *table) push(ref uint32, now time.Duration) {
	c := t.at(ref)
	q := &t.queues[c.class]
	c.prev, c.next, c.queued = q.tail, 0, now
	if q.tail != 0 {
		t.at(q.tail).next = ref
	} else {
		q.head = ref
	}
	q.tail = ref
	q.n++
}

func (t *table) pull(ref uint32) {
	c := t.at(ref)
	q := &t.queues[c.class]
	if c.prev != 0 {
		t.at(c.prev).next = c.next
	} else {
		q.head = c.next
	}
	if c.next != 0 {
		t.at(c.next).prev = c.prev
	} else {
		q.tail = c.prev
	}
	q.n--
}

// stale is how old a connection's place in its queue may be before a packet moves it to the end: queues are in order by
// that much, and a busy connection does not touch its neighbours with each packet.
const stale = time.Second

// touch notes a packet of the connection.
func (f *Firewall) touch(now time.Duration, ref uint32) {
	c := f.at(ref)
	c.seen = now
	if k := c.kind(); k != c.class || now-c.queued >= stale {
		f.pull(ref)
		c.class = k
		f.push(ref, now)
	}
}

// kind is the class that the connection belongs to.
func (c *conn) kind() class {
	switch c.tuples[0].proto {
	case protoICMP4, protoICMP6:
		return classICMP
	case ipv4.ProtoTCP:
		switch c.progress {
		case Begun, Answered:
			return classHalf
		case Steady:
			return classTCP
		}
		return classClosing
	}
	if c.progress == Steady {
		return classUDP
	}
	return classNew
}

// find is the connection that the tuple belongs to, and the side that sends it; 0 if there is none.
func (f *Firewall) find(now time.Duration, t *tuple) (ref uint32, side int) {
	h := f.key.hash(t)
	for i := f.index.next(h, int(h)); i >= 0; i = f.index.next(h, i+1) {
		r := f.index.slots[i].ref
		c := f.at(r >> 1)
		if c.tuples[r&1] != *t {
			continue
		}
		if c.seen+f.timeouts[c.class] <= now {
			f.remove(r >> 1)
			return 0, 0
		}
		return r >> 1, int(r & 1)
	}
	return 0, 0
}

// insert makes a connection of the two tuples, which no other has. With 0 there is no room.
func (f *Firewall) insert(now time.Duration, first, second tuple) uint32 {
	ref := f.take()
	if ref == 0 {
		if !f.evict() {
			return 0
		}
		ref = f.take()
	}
	c := f.at(ref)
	c.tuples = [2]tuple{first, second}
	c.live = true
	c.seen = now
	c.class = c.kind()
	f.index.add(f.key.hash(&first), ref<<1)
	f.index.add(f.key.hash(&second), ref<<1|1)
	f.push(ref, now)
	f.stats.Opened++
	return ref
}

// remove forgets a connection.
func (f *Firewall) remove(ref uint32) {
	c := f.at(ref)
	f.index.remove(f.key.hash(&c.tuples[0]), ref<<1)
	f.index.remove(f.key.hash(&c.tuples[1]), ref<<1|1)
	f.pull(ref)
	if c.peered {
		f.unpeer(c.source, c.tuples[0].dst)
	}
	f.unmap(c.source)
	f.unmap(c.target)
	f.release(ref)
}

// evict makes room: of what may be given up, the kind there is most of loses its oldest. So a flood of SYNs costs SYNs,
// and no flood costs an established connection.
func (f *Firewall) evict() bool {
	most := classHalf
	for k := classNew; k <= classClosing; k++ {
		if f.queues[k].n > f.queues[most].n {
			most = k
		}
	}
	if f.queues[most].n == 0 {
		return false
	}
	f.remove(f.queues[most].head)
	f.stats.Evicted++
	return true
}

// Expire forgets the connections whose time is up. Packets do it too, a few at a time, so it need not be called while
// traffic flows.
func (f *Firewall) Expire(now time.Duration) {
	for k := class(0); k < numClasses; k++ {
		for f.expire(now, k) {
		}
	}
}

// expire forgets the oldest connection of a class if its time is up.
func (f *Firewall) expire(now time.Duration, k class) bool {
	ref := f.queues[k].head
	if ref == 0 || f.at(ref).seen+f.timeouts[k] > now {
		return false
	}
	f.remove(ref)
	f.stats.Expired++
	return true
}

// Deadline is when the first connection's time is up, or a second later; ok is false if there is none. It is when to call
// Expire, if there is no traffic that would.
func (f *Firewall) Deadline() (at time.Duration, ok bool) {
	for k := range f.queues {
		if ref := f.queues[k].head; ref != 0 {
			if t := f.at(ref).seen + f.timeouts[k]; !ok || t < at {
				at, ok = t, true
			}
		}
	}
	return at, ok
}
