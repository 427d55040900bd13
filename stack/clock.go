package stack

import "time"

// alarm calls a function at an instant, from a goroutine of its own. It belongs to a lock, that of the fields it
// serves: set and stop are called under it, and fire takes it. Re-arming is lazy: a later instant is left to the fire
// that comes too early and sets the alarm again.
type alarm struct {
	stack *Stack
	fire  func(now time.Duration) // runs without the lock; first calls fired under it
	timer *time.Timer
	at    time.Duration // 0: not set
}

// set sees to it that fire runs at the instant at, or before.
func (a *alarm) set(at time.Duration) {
	if a.at != 0 && a.at <= at || a.stack.closed.Load() {
		return
	}
	if a.at != 0 && !a.timer.Stop() {
		return // it fires just now, and will find what there is to do
	}
	if a.at == 0 {
		a.stack.running.Add(1)
	}
	a.at = max(at, 1)
	in := max(at-a.stack.now(), 0)
	if a.timer == nil {
		a.timer = time.AfterFunc(in, a.run)
	} else {
		a.timer.Reset(in)
	}
}

func (a *alarm) run() {
	defer a.stack.running.Done()
	a.fire(a.stack.now())
}

// fired is the first thing that fire does under the lock; false: the alarm was stopped meanwhile.
func (a *alarm) fired() bool {
	was := a.at != 0
	a.at = 0
	return was
}

// stop takes the alarm back. A fire that already runs finds fired false.
func (a *alarm) stop() {
	if a.at != 0 && a.timer.Stop() {
		a.stack.running.Done()
	}
	a.at = 0
}
