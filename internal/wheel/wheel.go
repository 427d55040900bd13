// Package wheel keeps timers for many owners at once: the deadlines of every
// connection in one shard of the stack.
//
// Think of a clock with seven hands. The fastest one passes 64 slots, one
// each millisecond; the next passes 64 slots of 64 ms, and so on. A timer
// hangs in the slot of the slowest hand that still has to move before it is
// due, and is handed down ("cascades") to a faster one as that hand arrives.
// Arming and stopping are a few pointer writes, however many timers there
// are, and bitmaps say which slots hold something, so that empty time costs
// nothing: an idle wheel never ticks, and a jump of sixty days is one step.
//
// A Wheel has no clock, lock or goroutine of its own. Its caller says what
// time it is, as a duration since a start of the caller's choice:
//
//	w.Arm(&conn.timer, deadline)
//	…
//	if at, ok := w.Next(); ok { /* sleep until at */ }
//	w.Advance(now, func(c *Conn) { c.expire(now) })
package wheel

import (
	"math/bits"
	"time"
)

// Tick is the grain of a wheel. A deadline is rounded up to a whole tick, so
// that a timer is never early and at most one tick late. 1 ms is the grain of
// the RTO in the kernels that we talk to, and far below RFC 6298's G.
const Tick = time.Millisecond

const (
	slotBits = 6             // a bitmap of a level's slots is one uint64
	slots    = 1 << slotBits // slots of one level
	levels   = 7             // 64^7 ms: 139 years, beyond any uptime
	regular  = levels * slots
	horizon  = 1<<(levels*slotBits) - 1 // the last tick that a wheel can tell

	late  = regular     // list: armed for a tick that is already over
	due   = regular + 1 // list: what Advance has taken out of a slot and not looked at yet
	lists = regular + 2

	// peek is how many timers of a slot Next looks at for the exact moment
	// before it is content with the slot's start: enough that a stack with a
	// few connections is not woken for nothing, and a bound on Next's work.
	peek = 4
)

// A Timer is one deadline of an owner, who embeds it and so needs no
// allocation for it. The zero Timer, with Value set, is ready and not armed.
// It belongs to one Wheel at a time and must not be copied while armed.
type Timer[T any] struct {
	Value T // what Advance hands to fire; set by the owner before Arm

	next, prev *Timer[T]
	at         time.Duration
	list       uint16 // 1 + the index of the list that it hangs in; 0: not armed
}

// Armed reports whether the timer waits for its deadline.
func (t *Timer[T]) Armed() bool { return t.list != 0 }

// At returns the deadline that Arm was last given, not rounded. It has a
// meaning only while the timer is armed.
func (t *Timer[T]) At() time.Duration { return t.at }

// A Wheel holds armed timers. The zero Wheel is empty and its time is 0.
// Deadlines beyond 2^42 ms (139 years) after the start count as that moment.
type Wheel[T any] struct {
	now  uint64 // tick that Advance was last called for
	cur  uint64 // tick that the hands stand at; differs from now only inside Advance
	busy [levels]uint64
	head [lists]*Timer[T]
}

// Arm sets the timer's deadline to at, whether it was armed or not. A deadline
// that moves later, as a retransmission timer does with every acknowledgement,
// is only noted, and the timer changes its slot when the old one comes up.
// A deadline that has passed is due at the next call of Advance.
func (w *Wheel[T]) Arm(t *Timer[T], at time.Duration) {
	t.at = at
	tick := roundUp(at)
	if t.list != 0 {
		if l := int(t.list) - 1; l == due || l < regular && w.start(l) <= tick {
			return
		}
		w.unlink(t)
	}
	if tick <= w.now {
		w.link(t, late)
		return
	}
	w.place(t, tick)
}

// Stop disarms the timer at once. It does nothing if it is not armed.
func (w *Wheel[T]) Stop(t *Timer[T]) {
	if t.list != 0 {
		w.unlink(t)
	}
}

