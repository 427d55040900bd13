package interop

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// The two hosts of every test: waybill's, and the kernel's in a network namespace, on the two ends of a TAP.
var families = []struct {
	name         string
	ours, theirs string // addresses
}{
	{"IPv4", "198.51.100.2", "198.51.100.1"},
	{"IPv6", "2001:db8:51::2", "2001:db8:51::1"},
}

// patience is how long one step may take, on a busy machine; a step that hangs fails, one that is slow does not.
const patience = 90 * time.Second

// enter runs the calling test in a network namespace of its own, where the kernel has a TAP, and at its other end is
// the stack that enter returns. In the process without the namespace it returns nil, and the test returns. Tools that
// the test runs are named, so that one which is missing fails CI and is skipped elsewhere.
func enter(t *testing.T, tools ...string) *stack.Stack {
	t.Helper()
	return enterAs(t, stack.Config{}, tools...)
}

// enterAs is enter with a stack of one's own choices.
func enterAs(t *testing.T, c stack.Config, tools ...string) *stack.Stack {
	t.Helper()
	if !isolate(t, 5*time.Minute, tools...) {
		return nil
	}
	device, err := link.OpenTUN(link.TUNConfig{Name: "wb0", TAP: true})
	if err != nil {
		t.Fatal(err)
	}
	c.NoDAD = true // or IPv6 begins a second later: Linux does not hear the questions of an optimistic address
	s := stack.New(c)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.Attach(device, netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("2001:db8:51::2/64")); err != nil {
		t.Fatal(err)
	}
	// The kernel's own duplicate address detection would keep it silent for as long.
	os.WriteFile("/proc/sys/net/ipv6/conf/wb0/accept_dad", []byte("0"), 0)
	kernel := []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:51::1/64")}
	if err := link.ConfigureHost("wb0", kernel, 0); err != nil {
		t.Fatal(err)
	}
	return s
}

// isolate runs the calling test in a network namespace of its own, for as long as limit, where there is only the loopback,
// and reports whether this is there.
func isolate(t *testing.T, limit time.Duration, tools ...string) bool {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	if !netns.Enter(t, limit) {
		return false
	}
	if err := link.ConfigureHost("lo", nil, 0); err != nil {
		t.Fatal(err)
	}
	return true
}

// listen is a listener on waybill, for the families' addresses, which the test closes at its end.
func listen(t *testing.T, s *stack.Stack, port string) net.Listener {
	t.Helper()
	l, err := s.Listen("tcp", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// tool runs a program to its end and returns what it prints on standard output. It fails the test where the program
// fails, with what it prints on standard error.
func tool(t *testing.T, command ...string) string {
	t.Helper()
	out, stderr, err := try(t, nil, command...)
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(command, " "), err, out, stderr)
	}
	return out
}

// try runs a program to its end, with in as its standard input, and returns what it prints and how it ends.
func try(t *testing.T, in io.Reader, command ...string) (out, stderr string, err error) {
	t.Helper()
	return tryFor(t, patience, in, command...)
}

// tryFor is try for what takes longer.
func tryFor(t *testing.T, limit time.Duration, in io.Reader, command ...string) (out, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Env = append(os.Environ(), "no_proxy=*", "LC_ALL=C")
	c.Stdin = in
	var o, e bytes.Buffer
	c.Stdout, c.Stderr = &o, &e
	err = c.Run()
	return o.String(), e.String(), err
}

// daemon starts a program that runs in the foreground and ends it with the test. What it prints is shown where the
// test fails.
func daemon(t *testing.T, command ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(command[0], command[1:]...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	var log lockedBuffer
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Before it is killed, a daemon of several processes may end those.
		c.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(5*time.Second, func() { c.Process.Kill() })
		err := c.Wait()
		kill.Stop()
		if t.Failed() {
			t.Logf("%s: %v\n%s", strings.Join(command, " "), err, log.String())
		}
	})
	return c
}

// awaitPort waits until somebody in the namespace listens at a TCP address of the kernel's.
func awaitPort(t *testing.T, addr string) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		// Each time anew: while the kernel's IPv6 addresses are tentative, it takes ::1 as its own, and nobody answers that.
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens at %s: %v", addr, err)
		}
	}
}

// octets are n octets that follow from the seed, and their SHA-256.
func octets(n int, seed byte) (b []byte, sum string) {
	b = make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b, digest(b)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
