package link

import (
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/internal/pace"
)

// A throttle is a pace that several goroutines keep together. The zero value has no bound.
type throttle struct {
	pace.Pace
	paid atomic.Int64 // nanoseconds on the clock of take
}

// take reports whether something may come now, and notes it as n if so.
func (t *throttle) take(now time.Duration, n int) bool {
	for {
		paid := t.paid.Load()
		if !t.Allows(now, time.Duration(paid)) {
			return false
		}
		if t.paid.CompareAndSwap(paid, int64(t.After(now, time.Duration(paid), n))) {
			return true
		}
	}
}
