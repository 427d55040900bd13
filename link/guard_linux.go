package link

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A guard lets the system calls of a busy device be ones that the scheduler is not told of. They do not block: what they take
// is work, as a copy is. To be told costs it little while goroutines run, but in a dialog none does most of the time. Then its
// watchdog (sysmon) sleeps, is woken by the first call for each packet, looks every 20 µs for goroutines that block, and sleeps
// again: of the 8.8 task switches of connect, round trip, reset on a TAP, 2.2 were that, and a timer of a virtual machine is dear.
//
// A watchdog left asleep interrupts no goroutine that computes on and on, until the next timer comes. So the guard has one that
// is never further off than guardTime, and sees to it that the watchdog knows: the calls after it was set are ordinary ones.
type guard struct {
	state atomic.Int32
	used  atomic.Bool // since the timer last fired
	last  time.Time   // the reader's: when it last asked, in the state told
	timer *time.Timer
}

// guardTime is for how long the scheduler lets a goroutine run on (forcePreemptNS of package runtime).
const guardTime = 10 * time.Millisecond

// The states of a guard.
const (
	told   int32 = iota // ordinary calls
	set                 // the timer runs; ordinary calls once more
	untold              // the timer runs
)

func newGuard() *guard {
	g := new(guard)
	g.timer = time.AfterFunc(guardTime, g.fire)
	return g
}

// reads is called before each Read, by the one goroutine that reads.
func (g *guard) reads() {
	if !g.used.Load() {
		g.used.Store(true)
	}
	switch g.state.Load() {
	case told:
		now := time.Now()
		if now.Sub(g.last) < guardTime { // a packet now and then is not worth a timer
			g.state.Store(set)
			g.timer.Reset(guardTime)
		}
		g.last = now
	case set:
		g.state.CompareAndSwap(set, untold)
	}
}

// fire keeps the timer going while there is something to read.
func (g *guard) fire() {
	if !g.used.Swap(false) {
		was := g.state.Swap(told)
		if was == told || !g.used.Swap(false) {
			return
		}
		g.state.Store(was) // the reader came in between, and may have seen it
	}
	g.timer.Reset(guardTime)
}

// syscall is a system call that does not block, once more if a signal comes between.
func (g *guard) syscall(trap, fd uintptr, p unsafe.Pointer, n int) (int, unix.Errno) {
	call := unix.Syscall
	if g.state.Load() == untold {
		call = unix.RawSyscall
	}
	for {
		k, _, errno := call(trap, fd, uintptr(p), uintptr(n))
		if errno != unix.EINTR {
			return int(k), errno
		}
	}
}
