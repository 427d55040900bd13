package neighbor

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// An entry is one neighbour. It hangs in at most one list of each order.
type entry struct {
	ip     netip.Addr
	hw     ethernet.Addr
	state  State
	tries  uint8 // solicitations sent in this state
	router bool

	since time.Duration // when state was entered
	until time.Duration // Reachable: when it turns Stale
	used  time.Duration // when last used, to touchEvery
	due   time.Duration // the key in its byTime list: when something is to be done

	links [2]struct {
		in         *list
		prev, next *entry
	}
}

// The two orders, which index entry.links.
const (
	byTime = iota
	byUse
)

// A list is a doubly linked list through its members.
type list struct {
	front, back *entry
	by          int
}

// push puts e, which hangs in no list of this order, at the back.
func (l *list) push(e *entry) { l.insertAfter(e, l.back) }

// pushDue puts e where its due belongs: at the back, unless the waits of the list
// have just become shorter or the caller's clocks disagree.
func (l *list) pushDue(e *entry, due time.Duration) {
	e.due = due
	at := l.back
	for at != nil && at.due > due {
		at = at.links[l.by].prev
	}
	l.insertAfter(e, at)
}

// insertAfter puts e after at, and at the front if at is nil.
func (l *list) insertAfter(e, at *entry) {
	k := &e.links[l.by]
	k.in, k.prev = l, at
	if at != nil {
		k.next = at.links[l.by].next
		at.links[l.by].next = e
	} else {
		k.next = l.front
		l.front = e
	}
	if k.next != nil {
		k.next.links[l.by].prev = e
	} else {
		l.back = e
	}
}

// unlink takes e out of the list of that order, if it is in one.
func (e *entry) unlink(by int) {
	k := &e.links[by]
	l := k.in
	if l == nil {
		return
	}
	if k.prev != nil {
		k.prev.links[by].next = k.next
	} else {
		l.front = k.next
	}
	if k.next != nil {
		k.next.links[by].prev = k.prev
	} else {
		l.back = k.prev
	}
	k.in, k.prev, k.next = nil, nil, nil
}
