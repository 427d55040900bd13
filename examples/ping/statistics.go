package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/stack"
)

// statistics are what has come of the requests so far, and where to tell of it.
type statistics struct {
	w     io.Writer
	quiet bool
	began time.Time

	mu                        sync.Mutex
	requests, replies, errors int
	min, max, sum, squares    float64 // of the round-trip times, in ms
}

func (st *statistics) sent() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.requests++
}

// heard takes the reply to a request, or the error that came instead.
func (st *statistics) heard(seq int, r stack.PingReply, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	line := ""
	switch {
	case err == nil:
		ms := float64(r.RTT) / float64(time.Millisecond)
		if st.min = min(st.min, ms); st.replies == 0 {
			st.min = ms
		}
		st.replies++
		st.max = max(st.max, ms)
		st.sum += ms
		st.squares += ms * ms
		line = fmt.Sprintf("%d bytes from %v: icmp_seq=%d ttl=%d time=%s ms", r.Len, r.From, seq, r.HopLimit, significant(ms))
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return
	default:
		st.errors++
		line = explain(seq, err)
	}
	if !st.quiet {
		fmt.Fprintln(st.w, line)
	}
}

// explain is the line about an error, in the words of Linux's ping where it has some.
func explain(seq int, err error) string {
	var e *stack.ICMPError
	var op *net.OpError
	switch {
	case errors.As(err, &e):
		what := "Destination Host Unreachable"
		switch {
		case e.Expired():
			what = "Time to live exceeded"
		case e.Errno == syscall.EMSGSIZE:
			what = fmt.Sprintf("Frag needed and DF set (mtu = %d)", e.MTU)
		case e.Errno == syscall.ENETUNREACH:
			what = "Destination Net Unreachable"
		case e.Errno == syscall.ECONNREFUSED:
			what = "Destination Port Unreachable"
		case e.Errno != syscall.EHOSTUNREACH:
			what = e.Errno.Error()
		}
		return fmt.Sprintf("From %v icmp_seq=%d %s", e.From, seq, what)
	case errors.As(err, &op) && op.Source != nil && errors.Is(err, syscall.EHOSTUNREACH): // we say it ourselves
		return fmt.Sprintf("From %v icmp_seq=%d Destination Host Unreachable", op.Source, seq)
	case errors.As(err, &op):
		return fmt.Sprintf("ping: sendmsg: %v", op.Err)
	}
	return fmt.Sprintf("ping: %v", err)
}

// significant is a time in ms with three digits or more that matter, as ping prints it.
func significant(ms float64) string {
	switch {
	case ms >= 99.95:
		return fmt.Sprintf("%.0f", ms)
	case ms >= 9.995:
		return fmt.Sprintf("%.1f", ms)
	case ms >= 0.9995:
		return fmt.Sprintf("%.2f", ms)
	}
	return fmt.Sprintf("%.3f", ms)
}

// summary prints what it came to, and reports whether anybody replied.
func (st *statistics) summary(target string) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	fmt.Fprintf(st.w, "\n--- %s ping statistics ---\n%d packets transmitted, %d received", target, st.requests, st.replies)
	if st.errors > 0 {
		fmt.Fprintf(st.w, ", +%d errors", st.errors)
	}
	lost := 0.0
	if st.requests > 0 {
		lost = 100 * float64(st.requests-st.replies) / float64(st.requests)
	}
	fmt.Fprintf(st.w, ", %.6g%% packet loss, time %dms\n", lost, time.Since(st.began).Milliseconds())
	if st.replies > 0 {
		n := float64(st.replies)
		mean := st.sum / n
		deviation := math.Sqrt(max(st.squares/n-mean*mean, 0))
		fmt.Fprintf(st.w, "rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", st.min, mean, st.max, deviation)
	}
	return st.replies > 0
}
