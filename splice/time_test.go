package splice

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// The tests of this file run in bubbles, where the clock stands still while anything can go on.

// bubble runs a test with the peers of two connections over stacks, and our ends of them.
func bubble(t *testing.T, f func(t *testing.T, a, ourA, ourB, b net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a, ourA := overStacks(t)
		b, ourB := overStacks(t)
		f(t, a, ourA, ourB, b)
	})
}

// want checks how a Splice ended, and when: now.
func want(t *testing.T, end <-chan outcome, r Result, err error) {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-end:
		o.check(t, r.AToB, r.BToA, err)
	default:
		t.Errorf("Splice goes on, want it to end with %+v, %v", r, err)
	}
	stacks := make([]byte, 1<<20)
	if stacks = stacks[:runtime.Stack(stacks, true)]; bytes.Contains(stacks, []byte("splice.(*way)")) {
		t.Errorf("a goroutine is left:\n%s", stacks)
	}
}

func wantOn(t *testing.T, end <-chan outcome) {
	t.Helper()
	synctest.Wait()
	select {
	case o := <-end:
		t.Errorf("Splice ended with %+v, %v; want it to go on", o.Result, o.err)
		end = nil
	default:
	}
}

func TestIdle(t *testing.T) {
	const idle = time.Minute
	bubble(t, func(t *testing.T, a, ourA, ourB, b net.Conn) {
		end := start(t.Context(), ourA, ourB, Config{Idle: idle, HalfClosed: time.Hour})
		for range 10 { // an octet in any direction counts for both
			for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
				time.Sleep(idle - 1)
				say(t, c[0], "x")
				hear(t, c[1], "x")
			}
		}
		time.Sleep(idle - 1)
		wantOn(t, end)
		closeWrite(t, a) // so does a FIN
		hearEnd(t, b, "")
		time.Sleep(idle - 1)
		wantOn(t, end)
		time.Sleep(1 * time.Nanosecond)
		want(t, end, Result{10, 10}, ErrIdle)
		hearReset(t, a)
	})
	bubble(t, func(t *testing.T, a, ourA, ourB, b net.Conn) {
		before := time.Now()
		_, err := Splice(t.Context(), ourA, ourB, Config{Idle: idle})
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(before) != idle {
			t.Errorf("two who say nothing: %v after %v; want a timeout after %v", err, time.Since(before), idle)
		}
		hearReset(t, a)
		hearReset(t, b)
	})
}

func TestHalfClosed(t *testing.T) {
	const half = 10 * time.Second
	for _, c := range []Config{{HalfClosed: half}, {HalfClosed: half, Idle: time.Hour}} {
		bubble(t, func(t *testing.T, a, ourA, ourB, b net.Conn) {
			end := start(t.Context(), ourA, ourB, c)
			say(t, b, "b")
			time.Sleep(59 * time.Minute) // the bound begins with the FIN
			closeWrite(t, b)
			hearEnd(t, a, "b")
			for range 10 {
				time.Sleep(half - 1)
				say(t, a, "a")
				hear(t, b, "a")
			}
			time.Sleep(half - 1)
			wantOn(t, end)
			time.Sleep(1 * time.Nanosecond)
			want(t, end, Result{10, 1}, ErrHalfClosed)
			hearReset(t, b)
		})
	}
	bubble(t, func(t *testing.T, a, ourA, ourB, b net.Conn) { // no bound, no end
		end := start(t.Context(), ourA, ourB, Config{})
		closeWrite(t, a)
		time.Sleep(30 * 24 * time.Hour)
		wantOn(t, end)
		say(t, b, "at last")
		b.Close()
		hearEnd(t, a, "at last")
		want(t, end, Result{0, 7}, nil)
	})
}

// TestBackPressure: who does not read stops the sender and nobody else, and is idle in the end.
func TestBackPressure(t *testing.T) {
	const idle = time.Minute
	text := bytes.Repeat([]byte("0123456789abcdef"), 1<<21)
	bubble(t, func(t *testing.T, a, ourA, ourB, b net.Conn) {
		end := start(t.Context(), ourA, ourB, Config{Idle: idle})
		written := make(chan int, 1)
		go func() {
			n, _ := a.Write(text)
			written <- n
		}()
		for range 100 {
			time.Sleep(idle - 1)
			say(t, b, "x")
			hear(t, a, "x")
		}
		select {
		case n := <-written:
			t.Errorf("%d octets were written, and nobody read", n)
		default:
		}
		time.Sleep(idle)
		synctest.Wait()
		if o := <-end; o.BToA != 100 || o.AToB == 0 || o.AToB >= int64(len(text)) || o.err != ErrIdle {
			t.Errorf("Splice: %+v, %v; want 100 octets there and some of %d back, and ErrIdle", o.Result, o.err, len(text))
		}
	})
	bubble(t, func(t *testing.T, a, ourA, ourB, b net.Conn) { // all is there once b reads, and what it says arrives meanwhile
		end := start(t.Context(), ourA, ourB, Config{})
		go func() {
			a.Write(text)
			a.Close()
		}()
		time.Sleep(time.Hour)
		hearEnd(t, b, string(text))
		b.Close()
		want(t, end, Result{int64(len(text)), 0}, nil)
	})
}

