package main

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tick is how finely the wire keeps time: what is due within one is delivered together, so that a thread that sleeps and
// wakes does so 4,000 times a second at most. It is two packets of 1,500 octets at 100 Mbit/s.
const tick = 250 * time.Microsecond

// port is one host's end of the wire.
type port interface {
	// read returns what the host has sent, nil for nothing more. The bytes hold until the next read.
	read() []byte
	// write hands a packet to the host.
	write(b []byte)
	// flush ends a row of writes.
	flush()
	// wait is a descriptor that becomes readable when the host has sent something, and sleeping says that it is needed.
	wait() int
	sleeping(bool)
	address() [4]byte
}

// wire joins the ports of two sides by two lanes. One goroutine does all of it, whatever stands behind the ports.
type wire struct {
	sides [2][]port
	lanes [2]*lane // from side 0, and from side 1
	start time.Time
	stop  atomic.Bool
	done  chan struct{}
	err   error
}

func newWire(p path, left, right []port) *wire {
	w := &wire{sides: [2][]port{left, right}, start: time.Now(), done: make(chan struct{})}
	w.lanes = [2]*lane{newLane(p, 0), newLane(p, 1)}
	go func() {
		defer close(w.done)
		w.err = w.run()
	}()
	return w
}

// close ends the wire. Its lanes may be looked at afterwards.
func (w *wire) close() error {
	w.stop.Store(true)
	<-w.done
	return w.err
}

func (w *wire) run() error {
	var poll []unix.PollFd
	for _, s := range w.sides {
		for _, p := range s {
			poll = append(poll, unix.PollFd{Fd: int32(p.wait()), Events: unix.POLLIN})
		}
	}
	for !w.stop.Load() {
		w.sleeping(true)
		w.turn() // whoever sent before sleeping was seen
		sleep := min(w.until(), 100*time.Millisecond)
		t := unix.NsecToTimespec(int64(sleep))
		if _, err := unix.Ppoll(poll, &t, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("ppoll: %w", err)
		}
		w.sleeping(false)
	}
	return nil
}

// until is how long nothing will be due, to the tick.
func (w *wire) until() time.Duration {
	least := time.Hour
	now := time.Since(w.start)
	for _, l := range w.lanes {
		if at, ok := l.next(); ok {
			least = min(least, max(at-now, 0))
		}
	}
	if least > 0 {
		least += tick - 1 - (now+least+tick-1)%tick
	}
	return least
}

func (w *wire) sleeping(yes bool) {
	for _, s := range w.sides {
		for _, p := range s {
			p.sleeping(yes)
		}
	}
}

// turn takes what the hosts have sent and gives them what is due.
func (w *wire) turn() {
	for i, s := range w.sides {
		l, other := w.lanes[i], w.sides[1-i]
		for _, p := range s {
			for b := p.read(); b != nil; b = p.read() {
				l.enter(time.Since(w.start), b)
			}
		}
		l.deliver(time.Since(w.start), func(b []byte) { forward(other, b) })
		for _, p := range other {
			p.flush()
		}
	}
}

// forward writes a packet to the port that it is addressed to. With one port there is nothing to choose.
func forward(to []port, b []byte) {
	if len(to) == 1 {
		to[0].write(b)
		return
	}
	for _, p := range to {
		if len(b) >= ipLen && b[0]>>4 == 4 && [4]byte(b[16:20]) == p.address() {
			p.write(b)
		}
	}
}
