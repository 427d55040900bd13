package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// In a bubble of testing/synctest time passes when everything waits, and the test fails where a goroutine is left over
// at its end. The stacks are closed by then: pair's clean-up runs inside the bubble.

// cable is a device whose packets can be made to vanish, in silence, as where somebody pulls a plug further down.
type cable struct {
	link.Device
	queues []link.Queue
}

type cutQueue struct {
	link.Queue
	cut *atomic.Bool
}

func newCable(d link.Device, cut *atomic.Bool) *cable {
	c := &cable{Device: d}
	for _, q := range d.Queues() {
		c.queues = append(c.queues, cutQueue{q, cut})
	}
	return c
}

func (c *cable) Queues() []link.Queue { return c.queues }

func (q cutQueue) Write(p []link.Packet) (int, error) {
	if q.cut.Load() {
		return len(p), nil
	}
	return q.Queue.Write(p)
}

// cutPair is pair over a wire that cut interrupts in both directions.
func cutPair(t *testing.T, wire link.PipeConfig, c Config) (client, server *Stack, cut *atomic.Bool) {
	t.Helper()
	cut = new(atomic.Bool)
	a, b := link.Pipe(wire)
	return host(t, newCable(a, cut), c, client4, client6), host(t, newCable(b, cut), c, server4, server6), cut
}

// bubble runs a test for IPv4 and for IPv6, each in a bubble of its own, and logs the time that passed inside.
func bubble(t *testing.T, f func(t *testing.T, server netip.Prefix)) {
	families(t, func(t *testing.T, server netip.Prefix) {
		real := time.Now()
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			defer func() { t.Logf("%v passed inside", time.Since(start)) }()
			f(t, server)
		})
		t.Logf("%v passed outside", time.Since(real).Round(time.Millisecond))
	})
}

// random is n octets that follow from the seed.
func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

func TestHTTPHandlerSleepsAnHour(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500, Delay: 10 * time.Millisecond}, Config{})
		l, err := server.Listen("tcp", netip.AddrPortFrom(to.Addr(), 80).String())
		if err != nil {
			t.Fatal(err)
		}
		page := random(1<<20, 1)
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour)
			w.Write(page)
		})}
		served := make(chan error)
		go func() { served <- srv.Serve(l) }()
		transport := &http.Transport{DialContext: client.DialContext}
		start := time.Now()
		r, err := (&http.Client{Transport: transport}).Get("http://" + l.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !bytes.Equal(got, page) {
			t.Errorf("%d octets of the page came, want %d; the error is %v", len(got), len(page), err)
		}
		if d := time.Since(start); d < time.Hour || d > time.Hour+time.Minute {
			t.Errorf("the answer took %v, want an hour and not much more", d)
		}
		transport.CloseIdleConnections()
		if err := srv.Shutdown(t.Context()); err != nil {
			t.Error("shutdown:", err)
		}
		if err := <-served; err != http.ErrServerClosed {
			t.Error("serve:", err)
		}
	})
}

// copyOver writes octets at one end, closes that direction, and compares what arrives at the other.
func copyOver(from, to *TCPConn, octets []byte) error {
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(octets)
		if err == nil {
			err = from.CloseWrite()
		}
		sent <- err
	}()
	sum := sha256.New()
	n, err := io.Copy(sum, to)
	if err = errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("after %d octets: %w", n, err)
	}
	if want := sha256.Sum256(octets); int(n) != len(octets) || [32]byte(sum.Sum(nil)) != want {
		return fmt.Errorf("%d octets came whose sum is %x; %d were sent, whose sum is %x", n, sum.Sum(nil), len(octets), want)
	}
	return nil
}

// bothWays sends octets both ways at once.
func bothWays(t *testing.T, c, s *TCPConn, octets int) {
	t.Helper()
	var up, down error
	var wg sync.WaitGroup
	wg.Go(func() { up = copyOver(c, s, random(octets, 1)) })
	wg.Go(func() { down = copyOver(s, c, random(octets, 2)) })
	wg.Wait()
	if up != nil {
		t.Error("to the server:", up)
	}
	if down != nil {
		t.Error("to the client:", down)
	}
}

