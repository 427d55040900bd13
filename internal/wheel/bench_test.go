package wheel

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkArm sets a deadline again and again, as every acknowledgement does with the retransmission timer, among
// others that wait: later each time, which is only noted, or now later and now earlier, which moves it.
func BenchmarkArm(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000} {
		for _, c := range []struct {
			name string
			step func(i int) time.Duration
		}{
			{"later", func(i int) time.Duration { return time.Duration(i) * time.Microsecond }},
			{"moves", func(i int) time.Duration { return time.Duration(i%2) * 100 * time.Millisecond }},
		} {
			b.Run(fmt.Sprintf("timers=%d/%s", n, c.name), func(b *testing.B) {
				var w Wheel[int]
				timers := make([]Timer[int], n)
				for i := range timers {
					w.Arm(&timers[i], 200*time.Millisecond+time.Duration(i)*time.Microsecond)
				}
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					w.Arm(&timers[i%n], 200*time.Millisecond+c.step(i))
				}
			})
		}
	}
}

// BenchmarkFire arms a timer and lets it come due, among others that wait.
func BenchmarkFire(b *testing.B) {
	for _, n := range []int{1, 1_000, 100_000} {
		b.Run(fmt.Sprintf("timers=%d", n), func(b *testing.B) {
			var w Wheel[*Timer[int]]
			others := make([]Timer[*Timer[int]], n)
			for i := range others {
				w.Arm(&others[i], 1000*time.Hour+time.Duration(i)*time.Millisecond)
			}
			var t Timer[*Timer[int]]
			fired := 0
			b.ReportAllocs()
			now, rounds := time.Duration(0), 0
			for ; b.Loop(); rounds++ {
				w.Arm(&t, now+40*time.Millisecond)
				at, _ := w.Next()
				now = max(now, at)
				w.Advance(now, func(*Timer[int]) { fired++ })
			}
			if fired < rounds/10 {
				b.Fatalf("%d of %d timers fired", fired, rounds)
			}
		})
	}
}
