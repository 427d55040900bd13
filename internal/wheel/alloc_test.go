//go:build !race

package wheel

import (
	"testing"
	"time"
)

func TestAllocs(t *testing.T) {
	var w Wheel[int]
	ts := make([]Timer[int], 100)
	now := time.Duration(0)
	n := testing.AllocsPerRun(100, func() {
		for i := range ts {
			w.Arm(&ts[i], now+time.Duration(i*i)*time.Millisecond)
		}
		w.Stop(&ts[50])
		w.Next()
		now += 5 * time.Second
		w.Advance(now, func(int) {})
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
