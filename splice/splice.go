package splice

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Config bounds how long connections may be silent. The zero value has no bounds.
type Config struct {
	// Idle is how long nothing may arrive from, and be taken by, either side before Splice ends with ErrIdle; 0: for
	// ever. An octet counts when Read returns it and when Write has taken it, with the up to 64 KB that were
	// read with it: a peer that does not take that much within Idle, with all buffers before it full, is idle.
	Idle time.Duration

	// HalfClosed is the same from when one side has sent its FIN: how long the other may be silent before Splice ends
	// with ErrHalfClosed; 0: as long as Idle. The shorter of the two holds.
	HalfClosed time.Duration
}

// Result counts the octets that were carried: that Write of the other side took, without error or up to it.
type Result struct {
	AToB int64 // from a to b
	BToA int64 // from b to a
}

// What Splice returns when a bound of Config was reached. Both are net.Errors that time out, and os.ErrDeadlineExceeded by
// errors.Is.
var (
	ErrIdle       error = timeoutError("splice: idle for too long")
	ErrHalfClosed error = timeoutError("splice: half closed and idle for too long")
)

// Splice carries what arrives from a to b and the other way, until both have ended, and closes both. It returns once no
// goroutine of it runs and neither connection is used any more.
//
// The error is nil where both sides sent their FIN and all octets before it were carried; else it is what ended it first:
// the error of a Read, of a Write or of a CloseWrite, ErrIdle, ErrHalfClosed, or the cause of ctx. A net.Conn is closed
// from outside by ctx or by its Close, which is then net.ErrClosed here. Deadlines that were set before stay set.
//
// A FIN is carried on by CloseWrite. A connection without this method is closed once the other direction has ended too:
// until then its peer does not learn of the FIN, and a peer that waits for it waits until HalfClosed.
//
// A reset is carried on by SetLinger(0) and Close, where the connection, or one inside that NetConn returns, has SetLinger
// (*stack.TCPConn and *net.TCPConn do, a *tls.Conn has it inside); else by Close. What was written and not yet
// acknowledged is then lost, as it is between two peers without a proxy. Only one who was already carried the other's FIN
// has time to read what came before it: if it goes on sending to who does not listen any more, what it sends is read and
// dropped for up to five seconds, and then it is reset.
//
// A reset is noticed when the connection is next read or written. It is not while neither happens: while what came from it
// cannot be written because the other side does not read, or after its FIN while the other side is silent. Idle and
// HalfClosed bound that.
func Splice(ctx context.Context, a, b net.Conn, c Config) (Result, error) {
	s := newSplice(a, b, c)
	ends := make(chan error, 2)
	for i := range s.ways {
		go func() { ends <- s.ways[i].run() }()
	}
	err := s.watch(ctx, ends)
	for i := range s.sides {
		s.sides[i].end()
	}
	return Result{AToB: s.ways[0].octets, BToA: s.ways[1].octets}, err
}

type splice struct {
	sides  [2]side
	ways   [2]way // there and back
	config Config
	start  time.Time
	last   atomic.Int64 // when an octet or a FIN was last carried, since start
}

func newSplice(a, b net.Conn, c Config) *splice {
	s := &splice{config: c, start: time.Now()}
	for i, conn := range [...]net.Conn{a, b} {
		s.sides[i].Conn = conn
		s.sides[i].turn = make(chan struct{}, 1)
		s.ways[i] = way{from: &s.sides[i], to: &s.sides[1-i], splice: s}
	}
	return s
}

// progress notes that something was carried.
func (s *splice) progress() {
	if s.config.Idle > 0 || s.config.HalfClosed > 0 {
		s.last.Store(int64(time.Since(s.start)))
	}
}

// watch waits for the end of both ways and returns what ended them before their time, if anything did.
func (s *splice) watch(ctx context.Context, ends <-chan error) (failure error) {
	bound, err := s.bound(false)
	timer := time.NewTimer(bound)
	defer timer.Stop()
	canceled, late := ctx.Done(), timer.C
	fail := func(err error) {
		if failure == nil {
			failure, canceled, late = err, nil, nil
			for i := range s.sides {
				s.sides[i].end()
			}
		}
	}
	for open := len(s.ways); open > 0; {
		select {
		case e := <-ends:
			open--
			if e != nil {
				fail(e)
				continue
			}
			bound, err = s.bound(true)
			timer.Reset(s.left(bound))
		case <-late:
			if left := s.left(bound); left > 0 {
				timer.Reset(left)
				continue
			}
			fail(err)
		case <-canceled:
			fail(context.Cause(ctx))
		}
	}
	return failure
}

// never is longer than any connection lives, and fits a timer.
const never = 1<<63 - 1 // time.Duration's largest value

// bound is how long neither side may say anything, and what it is to be silent for longer.
func (s *splice) bound(halfClosed bool) (time.Duration, error) {
	idle, half := s.config.Idle, s.config.HalfClosed
	switch {
	case halfClosed && half > 0 && (idle <= 0 || half <= idle):
		return half, ErrHalfClosed
	case idle > 0:
		return idle, ErrIdle
	}
	return never, nil
}

// left is how much of the bound is left.
func (s *splice) left(bound time.Duration) time.Duration {
	if bound == never {
		return never
	}
	return time.Duration(s.last.Load()) + bound - time.Since(s.start)
}

// timeoutError is a net.Error, and what a deadline of package net ends with.
type timeoutError string

func (e timeoutError) Error() string        { return string(e) }
func (e timeoutError) Timeout() bool        { return true }
func (e timeoutError) Temporary() bool      { return false }
func (e timeoutError) Is(target error) bool { return target == os.ErrDeadlineExceeded }
