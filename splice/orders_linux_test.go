package splice

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// An order is what happens to two spliced connections, one after the other, and what is seen of it: by the two peers, and by
// who called Splice. The one of the two is "one", and the other "two"; each order is run with either as Splice's first.
type order struct {
	events   string // as in events, separated by ", "
	one, two string // what the peers see: how their stream ends, and then what a Write says; "" has closed it itself
	err      []error
}

// patience is how long a test waits for what comes at once.
const patience = 30 * time.Second

// deadline is short, as nothing happens until then, and what was to happen before has.
const deadline = 50 * time.Millisecond

var (
	errCanceled = errors.New("canceled")
	wasReset    = []error{syscall.ECONNRESET}
	failed      = []error{os.ErrDeadlineExceeded}
)

// broken is what a Write says that is the second to find a reset.
var broken = []error{syscall.ECONNRESET, syscall.EPIPE}

// orders are all in which FINs, resets, errors and timeouts can come, from both sides. After any but a FIN there is nothing
// more to come, as Splice has returned.
var orders = []order{
	{"timeout", "ECONNRESET, EPIPE", "ECONNRESET, EPIPE", []error{ErrIdle}},
	{"one resets", "", "ECONNRESET, EPIPE", wasReset},
	{"one fails to read", "ECONNRESET, EPIPE", "ECONNRESET, EPIPE", failed},
	{"one fails to write, two says in vain", "ECONNRESET, EPIPE", "ECONNRESET, EPIPE", failed},
	{"one is closed", "EOF, EPIPE", "ECONNRESET, EPIPE", []error{net.ErrClosed}}, // by somebody else, whose Close sends a FIN
	{"cancel", "ECONNRESET, EPIPE", "ECONNRESET, EPIPE", []error{errCanceled}},

	{"one FIN, two FIN", "EOF, EPIPE", "EOF, EPIPE", []error{nil}},
	{"one FIN, timeout", "ECONNRESET, EPIPE", "EOF, EPIPE", []error{ErrHalfClosed}},
	{"one FIN, two resets", "ECONNRESET, EPIPE", "", wasReset},
	{"one FIN, two fails to read", "ECONNRESET, EPIPE", "EOF, EPIPE", failed},
	{"one FIN, one fails to write, two says in vain, two FIN", "ECONNRESET, EPIPE", "EOF, EPIPE", failed},
	{"one FIN, one is closed, two says in vain, two FIN", "EOF, EPIPE", "EOF, EPIPE", []error{net.ErrClosed}},
	{"one FIN, two is closed", "ECONNRESET, EPIPE", "EOF, EPIPE", []error{net.ErrClosed}},
	{"one FIN, cancel", "ECONNRESET, EPIPE", "EOF, EPIPE", []error{errCanceled}},

	// The reset of who has ended its stream is noticed when it is written to.
	{"one FIN, one resets, timeout", "", "EOF, EPIPE", []error{ErrHalfClosed}},
	{"one FIN, one resets, two says in vain, two FIN", "", "EOF, EPIPE", broken},
	{"one FIN, one resets, two FIN", "", "EOF, EPIPE", append(broken, syscall.ENOTCONN)},
	{"one FIN, one resets, two resets", "", "", wasReset},
}

// TestOrders plays each order with this module's connections, and with the kernel's: what is seen is the same.
func TestOrders(t *testing.T) {
	for _, kind := range []string{"stack", "kernel"} {
		for _, o := range orders {
			for _, first := range []string{"one", "two"} {
				t.Run(fmt.Sprintf("%s/%s/%s first", kind, o.events, first), func(t *testing.T) { play(t, kind, &o, first == "two") })
			}
		}
	}
}

// A stage has the two peers and our ends of their connections: one, two.
type stage struct {
	*testing.T
	peers, ours [2]net.Conn
	gone        [2]bool // by a reset of their own
	cancel      context.CancelCauseFunc
}

