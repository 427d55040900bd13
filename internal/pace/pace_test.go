package pace

import (
	"math"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		name  string
		rate  int
		burst int
		takes []struct {
			at      time.Duration
			n, want int // how often one is asked for, and given
		}
	}{
		{"a second's worth at once, then the rate", 100, 100, []struct {
			at      time.Duration
			n, want int
		}{{0, 1000, 100}, {5 * ms, 1000, 0}, {10 * ms, 1000, 1}, {510 * ms, 1000, 50}, {time.Hour, 1000, 100}}},
		{"one", 1, 1, []struct {
			at      time.Duration
			n, want int
		}{{0, 10, 1}, {999 * ms, 10, 0}, {1000 * ms, 10, 1}}},
		{"a short burst", 1000, 20, []struct {
			at      time.Duration
			n, want int
		}{{0, 1000, 20}, {5 * ms, 1000, 5}, {time.Hour, 1000, 20}}},
		{"no bound", -1, -1, []struct {
			at      time.Duration
			n, want int
		}{{0, 100_000, 100_000}}},
		{"more at once than a clock can say", 1, math.MaxInt, []struct {
			at      time.Duration
			n, want int
		}{{0, 1000, 1000}, {time.Hour, 1000, 1000}}},
		{"more than one a nanosecond", math.MaxInt, 10, []struct {
			at      time.Duration
			n, want int
		}{{0, 1000, 10}, {5, 1000, 5}}},
		{"a rate that is no part of a second", 8192, 8192, []struct {
			at      time.Duration
			n, want int
		}{{0, 100_000, 8192}, {time.Second, 100_000, 8192}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := New(tt.rate, time.Second, tt.burst)
			var paid time.Duration
			for _, x := range tt.takes {
				got := 0
				for range x.n {
					if p.Take(x.at, &paid) {
						got++
					}
				}
				if got != x.want {
					t.Errorf("at %v: %d of %d, want %d", x.at, got, x.n, x.want)
				}
			}
		})
	}
}

// TestAfter: where more came than there was room for, what comes next waits until all of it is paid for.
func TestAfter(t *testing.T) {
	p := New(1000, time.Second, 10)
	paid := p.After(time.Hour, 0, 25)
	for _, tt := range []struct {
		at   time.Duration
		want bool
	}{{0, false}, {15 * time.Millisecond, false}, {16 * time.Millisecond, true}} {
		if got := p.Allows(time.Hour+tt.at, paid); got != tt.want {
			t.Errorf("%v after 25 of 10: %v, want %v", tt.at, got, tt.want)
		}
	}
}
