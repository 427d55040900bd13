package stack

import (
	"sync"
)

// waiter is where goroutines wait for one direction of a socket. It exists only while somebody waits, and comes from a
// pool of its stack. All of it is guarded by the socket's lock, which is cond.L.
type waiter struct {
	cond sync.Cond
	n    int // how many wait
}

// wake wakes all who wait, if anybody does.
func (w *waiter) wake() {
	if w != nil {
		w.cond.Broadcast()
	}
}

// wait waits at *w for a wake. mu is held, and held again on return.
func (s *Stack) wait(w **waiter, mu *sync.Mutex) {
	if *w == nil {
		*w = s.waiters.Get().(*waiter)
		(*w).cond.L = mu
	}
	here := *w
	here.n++
	here.cond.Wait()
	here.n--
	if here.n == 0 {
		if *w == here {
			*w = nil
		}
		here.cond.L = nil
		s.waiters.Put(here)
	}
}
