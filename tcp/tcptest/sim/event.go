package sim

import "time"

// kind is what an event is.
type kind uint8

const (
	arrives kind = iota // packet i at its end
	wakes               // end k of flow i, since a timer is due
	opens               // flow i
	writes              // flow i's user has more to write
	samples             // of everything
	changes             // change k of link i
)

// event is something that happens later.
type event struct {
	i    int32
	k    int32
	kind kind
}

// scheduled is an event in a queue.
type scheduled struct {
	at    time.Duration
	order uint64 // of pushing, which decides among events of one instant
	event
}

func (s *scheduled) before(o *scheduled) bool {
	return s.at < o.at || s.at == o.at && s.order < o.order
}

// queue holds events by time: a heap in which each has four children, which is faster than two since they lie together.
type queue struct {
	heap  []scheduled
	order uint64
}

// never is later than everything.
const never = time.Duration(1<<63 - 1)

// next is when the next event happens.
func (q *queue) next() time.Duration {
	if len(q.heap) == 0 {
		return never
	}
	return q.heap[0].at
}

func (q *queue) push(at time.Duration, e event) {
	q.order++
	s := scheduled{at, q.order, e}
	q.heap = append(q.heap, s)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !s.before(&q.heap[up]) {
			break
		}
		q.heap[i] = q.heap[up]
		i = up
	}
	q.heap[i] = s
}

// pop takes the next event out; there must be one.
func (q *queue) pop() event {
	top := q.heap[0].event
	last := len(q.heap) - 1
	s := q.heap[last]
	q.heap = q.heap[:last]
	i := 0
	for {
		first := 4*i + 1
		if first >= last {
			break
		}
		least := first
		for c := first + 1; c < min(first+4, last); c++ {
			if q.heap[c].before(&q.heap[least]) {
				least = c
			}
		}
		if !q.heap[least].before(&s) {
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	if last > 0 {
		q.heap[i] = s
	}
	return top
}
