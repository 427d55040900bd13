package stack

import (
	"sync"

	"github.com/seed87e66d9f/waybill/internal/bell"
)

// waiter is where goroutines wait for one direction of a socket. It exists only while somebody waits, and comes from a
// pool of its stack. All of it is guarded by the socket's lock, which is cond.L.
type waiter struct {
	cond  sync.Cond
	bell  *bell.Bell // what one of them waits at in place of cond; nil: none does
	n     int        // how many wait
	woken bool       // since bell was set
}

// wake wakes all who wait, if anybody does.
func (w *waiter) wake() {
	if w == nil {
		return
	}
	if w.bell != nil {
		w.woken = true
		w.bell.Ring()
		if w.n == 1 {
			return
		}
	}
	w.cond.Broadcast()
}

// wait waits at *w for a wake. mu is held, and held again on return.
func (s *Stack) wait(w **waiter, mu *sync.Mutex) {
	if *w == nil {
		*w = s.waiters.Get().(*waiter)
		(*w).cond.L = mu
	}
	here := *w
	here.n++
	if here.n > 1 || !s.waitAtBell(here) {
		here.cond.Wait()
	}
	here.n--
	if here.n == 0 {
		if *w == here {
			*w = nil
		}
		here.cond.L = nil
		s.waiters.Put(here)
	}
}

// waitAtBell waits at a bell, if there is one. It is false where the caller is to wait at w.cond: there is no bell, or
// somebody else was to have it.
func (s *Stack) waitAtBell(w *waiter) bool {
	b := s.bells.Take()
	if b == nil {
		return false
	}
	mu := w.cond.L
	w.bell, w.woken = b, false
	mu.Unlock()
	b.Wait()
	mu.Lock()
	w.bell = nil
	b.Give()
	return w.woken
}
