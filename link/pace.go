package link

import (
	"sync/atomic"
	"time"
)

// A pace is how many of something may come in a second, and how many at once: a token bucket. It is kept as one instant, when
// all that has come is paid for at the pace, as ATM's generic cell rate algorithm has it (ITU-T I.371).
type pace struct {
	each  time.Duration // from one to the next; 0: there is no bound
	burst time.Duration // how far ahead of the clock paid may be
	paid  atomic.Int64  // nanoseconds on the clock of take
}

// setRate sets how many may come in a second, 0 or less being any number, and how many of them at once.
func (p *pace) setRate(perSecond, burst int) {
	p.each = 0
	if perSecond > 0 {
		p.each = time.Second / time.Duration(perSecond)
	}
	p.burst = time.Duration(burst) * p.each
}

// take reports whether something may come now, and notes it as n if so. That may be more than there is room for: then what
// comes next waits for longer, and the pace is kept all the same.
func (p *pace) take(now time.Duration, n int) bool {
	if p.each == 0 {
		return true
	}
	for {
		paid := p.paid.Load()
		from := max(time.Duration(paid), now)
		if from+p.each > now+p.burst {
			return false
		}
		if p.paid.CompareAndSwap(paid, int64(from+time.Duration(n)*p.each)) {
			return true
		}
	}
}