func play(t *testing.T, kind string, o *order, turn bool) {
	s := &stage{T: t}
	for i := range s.peers {
		s.peers[i], s.ours[i] = kinds[kind](t)
		s.peers[i].SetDeadline(time.Now().Add(patience)) // else a failure hangs
	}
	limit, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	ctx, cancel := context.WithCancelCause(limit)
	defer cancel(nil)
	s.cancel = cancel
	var c Config
	if strings.Contains(o.events, "timeout") {
		if c.HalfClosed = deadline; !strings.Contains(o.events, "FIN") {
			c = Config{Idle: deadline}
		}
	}
	a, b := s.ours[0], s.ours[1]
	if turn {
		a, b = b, a
	}
	end := start(ctx, a, b, c)
	if c.Idle == 0 { // both directions are under way
		s.says(0)
		s.says(1)
	}
	events := strings.Split(o.events, ", ")
	for i, e := range events {
		s.event(e, i == len(events)-1)
	}
	result := <-end
	if !slices.ContainsFunc(o.err, func(e error) bool { return errors.Is(result.err, e) }) {
		t.Errorf("Splice: %v, want %v", result.err, o.err)
	}
	for i, want := range []string{o.one, o.two} {
		if got := s.seen(i); got != want {
			t.Errorf("peer %s sees %q, want %q", [2]string{"one", "two"}[i], got, want)
		}
	}
	for _, c := range s.ours {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Splice has left a connection open: Read says %v", err)
		}
	}
	stacks := make([]byte, 1<<20)
	if stacks = stacks[:runtime.Stack(stacks, true)]; bytes.Contains(stacks, []byte("splice.(*way)")) {
		t.Errorf("a goroutine is left:\n%s", stacks)
	}
}

// event makes something happen, and waits until it has been carried, unless it is the last, which ends it all.
func (s *stage) event(event string, last bool) {
	s.Helper()
	who, what, _ := strings.Cut(event, " ")
	i := 0
	if who == "two" {
		i = 1
	}
	switch what {
	case "FIN":
		closeWrite(s.T, s.peers[i])
		if !last {
			hearEnd(s.T, s.peers[1-i], "")
		}
	case "resets":
		s.peers[i].(interface{ SetLinger(int) error }).SetLinger(0)
		s.peers[i].Close()
		s.gone[i] = true
		s.arrived(i)
	case "says":
		s.says(i)
	case "says in vain":
		say(s.T, s.peers[i], "hello")
	case "fails to read":
		s.ours[i].SetReadDeadline(time.Unix(1, 0))
	case "fails to write":
		s.ours[i].SetWriteDeadline(time.Unix(1, 0))
	case "is closed":
		s.ours[i].Close()
	default:
		if event == "cancel" {
			s.cancel(errCanceled)
		} else if event != "timeout" {
			s.Fatalf("no event %q", event)
		}
	}
}

// arrived waits until a peer's reset has come to our end of the connection.
func (s *stage) arrived(i int) {
	s.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		closed := false
		switch c := s.ours[i].(type) {
		case *stack.TCPConn:
			closed = c.Info().State == tcp.Closed
		case *net.TCPConn:
			raw, err := c.SyscallConn()
			if err == nil {
				err = raw.Control(func(fd uintptr) {
					info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
					closed = err == nil && info.State == unix.BPF_TCP_CLOSE
				})
			}
			closed = closed || errors.Is(err, net.ErrClosed) // Splice was faster
		}
		if closed {
			return
		}
		if time.Now().After(end) {
			s.Fatal("a reset has not arrived")
		}
	}
}

// says has a peer say something to the other.
func (s *stage) says(i int) {
	s.Helper()
	say(s.T, s.peers[i], "hello")
	hear(s.T, s.peers[1-i], "hello")
}

// seen is how the stream to a peer ends, and what a Write of it says in the end.
func (s *stage) seen(i int) string {
	if s.gone[i] {
		return ""
	}
	_, err := io.Copy(io.Discard, s.peers[i])
	read := name(err)
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if _, err = s.peers[i].Write([]byte("x")); err != nil {
			return read + ", " + name(err)
		}
	}
	return read + ", and it may write on"
}

// name is the errno's, or what else the error is.
func name(err error) string {
	switch {
	case err == nil:
		return "EOF"
	case errors.Is(err, syscall.ECONNRESET):
		return "ECONNRESET"
	case errors.Is(err, syscall.EPIPE):
		return "EPIPE"
	}
	return err.Error()
}
