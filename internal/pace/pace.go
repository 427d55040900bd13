// Package pace bounds how often something may happen, on average and at once: a token bucket. All that is kept of the past
// is one instant, when what has happened is paid for at the pace, as in ATM's generic cell rate algorithm (ITU-T I.371).
package pace

import "time"

// A Pace is how many may come in a time, and how many of them at once. The zero value is without a bound.
type Pace struct {
	each  time.Duration // from one to the next
	burst time.Duration // how far ahead of the clock the instant may be
}

// New is the pace of n in each time of per, of which atOnce may come at once; of n below 1, without a bound.
func New(n int, per time.Duration, atOnce int) Pace {
	if n <= 0 {
		return Pace{}
	}
	each := max(per/time.Duration(n), 1)
	return Pace{each, time.Duration(min(int64(atOnce), int64(forever/each))) * each}
}

// forever can be added to an instant: some 146 years.
const forever time.Duration = 1 << 62

// Allows reports whether one more may come, where all that has come is paid for at the instant paid.
func (p Pace) Allows(now, paid time.Duration) bool {
	return p.each == 0 || max(paid, now)+p.each <= now+p.burst
}

// After is when all is paid for once n more have come. That may be more than there was room for: then what comes next waits
// for longer, and the pace is kept all the same.
func (p Pace) After(now, paid time.Duration, n int) time.Duration {
	return max(paid, now) + time.Duration(n)*p.each
}

// Take reports whether one may come now, and charges it to paid if so.
func (p Pace) Take(now time.Duration, paid *time.Duration) bool {
	ok := p.Allows(now, *paid)
	if ok {
		*paid = p.After(now, *paid, 1)
	}
	return ok
}
