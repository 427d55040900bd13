package wheel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"
)

const ms = time.Millisecond

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Timer[*int]{}); n > 40 {
		t.Errorf("a Timer has %d bytes, want at most 40: every connection has one", n)
	}
	if n := unsafe.Sizeof(Wheel[*int]{}); n > 4096 {
		t.Errorf("a Wheel has %d bytes, want at most 4096: every shard has one", n)
	}
}

// model is the obvious implementation that a Wheel is compared with.
type model struct {
	at  []time.Duration // deadline by timer, -1: not armed
	now time.Duration
}

func ceil(d time.Duration) time.Duration { return max(0, (d+ms-1)/ms*ms) }

// due disarms and returns what a wheel must fire at now, sorted by tick, then index.
func (m *model) due(now time.Duration) []int {
	m.now = max(m.now, now)
	var out []int
	for i, at := range m.at {
		if at >= 0 && ceil(at) <= m.now/ms*ms {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return int(ceil(m.at[a]) - ceil(m.at[b])) })
	return out
}

func (m *model) earliest() (time.Duration, bool) {
	least, ok := time.Duration(math.MaxInt64), false
	for _, at := range m.at {
		if at >= 0 {
			least, ok = min(least, ceil(at)), true
		}
	}
	return least, ok
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) { compare(t, rand.New(rand.NewPCG(seed, 7))) })
	}
}

// span returns a random duration whose magnitude is random as well: 1 µs to 100 days.
func span(r *rand.Rand) time.Duration {
	return time.Duration(math.Exp(r.Float64()*math.Log(float64(100*24*time.Hour/time.Microsecond)))) * time.Microsecond
}

func compare(t *testing.T, r *rand.Rand) {
	const timers = 60
	var w Wheel[int]
	ts := make([]Timer[int], timers)
	m := model{at: make([]time.Duration, timers)}
	for i := range ts {
		ts[i].Value, m.at[i] = i, -1
	}
	now := time.Duration(0)
	for step := range 3000 {
		switch i := r.IntN(timers); r.IntN(8) {
		case 0:
			w.Stop(&ts[i])
			m.at[i] = -1
		case 1:
			now += span(r) / 50
			advance(t, &w, &m, ts, now)
		case 2:
			if at, ok := w.Next(); ok && at >= now {
				now = at
				advance(t, &w, &m, ts, now)
			}
		default:
			m.at[i] = now + span(r)
			if r.IntN(20) == 0 {
				m.at[i] = max(0, now-span(r))
			}
			w.Arm(&ts[i], m.at[i])
		}
		for i := range ts {
			if ts[i].Armed() != (m.at[i] >= 0) || ts[i].Armed() && ts[i].At() != m.at[i] {
				t.Fatalf("step %d: timer %d armed %v at %v, want %v", step, i, ts[i].Armed(), ts[i].At(), m.at[i])
			}
		}
		got, gok := w.Next()
		want, wok := m.earliest()
		if gok != wok || got > max(want, now/ms*ms) {
			t.Fatalf("step %d, now %v: Next = %v, %v; the earliest is %v, %v", step, now, got, gok, want, wok)
		}
	}
}

func advance(t *testing.T, w *Wheel[int], m *model, ts []Timer[int], now time.Duration) {
	t.Helper()
	want := m.due(now)
	var got []int
	w.Advance(now, func(i int) {
		if ts[i].Armed() {
			t.Fatalf("timer %d is armed while it fires", i)
		}
		got = append(got, i)
	})
	inOrder := slices.IsSortedFunc(got, func(a, b int) int { return int(max(0, ceil(m.at[a])) - max(0, ceil(m.at[b]))) })
	sorted := func(s []int) []int { s = slices.Clone(s); slices.Sort(s); return s }
	if !slices.Equal(sorted(got), sorted(want)) {
		t.Fatalf("Advance(%v) fired %v, want %v", now, got, want)
	}
	if !inOrder && !anyLate(m, got, now) {
		t.Fatalf("Advance(%v) fired %v, not in the order of deadlines", now, got)
	}
	for _, i := range got {
		m.at[i] = -1
	}
}

// anyLate reports whether a timer was armed for a time that had passed: those come first, in any order.
func anyLate(m *model, fired []int, now time.Duration) bool {
	return slices.ContainsFunc(fired, func(i int) bool { return m.at[i] < now })
}

func TestOrderOfTicks(t *testing.T) {
	var w Wheel[int]
	ts := make([]Timer[int], 200)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range ts {
		ts[i].Value = i
		w.Arm(&ts[i], span(r)+ms)
	}
	last := time.Duration(0)
	w.Advance(200*24*time.Hour, func(i int) {
		if at := ceil(ts[i].At()); at < last {
			t.Errorf("%v fired after %v", at, last)
		} else {
			last = at
		}
	})
	if last == 0 {
		t.Error("nothing fired")
	}
}

func TestNeverEarlyAtMostOneTickLate(t *testing.T) {
	for _, at := range []time.Duration{1, ms - 1, ms, ms + 1, 63 * ms, 64 * ms, 65*ms + 1, 4096 * ms, time.Hour + 1, 60 * 24 * time.Hour} {
		for _, start := range []time.Duration{0, 62 * ms, 4095 * ms, 1 << 50} {
			var w Wheel[string]
			w.Advance(start, nil)
			tm := Timer[string]{Value: "x"}
			w.Arm(&tm, start+at)
			fired := time.Duration(-1)
			for wakes := 0; fired < 0; wakes++ {
				next, ok := w.Next()
				if !ok || wakes > levels {
					t.Fatalf("armed for %v after %v: Next = %v, %v after %d wake-ups", at, start, next, ok, wakes)
				}
				w.Advance(next, func(string) { fired = next })
			}
			if fired < start+at || fired >= start+at+Tick {
				t.Errorf("armed for %v, fired at %v", start+at, fired)
			}
		}
	}
}

