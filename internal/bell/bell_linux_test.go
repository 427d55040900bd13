package bell

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// opened makes a pool with a clock that stands still.
func opened(t *testing.T) (p *Pool, clock *atomic.Int64) {
	p, clock = new(Pool), new(atomic.Int64)
	clock.Store(1)
	p.Open(func() time.Duration { return time.Duration(clock.Load()) })
	t.Cleanup(p.Close)
	return p, clock
}

// all takes every bell there is.
func all(t *testing.T, p *Pool) []*Bell {
	t.Helper()
	var bells []*Bell
	for b := p.Take(); b != nil; b = p.Take() {
		bells = append(bells, b)
	}
	if len(bells) != size {
		t.Fatalf("%d bells, want %d", len(bells), size)
	}
	return bells
}

// waited rings, and returns when a Wait that began before or after has.
func waited(t *testing.T, b *Bell, ring func()) {
	t.Helper()
	done := make(chan bool)
	go func() { b.Wait(); done <- b.rung.Load() != 0 }()
	ring()
	if !<-done {
		t.Error("Wait returned before the bell rang")
	}
}

func TestRing(t *testing.T) {
	p, _ := opened(t)
	for range 1000 { // the edges of the rounds before must not count
		b := p.Take()
		waited(t, b, func() { b.Ring(); b.Ring() })
		b.Give()
	}
}

// TestIdle: a bell that was waited at for long is for somebody else.
func TestIdle(t *testing.T) {
	p, clock := opened(t)
	bells := all(t, p)
	clock.Add(int64(idle))
	if b := p.Take(); b != nil || bells[0].rung.Load() != 0 {
		t.Fatalf("Take after %v: %v, and the first rang %v", idle, b, bells[0].rung.Load() != 0)
	}
	waited(t, bells[0], func() {
		clock.Add(1)
		if p.Take() != nil {
			t.Error("a bell is lent twice")
		}
	})
	bells[0].Give()
	if p.Take() != bells[0] {
		t.Error("the bell that was given back is not lent")
	}
	for _, b := range bells[1:] {
		if b.rung.Load() != 0 {
			t.Error("more than one bell rang")
		}
	}
}

// TestLate: where the poller is looked at too seldom, there are no bells for a while, and for longer each time.
func TestLate(t *testing.T) {
	p, clock := opened(t)
	heard := func(after time.Duration) {
		t.Helper()
		b := p.Take()
		if b == nil {
			t.Fatal("no bell")
		}
		b.Ring()
		clock.Add(int64(after))
		b.Wait()
		b.Give()
	}
	rested := func(want time.Duration) {
		t.Helper()
		clock.Add(int64(want) - 1)
		if p.Take() != nil {
			t.Fatalf("a bell within %v", want)
		}
		clock.Add(1)
	}
	heard(late)
	for n := range 10 {
		heard(late + 1)
		rested(min(minRest<<n, maxRest))
	}
	heard(late)
	heard(late + 1)
	rested(minRest)
	heard(0)
}

// TestClose: descriptors go, and those of the bells that are lent go with them.
func TestClose(t *testing.T) {
	p, _ := opened(t)
	lent := p.Take()
	p.Close()
	open := func(b *Bell) bool {
		var s unix.Stat_t
		return unix.Fstat(b.line.fd, &s) == nil
	}
	for _, b := range p.bells {
		if open(b) != (b == lent) {
			t.Errorf("lent %v, open %v", b == lent, open(b))
		}
	}
	if p.Take() != nil {
		t.Error("a closed pool lends")
	}
	waited(t, lent, lent.Ring)
	lent.Give()
	if open(lent) {
		t.Error("a bell that came back stays open")
	}
	if new(Pool).Take() != nil {
		t.Error("a pool that nobody opened lends")
	}
}
