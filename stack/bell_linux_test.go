package stack

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// polled is a device that claims to wait in the runtime's poller.
type polled struct{ link.Device }

func (p polled) Caps() link.Caps {
	c := p.Device.Caps()
	c.Polled = true
	return c
}

// polledHost is a host whose bells are never late, and never waited at for long: their clock stands still.
func polledHost(t *testing.T, d link.Device, addrs ...netip.Prefix) *Stack {
	t.Helper()
	s := New(Config{})
	s.bells.Open(func() time.Duration { return 1 })
	t.Cleanup(func() { s.Close() })
	if _, err := s.Attach(polled{d}, addrs...); err != nil {
		t.Fatal(err)
	}
	return s
}

func polledPair(t *testing.T) (client, server *Stack) {
	t.Helper()
	a, b := link.Pipe(link.PipeConfig{})
	return polledHost(t, a, client4, client6), polledHost(t, b, server4, server6)
}

// TestPolledDialogs: of many who wait on sockets of such a host, some at bells and some not, each hears of what is its own.
func TestPolledDialogs(t *testing.T) {
	const connections, rounds = 16, 200
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := polledPair(t)
		var running sync.WaitGroup
		defer running.Wait()
		for n := range connections {
			c, s := connected(t, client, server, to)
			running.Go(func() {
				defer s.Close()
				if _, err := io.Copy(s, s); err != nil {
					t.Error(err)
				}
			})
			running.Go(func() {
				defer c.Close()
				b := make([]byte, 1)
				for k := range rounds {
					want := byte(n + k)
					if _, err := c.Write([]byte{want}); err != nil {
						t.Error(err)
						return
					}
					if _, err := io.ReadFull(c, b); err != nil || b[0] != want {
						t.Errorf("connection %d, round %d: read %d, %v; want %d", n, k, b[0], err, want)
						return
					}
				}
			})
		}
	})
}

// TestPolledWaits: all that else ends a wait ends one at a bell as well, and one beside it.
func TestPolledWaits(t *testing.T) {
	client, server := polledPair(t)
	c, s := connected(t, client, server, server4)
	read := func() chan error {
		done := make(chan error)
		go func() { _, err := s.Read(make([]byte, 1)); done <- err }()
		return done
	}
	waiting := func(n int) {
		t.Helper()
		for {
			s.mu.Lock()
			there := s.rd != nil && s.rd.n == n && s.rd.bell != nil
			s.mu.Unlock()
			if there {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	done := read()
	waiting(1)
	s.SetReadDeadline(time.Now())
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
	s.SetReadDeadline(time.Time{})

	// Who loses his bell to another goes on to wait.
	done = read()
	waiting(1)
	s.mu.Lock()
	s.rd.bell.Ring()
	s.mu.Unlock()
	for lost := false; !lost; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		lost = s.rd.bell == nil
		s.mu.Unlock()
	}
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("without a bell: %v", err)
	}

	done = read()
	waiting(1)
	second := read()
	waiting(2)
	s.Close()
	for _, done := range []chan error{done, second} {
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("close: %v", err)
		}
	}

	l, err := server.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan error)
	go func() { _, err := l.Accept(); accepted <- err }()
	server.Close()
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
	if server.bells.Take() != nil {
		t.Error("a closed stack lends bells")
	}
}