func TestA62A63FaultyWireDeliversTheExactOctets(t *testing.T) {
	faults := func(w link.PipeConfig) link.PipeConfig {
		w.Delay, w.Loss, w.Reorder, w.Duplicate = 5*time.Millisecond, 0.05, 0.1, 0.1
		return w
	}
	for _, w := range []struct {
		name   string
		octets int
		link.PipeConfig
	}{
		{"Ethernet", 1 << 20, link.PipeConfig{Ethernet: true, MTU: 1500}},
		{"GSO", 4 << 20, link.PipeConfig{MTU: 1500, GSO: 1<<16 - 1}},
	} {
		t.Run(w.name, func(t *testing.T) {
			for seed := range uint64(3) {
				bubble(t, func(t *testing.T, to netip.Prefix) {
					wire := faults(w.PipeConfig)
					wire.Seed = seed
					client, server := pair(t, wire, Config{})
					c, s := connected(t, client, server, to)
					bothWays(t, c, s, w.octets)
					if n := client.Stats().Retransmits + server.Stats().Retransmits; n == 0 {
						t.Error("nothing was retransmitted: the wire was perfect")
					}
				})
			}
		})
	}
}

// TestA67Blackout interrupts a transfer for longer and longer. RFC 9293 §3.8.3 has a connection survive until R2.
func TestA67Blackout(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server, cut := cutPair(t, link.PipeConfig{MTU: 1500, Delay: 10 * time.Millisecond}, Config{})
		for _, dark := range []time.Duration{time.Second, 30 * time.Second, 5 * time.Minute, 12 * time.Minute} {
			c, s := connected(t, client, server, to)
			start, ended := time.Now(), make(chan time.Time, 1)
			go func() {
				bothWays(t, c, s, 1<<20)
				ended <- time.Now()
			}()
			time.Sleep(30 * time.Millisecond)
			select {
			case <-ended:
				t.Fatalf("the transfer was through before a black-out of %v", dark)
			default:
			}
			cut.Store(true)
			time.Sleep(dark)
			cut.Store(false)
			// what was lost is sent again after one more RTO, which is two minutes at most
			if took := (<-ended).Sub(start); took < dark || took > dark+2*time.Minute+5*time.Second {
				t.Errorf("a transfer with a black-out of %v took %v", dark, took)
			}
		}
	})
}

// TestUserTimeout holds RFC 9293 §3.8.3, MUST-20: a connection whose octets nobody acknowledges is given up at R2.
func TestUserTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server, cut := cutPair(t, link.PipeConfig{}, Config{})
		c, _ := connected(t, client, server, to)
		if err := c.SetUserTimeout(100 * time.Second); err != nil {
			t.Fatal(err)
		}
		cut.Store(true)
		start := time.Now()
		if _, err := c.Write([]byte("anybody?")); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("the read ended with %v, want %v", err, syscall.ETIMEDOUT)
		}
		wantAbout(t, "the connection was given up", time.Since(start), 100*time.Second)
	})
}

// wantAbout allows for the grain of the timers.
func wantAbout(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got < want || got > want+5*time.Millisecond {
		t.Errorf("%s after %v, want %v", what, got, want)
	}
}

// TestSilentPeer connects to where nobody answers. RFC 9293 §3.8.3, MUST-23: the SYN is sent again for at least three
// minutes; RFC 6298 §5.5 doubles the time in between.
func TestSilentPeer(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		start := time.Now()
		var syns []time.Duration
		a, _ := link.Pipe(link.PipeConfig{})
		s := host(t, a, Config{Trace: func(e *TraceEvent) {
			if e.Kind == SegmentOut && e.Segment.Flags.Has(tcp.SYN) {
				syns = append(syns, time.Since(start).Round(10*time.Millisecond))
			}
		}}, client4, client6)
		address := netip.AddrPortFrom(to.Addr(), 80).String()
		if _, err := s.Dial("tcp", address); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("dial ended with %v, want %v", err, syscall.ETIMEDOUT)
		}
		wantAbout(t, "dial gave up", time.Since(start), 180*time.Second)
		if got, want := fmt.Sprint(syns), "[0s 1s 3s 7s 15s 31s 1m3s 2m7s]"; got != want {
			t.Errorf("SYNs left at %s, want %s", got, want)
		}
		if n := s.Stats().Conns; n != 0 {
			t.Errorf("%d connections are in the table, want none", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start = time.Now()
		_, err := s.DialContext(ctx, "tcp", address)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("dial under a deadline ended with %v, want a timeout", err)
		}
		wantAbout(t, "dial under a deadline gave up", time.Since(start), 10*time.Second)
	})
}

