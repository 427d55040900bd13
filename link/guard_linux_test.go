package link

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestGuardTimerIsSetWhereTheSchedulerIsNotTold: between the last ordinary call and the first of the others the timer is set, it
// runs on while packets come, and none is there for a packet now and then.
func TestGuardTimerIsSetWhereTheSchedulerIsNotTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard()
		expect := func(when string, want int32) {
			t.Helper()
			g.reads()
			synctest.Wait()
			if got := g.state.Load(); got != want {
				t.Fatalf("%s: state %d, want %d", when, got, want)
			}
		}
		for range 5 {
			expect("a packet now and then", told)
			time.Sleep(2 * guardTime)
		}
		for range 2 {
			expect("the first of many", told)
			time.Sleep(guardTime / 4)
			expect("the second", set)
			for range 50 {
				time.Sleep(guardTime / 2)
				expect("many", untold)
			}
			if !g.timer.Stop() {
				t.Fatal("the scheduler is not told, and no timer is set")
			}
			g.timer.Reset(guardTime / 2)
			time.Sleep(2*guardTime + 1)
			if got := g.state.Load(); got != told || g.timer.Stop() {
				t.Fatalf("at rest: state %d, want %d and no timer", got, told)
			}
		}
	})
}
