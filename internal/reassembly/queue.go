package reassembly

import "time"

// order is one of the orders that packets stand in.
type order uint8

const (
	byAge    order = iota // of the family
	byUse                 // of all
	bySource              // of the source, by use
	numOrders
)

// links are a packet's neighbours in one order.
type links struct{ prev, next *datagram }

// queue is the packets in one order.
type queue struct {
	first, last *datagram
	by          order
}

func (q *queue) push(d *datagram) {
	d.links[q.by] = links{prev: q.last}
	if q.last != nil {
		q.last.links[q.by].next = d
	} else {
		q.first = d
	}
	q.last = d
}

func (q *queue) remove(d *datagram) {
	l := d.links[q.by]
	if l.prev != nil {
		l.prev.links[q.by].next = l.next
	} else {
		q.first = l.next
	}
	if l.next != nil {
		l.next.links[q.by].prev = l.prev
	} else {
		q.last = l.prev
	}
	d.links[q.by] = links{}
}

// open begins a packet.
func (t *Table) open(now time.Duration, f *fragment) *datagram {
	d := &datagram{key: f.key, total: -1, iface: f.iface, deadline: now + Timeout6}
	if f.four {
		d.deadline = now + Timeout4
	}
	from := f.source()
	if d.source = t.sources[from]; d.source == nil {
		d.source = &source{used: queue{by: bySource}}
		t.sources[from] = d.source
	}
	t.packets[d.key] = d
	t.most = max(t.most, len(t.packets))
	t.ages(d).push(d)
	t.used.push(d)
	d.source.used.push(d)
	t.charge(d, packetOverhead)
	return d
}

func (t *Table) ages(d *datagram) *queue {
	if d.four {
		return &t.age4
	}
	return &t.age6
}

// charge adds n octets to what d costs.
func (t *Table) charge(d *datagram, n int) {
	d.octets += n
	d.source.octets += n
	t.octets += n
}

// touch makes d the packet that was used last.
func (t *Table) touch(d *datagram) {
	t.used.remove(d)
	t.used.push(d)
	d.source.used.remove(d)
	d.source.used.push(d)
}

// few is how many packets maps have room for that nobody minds.
const few = 64

// remove forgets a packet.
func (t *Table) remove(d *datagram) {
	t.charge(d, -d.octets)
	t.ages(d).remove(d)
	t.used.remove(d)
	d.source.used.remove(d)
	delete(t.packets, d.key)
	if d.source.used.first == nil {
		delete(t.sources, d.key.source())
	}
	if len(t.packets) == 0 && t.most > few {
		t.empty()
	}
}

// abandon gives up what has come of a packet, but remembers it until its time is up, so that what is still to come is not
// taken for the beginning of another. d may be nil.
func (t *Table) abandon(d *datagram, v Verdict) Result {
	if d == nil || d.dead {
		return Result{Verdict: v}
	}
	r := Result{Verdict: v, Lost: len(d.pieces)}
	d.dead, d.pieces, d.first = true, nil, nil
	t.charge(d, packetOverhead-d.octets)
	return r
}

// spoil is abandon for a packet that the fragment at hand is in already: the verdict counts that one.
func (t *Table) spoil(d *datagram, v Verdict) Result {
	r := t.abandon(d, v)
	r.Lost--
	return r
}

// fit makes room after d has grown, at the expense of those that have waited longest for a fragment: first of its own
// source's, then of all. d itself goes last.
func (t *Table) fit(d *datagram) Result {
	var r Result
	evict := func(x *datagram) {
		r.Lost += len(x.pieces)
		t.remove(x)
	}
	for d.source.octets > t.perSource && d.source.used.first != d {
		evict(d.source.used.first)
	}
	for t.octets > t.limit && t.used.first != d {
		evict(t.used.first)
	}
	if d.source.octets > t.perSource || t.octets > t.limit {
		lost := r.Lost
		r = t.spoil(d, Full)
		r.Lost += lost
	}
	return r
}