// TestTimeWaitEnds holds RFC 9293 §3.4.2's 2 MSL, for the side that closes first.
func TestTimeWaitEnds(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{TCP: tcp.Config{MSL: 20 * time.Second}})
		c, s := connected(t, client, server, to)
		states := func() (all []tcp.State) {
			for c := range client.Conns() {
				all = append(all, c.State)
			}
			return all
		}
		if err := errors.Join(c.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, at := range []struct {
			after time.Duration
			want  []tcp.State
		}{
			{0, []tcp.State{tcp.TimeWait}}, {39 * time.Second, []tcp.State{tcp.TimeWait}}, {2 * time.Second, nil},
		} {
			time.Sleep(at.after)
			if got := states(); !slices.Equal(got, at.want) {
				t.Errorf("%v later the client's connections are %v, want %v", at.after, got, at.want)
			}
		}
		time.Sleep(sweepEvery)
		if st := client.Stats(); st.TimeWait != 0 || st.Conns != 0 {
			t.Errorf("%d records and %d connections remain, want none", st.TimeWait, st.Conns)
		}
		if st := server.Stats(); st.TimeWait != 0 || st.Conns != 0 {
			t.Errorf("%d records and %d connections remain at the server, want none", st.TimeWait, st.Conns)
		}
	})
}

// TestKeepAliveDetectsADeadPeer holds RFC 9293 §3.8.4: probes after the idle time, and an end after several of them.
func TestKeepAliveDetectsADeadPeer(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server, cut := cutPair(t, link.PipeConfig{}, Config{})
		c, _ := connected(t, client, server, to)
		k := net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 10 * time.Second, Count: 3}
		if err := c.SetKeepAliveConfig(k); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour + 30*time.Second) // a peer that answers stays
		if st := c.Info().State; st != tcp.Established {
			t.Fatalf("the connection is %v after an hour with a peer that answers, want %v", st, tcp.Established)
		}
		cut.Store(true)
		start := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("the read ended with %v, want %v", err, syscall.ETIMEDOUT)
		}
		wantAbout(t, "the dead peer was detected", time.Since(start), 30*time.Second+3*k.Interval)
	})
}

// TestTimestampsNeverGoBack lets a writer that read the clock come second to one that read it later. RFC 7323 §5.3,
// R1: the peer drops a segment whose timestamp is older than that of one before.
func TestTimestampsNeverGoBack(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		c, s := connected(t, client, server, to)
		time.Sleep(time.Minute)
		early := client.now()
		time.Sleep(time.Second)
		if _, err := c.Write([]byte("second ")); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		c.tcb.Write(early, []byte("first"))
		c.output(early)
		c.mu.Unlock()
		synctest.Wait()
		b := make([]byte, 20)
		n, err := s.Read(b)
		if got, want := string(b[:n]), "second first"; got != want || err != nil {
			t.Errorf("%q arrived, and the error is %v, want %q; the server has dropped %v", got, err, want, server.Stats().Drops)
		}
	})
}

// TestZeroWindowForAnHour holds RFC 9293 §3.8.6.1, MUST-37: as long as the peer answers probes, the connection stays.
func TestZeroWindowForAnHour(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		var probes atomic.Int64
		client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{ReadBuffer: 1 << 20, WriteBuffer: 1 << 20, Trace: func(e *TraceEvent) {
			if e.Kind == SegmentOut && e.Segment.Cause == tcp.CauseWindowProbe {
				probes.Add(1)
			}
		}})
		c, s := connected(t, client, server, to)
		octets := random(4<<20, 1) // more than both buffers
		sent := make(chan error)
		go func() {
			_, err := c.Write(octets)
			sent <- errors.Join(err, c.CloseWrite())
		}()
		time.Sleep(time.Hour)
		if i := c.Info(); i.State != tcp.Established || i.SndWnd != 0 {
			t.Errorf("after an hour the sender is %v with a window of %d, want %v and 0", i.State, i.SndWnd, tcp.Established)
		}
		// from 200 ms doubled to the largest RTO of two minutes, then every two minutes
		if n := probes.Load(); n < 30 || n > 60 {
			t.Errorf("%d window probes left in an hour, want about 40", n)
		}
		got, err := io.ReadAll(s)
		if err := errors.Join(err, <-sent); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got, octets) {
			t.Errorf("%d octets came, and not those that were sent, which are %d", len(got), len(octets))
		}
	})
}