// Next returns when Advance should be called next, and false if no timer is
// armed. It is never later than the earliest deadline rounded up to a tick.
// It may be earlier, where many timers share a slot that has to cascade first:
// at most once a level for one deadline.
func (w *Wheel[T]) Next() (at time.Duration, ok bool) {
	if w.head[late] != nil || w.head[due] != nil {
		return time.Duration(w.now) * Tick, true
	}
	l, ok := w.first()
	if !ok {
		return 0, false
	}
	start, least, n := w.start(l), w.following(l), 0
	for t := w.head[l]; t != nil; t = t.next {
		if n == peek {
			return time.Duration(start) * Tick, true
		}
		least = min(least, roundUp(t.at))
		n++
	}
	return time.Duration(least) * Tick, true
}

// Advance moves the wheel's time to now and calls fire with the Value of each
// timer whose deadline, rounded up to a tick, is not after now, in the order of
// their ticks. A timer is disarmed before fire is called, and fire may arm and
// stop any timer of the wheel; one that has fired and is armed for a moment not
// after now waits for the next Advance, so that Advance always returns. A now
// that is earlier than that of the last call counts as the last one. The work
// is proportional to the timers that are due or cascade, not to the time that
// has passed. Advance must not be called from fire.
func (w *Wheel[T]) Advance(now time.Duration, fire func(T)) {
	w.now = max(w.now, roundDown(now))
	w.drain(late, fire)
	for {
		l, ok := w.first()
		if !ok {
			break
		}
		start := w.start(l)
		if start > w.now {
			break
		}
		w.cur = start
		w.drain(l, fire)
	}
	w.cur = w.now
}

// drain empties list l: what is due at the hands' tick fires, the rest is
// handed down. It goes through the due list, whose members can be stopped and
// armed by fire like any other.
func (w *Wheel[T]) drain(l int, fire func(T)) {
	for t := w.head[l]; t != nil; t = w.head[l] {
		w.unlink(t)
		w.link(t, due)
	}
	for t := w.head[due]; t != nil; t = w.head[due] {
		w.unlink(t)
		if tick := roundUp(t.at); tick > w.cur {
			w.place(t, tick)
		} else {
			fire(t.Value)
		}
	}
}

// place hangs t into the slot for tick, which is after w.cur. The level is the
// highest group of six bits in which the two differ: slots of lower levels are
// all earlier than those of higher ones, and inside a level in plain order.
func (w *Wheel[T]) place(t *Timer[T], tick uint64) {
	level := (bits.Len64(tick^w.cur) - 1) / slotBits
	w.link(t, level*slots+int(tick>>(level*slotBits))%slots)
}

// start returns the first tick of regular slot l.
func (w *Wheel[T]) start(l int) uint64 {
	shift := l / slots * slotBits
	return w.cur>>(shift+slotBits)<<(shift+slotBits) | uint64(l%slots)<<shift
}

// first returns the earliest slot that holds a timer.
func (w *Wheel[T]) first() (l int, ok bool) {
	for level, b := range w.busy {
		if b != 0 {
			return level*slots + bits.TrailingZeros64(b), true
		}
	}
	return 0, false
}

// following returns the first tick of the earliest busy slot after l, the
// first one, and the horizon if there is none.
func (w *Wheel[T]) following(l int) uint64 {
	level := l / slots
	rest := w.busy[level] & (w.busy[level] - 1)
	for {
		if rest != 0 {
			return w.start(level*slots + bits.TrailingZeros64(rest))
		}
		if level++; level == levels {
			return horizon
		}
		rest = w.busy[level]
	}
}

// link puts t, which hangs nowhere, at the front of list l.
func (w *Wheel[T]) link(t *Timer[T], l int) {
	t.list = uint16(l + 1)
	t.prev, t.next = nil, w.head[l]
	if t.next != nil {
		t.next.prev = t
	}
	w.head[l] = t
	if l < regular {
		w.busy[l/slots] |= 1 << (l % slots)
	}
}

// unlink takes t out of its list and disarms it.
func (w *Wheel[T]) unlink(t *Timer[T]) {
	l := int(t.list) - 1
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else if w.head[l] = t.next; t.next == nil && l < regular {
		w.busy[l/slots] &^= 1 << (l % slots)
	}
	t.next, t.prev, t.list = nil, nil, 0
}

// roundUp returns the first tick that is not before d.
func roundUp(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	n := uint64(d / Tick)
	if d%Tick != 0 {
		n++
	}
	return min(n, horizon)
}

// roundDown returns the last tick that is not after d.
func roundDown(d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return min(uint64(d/Tick), horizon)
}