// TestBadWire: FINs and octets arrive over a bad wire too.
func TestBadWire(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1<<15)
	synctest.Test(t, func(t *testing.T) {
		bad := link.PipeConfig{MTU: 1400, Delay: 20 * time.Millisecond, Loss: 0.02, Reorder: 0.02, Duplicate: 0.02}
		a, ourA := wire(t, bad, stack.Config{})
		ourB, b := wire(t, bad, stack.Config{})
		end := start(t.Context(), ourA, ourB, Config{Idle: time.Hour})
		go func() {
			io.WriteString(a, text)
			a.(closeWriter).CloseWrite()
		}()
		hearEnd(t, b, text)
		go func() {
			io.WriteString(b, text)
			b.Close()
		}()
		hearEnd(t, a, text)
		want(t, end, Result{int64(len(text)), int64(len(text))}, nil)
	})
}

// slow is one who was told b's end, but is behind in reading what came before it, and sends on.
func slow(t *testing.T, a, b net.Conn, text string) {
	say(t, b, text)
	b.Close() // answers what arrives from now on with a reset
	synctest.Wait()
	say(t, a, "more")
	synctest.Wait()
	say(t, a, "and more") // b does not take it: Splice is told now
	time.Sleep(linger - 1)
	synctest.Wait()
}

// TestAllBeforeFINArrives although the reset behind it is noticed first.
func TestAllBeforeFINArrives(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1<<13)
	small := stack.Config{ReadBuffer: 1 << 13}
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			ourA, a := wire(t, link.PipeConfig{}, small)
			b, ourB := overStacks(t)
			end := start(t.Context(), ourA, ourB, Config{})
			slow(t, a, b, text)
			if reads {
				hearEnd(t, a, text)
				a.Close()
				time.Sleep(1 * time.Nanosecond)
			} else {
				wantOn(t, end)
				time.Sleep(1 * time.Nanosecond)
				defer hearReset(t, a)
			}
			synctest.Wait()
			if o := <-end; !errors.Is(o.err, syscall.EPIPE) && !errors.Is(o.err, syscall.ECONNRESET) || o.BToA != int64(len(text)) {
				t.Errorf("Splice: %+v, %v; want %d octets to a and the end of b", o.Result, o.err, len(text))
			}
		})
	}
}

// scripted is a connection of which Read and Write are the test's, and that notes its end.
type scripted struct {
	net.Conn
	read, write func() error
	end         chan string
}

func (c scripted) Read(b []byte) (int, error)  { return 0, c.read() }
func (c scripted) Write(b []byte) (int, error) { return 0, c.write() }
func (c scripted) CloseWrite() error           { c.end <- "FIN"; return nil }
func (c scripted) SetLinger(int) error         { c.end <- "RST"; return nil }
func (c scripted) Close() error                { return nil }

// TestEOFBesideWrite: a Read that says io.EOF while a Write is under way waits for what that says.
func TestEOFBesideWrite(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration
		fin   time.Duration
		want  string
	}{
		{"a reset that the Write is told", settle - 1, -1, "RST"},
		{"a FIN, and a Write that waits for room", time.Hour, settle, "FIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				writing := make(chan struct{})
				a := scripted{
					read:  func() error { <-writing; return io.EOF },
					write: func() error { close(writing); time.Sleep(c.takes); return syscall.ECONNRESET },
					end:   make(chan string, 10),
				}
				b, ourB := overStacks(t)
				said := scripted{Conn: ourB, end: make(chan string, 10)}
				end := start(t.Context(), a, struct {
					net.Conn
					closeWriter
				}{ourB, said}, Config{})
				say(t, b, "x")
				time.Sleep(settle)
				synctest.Wait()
				got := "RST"
				if len(said.end) > 0 {
					got = <-said.end
				}
				if got != c.want {
					t.Errorf("it was carried as a %s, want %s", got, c.want)
				}
				time.Sleep(c.takes)
				synctest.Wait()
				(<-end).check(t, 0, 0, syscall.ECONNRESET)
			})
		})
	}
}

// TestPipesWithoutCloseWrite: who could not be told of the other's end learns of it when it says something, at once.
func TestPipesWithoutCloseWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, ourA := net.Pipe()
		b, ourB := net.Pipe()
		end := start(t.Context(), ourA, ourB, Config{})
		say(t, a, "said")
		hear(t, b, "said")
		b.Close()
		synctest.Wait()
		say(t, a, "x")
		want(t, end, Result{4, 0}, io.ErrClosedPipe)
		hearEnd(t, a, "")
	})
}

// TestContextUnblocks both ways in whatever they wait.
func TestContextUnblocks(t *testing.T) {
	bubble(t, func(t *testing.T, a, ourA, ourB, b net.Conn) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		end := start(ctx, ourA, ourB, Config{})
		for _, c := range []net.Conn{a, b} {
			go io.Copy(c, endless{})
		}
		time.Sleep(time.Hour - 1)
		wantOn(t, end)
		time.Sleep(1 * time.Nanosecond)
		synctest.Wait()
		if o := <-end; o.err != context.DeadlineExceeded || o.AToB == 0 || o.BToA == 0 {
			t.Errorf("Splice: %+v, %v; want some octets, and the context's error", o.Result, o.err)
		}
	})
}

// TestBufferFits: who is silent holds no large buffer.
func TestBufferFits(t *testing.T) {
	var w way
	for _, c := range []struct{ came, next int }{
		{1, smallBuffer}, {smallBuffer, largeBuffer}, {largeBuffer, largeBuffer}, {smallBuffer, largeBuffer}, {smallBuffer - 1, smallBuffer},
	} {
		if got := len(w.fit(c.came)); got != c.next || (w.large != nil) != (c.next == largeBuffer) {
			t.Errorf("after %d octets: a buffer of %d, want %d", c.came, got, c.next)
		}
	}
}
