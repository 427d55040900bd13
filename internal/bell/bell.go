// Package bell wakes goroutines by the runtime's network poller.
//
// What a sync.Cond or a channel wakes while a processor is idle, the scheduler has a second thread come for. Where a
// goroutine reads packets from a device and another reads what they bring, and each waits for the other or for the peer,
// that thread mostly comes too late, and takes a processor from the peer besides. What waits in the poller is taken along by
// the thread that looks there next, which is the waker's as soon as that has to wait itself.
package bell

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// size is how many bells a pool has. Where more wait and are woken all the time, the threads have enough to do.
	size = 4
	// idle is how long a bell may be waited at before somebody else who asks for one has it.
	idle = 10 * time.Millisecond
	// late is when the poller is looked at too seldom: the processors are busy with other things, or the waker does not
	// wait itself.
	late = 500 * time.Microsecond
	// There are no bells then for as long as minRest, and for twice as long each time that it happens again at once.
	minRest = 20 * time.Millisecond
	maxRest = 2 * time.Second
)

// Pool lends bells to those who begin to wait. The zero Pool has none; all methods may be called by several goroutines.
type Pool struct {
	open    atomic.Bool
	mu      sync.Mutex
	now     func() time.Duration
	bells   []*Bell
	resting time.Duration // until then there are none
	rest    time.Duration // how long the last rest was; 0: a bell was heard in time since
	closed  bool
}

// Bell is what one goroutine waits at.
type Bell struct {
	pool  *Pool
	line  line
	rung  atomic.Int64  // when, as Pool.now told; 0: it is silent
	lent  bool          // this and since are guarded by the pool's lock
	since time.Duration // when it was lent
}

// Open puts bells into the pool, where the system has a way to, unless some are there. now is a clock that never tells 0.
func (p *Pool) Open(now func() time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bells != nil || p.closed {
		return
	}
	p.now = now
	for range size {
		b := &Bell{pool: p}
		if b.line.open(func() bool { return b.rung.Load() != 0 }) != nil {
			break // no descriptors are left: who has no bell waits in another way
		}
		p.bells = append(p.bells, b)
	}
	p.open.Store(len(p.bells) > 0)
}

// Take lends a silent bell to a goroutine that is to Wait at it; nil: there is none now. If that is since others wait long,
// one of them is woken to give its own back.
func (p *Pool) Take() *Bell {
	if !p.open.Load() {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if p.closed || now < p.resting {
		return nil
	}
	for _, b := range p.bells {
		if !b.lent {
			b.lent, b.since = true, now
			b.rung.Store(0)
			return b
		}
	}
	for _, b := range p.bells {
		if now-b.since > idle {
			b.since = now
			b.Ring()
			break
		}
	}
	return nil
}

// Wait returns once the bell has rung.
func (b *Bell) Wait() { b.line.wait() }

// Ring wakes who waits at the bell, or will.
func (b *Bell) Ring() {
	if b.rung.CompareAndSwap(0, int64(b.pool.now())) {
		b.line.ring()
	}
}

// Give returns the bell to its pool, after it has rung.
func (b *Bell) Give() {
	p := b.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); now-time.Duration(b.rung.Load()) <= late {
		p.rest = 0
	} else if now >= p.resting {
		p.rest = min(max(2*p.rest, minRest), maxRest)
		p.resting = now + p.rest
	}
	if b.lent = false; p.closed {
		b.line.close()
	}
}

// Close frees what the bells hold, as soon as nobody waits at them any more.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for _, b := range p.bells {
		if !b.lent {
			b.line.close()
		}
	}
}
