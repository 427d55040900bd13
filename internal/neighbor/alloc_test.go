//go:build !race

package neighbor

import (
	"testing"
	"time"
)

func TestAllocs(t *testing.T) {
	c := in(t, Reachable, ip4)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(100, func() {
		now += time.Second
		if _, r := c.Resolve(now, ip4); r != Resolved {
			t.Error("not resolved")
		}
		c.Confirm(now, ip4)
		c.Update(now, Message{IP: ip4, HW: hw1, HasHW: true, Kind: NA, Solicited: true})
		c.Deadline()
	}); n != 0 {
		t.Errorf("a known neighbour: %v allocations, want none", n)
	}

	// A flood of strangers lives in the memory of those that it drives out.
	c = New(Config{Size: 16})
	i := 0
	flood := func() {
		i++
		now += 100 * time.Millisecond
		c.Update(now, Message{IP: host(i), HW: hw1, HasHW: true, Kind: NS})
		c.Resolve(now, host(1<<20+i))
		c.Expire(now)
		c.Next(now)
	}
	for range 1000 {
		flood()
	}
	if n := testing.AllocsPerRun(1000, flood); n != 0 {
		t.Errorf("a stranger: %v allocations, want none", n)
	}
}