func TestLazyRearm(t *testing.T) {
	var w Wheel[int]
	var tm Timer[int]
	w.Arm(&tm, 200*ms)
	slot := tm.list
	for now := time.Duration(0); now < 150*ms; now += ms {
		w.Arm(&tm, now+200*ms)
	}
	if tm.list != slot {
		t.Error("a later deadline moved the timer to another slot")
	}
	if at, _ := w.Next(); at != 349*ms {
		t.Errorf("Next = %v, want 349ms: one timer is not worth an early wake-up", at)
	}
	fires := 0
	w.Advance(348*ms, func(int) { fires++ })
	if fires != 0 {
		t.Fatal("fired at the deadline that was replaced")
	}
	w.Arm(&tm, 348*ms+ms/2)
	w.Advance(349*ms, func(int) { fires++ })
	if fires != 1 || tm.Armed() {
		t.Errorf("fired %d times, armed %v; want once and disarmed", fires, tm.Armed())
	}
}

func TestIdleWheelNeverTicks(t *testing.T) {
	var w Wheel[int]
	if at, ok := w.Next(); ok {
		t.Errorf("Next of the zero wheel = %v", at)
	}
	var tm Timer[int]
	w.Arm(&tm, time.Second)
	w.Stop(&tm)
	w.Stop(&tm)
	if at, ok := w.Next(); ok {
		t.Errorf("Next after Stop = %v", at)
	}
	// A wheel that slept for an hour is as exact as a fresh one.
	w.Arm(&tm, time.Hour+200*ms)
	if at, _ := w.Next(); at != time.Hour+200*ms {
		t.Errorf("Next = %v, want 1h0m0.2s", at)
	}
}

func TestJumpOfSixtyDays(t *testing.T) {
	const days = 60 * 24 * time.Hour
	var w Wheel[int]
	ts := make([]Timer[int], 3)
	w.Arm(&ts[0], ms)
	w.Arm(&ts[1], days)
	w.Arm(&ts[2], days+ms)
	n := 0
	w.Advance(days, func(int) { n++ })
	if at, ok := w.Next(); n != 2 || !ok || at != days+ms {
		t.Errorf("%d fired, Next = %v, %v; want 2, %v", n, at, ok, days+ms)
	}
}

func TestFireMayArmAndStop(t *testing.T) {
	var w Wheel[*int]
	var a, b, c Timer[*int]
	na, nb, nc := 0, 0, 0
	a.Value, b.Value, c.Value = &na, &nb, &nc
	w.Arm(&a, 5*ms)
	w.Arm(&b, 5*ms)
	now := 10 * ms
	fire := func(n *int) {
		*n++
		if n != &nc {
			w.Stop(&a) // whichever is first stops the other
			w.Stop(&b)
			w.Arm(&c, now) // already due: waits for the next Advance
		}
	}
	w.Advance(now, fire)
	if na+nb != 1 || nc != 0 {
		t.Fatalf("fired a %d, b %d, c %d; want one of a and b, no c", na, nb, nc)
	}
	if at, ok := w.Next(); !ok || at > now {
		t.Fatalf("Next = %v, %v; want at once", at, ok)
	}
	w.Advance(now, fire)
	if nc != 1 {
		t.Errorf("c fired %d times, want once", nc)
	}
	// One that always asks for a time that has passed cannot hold Advance.
	n := 0
	w.Arm(&a, now)
	w.Advance(now+time.Hour, func(*int) { n++; w.Arm(&a, 0) })
	if n != 1 {
		t.Errorf("fired %d times in one Advance, want once", n)
	}
}

func TestOddTimes(t *testing.T) {
	var w Wheel[int]
	var a, b, c Timer[int]
	w.Advance(-time.Hour, nil)
	w.Arm(&a, -1)
	w.Arm(&b, math.MaxInt64)
	w.Arm(&c, math.MinInt64)
	n := 0
	w.Advance(-1, func(int) { n++ })
	if n != 2 {
		t.Errorf("%d fired for deadlines before the start, want 2", n)
	}
	w.Advance(200*365*24*time.Hour, func(int) { n++ })
	if n != 3 {
		t.Errorf("the deadline beyond the horizon did not fire at the horizon")
	}
	w.Arm(&a, math.MaxInt64)
	w.Advance(math.MaxInt64, func(int) { n++ })
	if _, ok := w.Next(); ok || n != 4 {
		t.Errorf("at the horizon: %d fired, armed %v; want 4, false", n, ok)
	}
	w.Arm(&a, time.Second) // time does not go back
	w.Advance(0, func(int) { n++ })
	if n != 5 {
		t.Error("Advance with an older now lost the timer")
	}
}

func ExampleWheel() {
	type conn struct {
		name  string
		timer Timer[*conn]
	}
	var w Wheel[*conn]
	for i, name := range []string{"ssh", "http"} {
		c := &conn{name: name}
		c.timer.Value = c
		w.Arm(&c.timer, time.Duration(i+1)*time.Second)
	}
	for at, ok := w.Next(); ok; at, ok = w.Next() {
		w.Advance(at, func(c *conn) { fmt.Println(at, c.name) })
	}
	// Output:
	// 1s ssh
	// 2s http
}
