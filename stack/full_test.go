package stack

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// refusing is a device that has no room while held, and says when it has.
type refusing struct {
	link.Device
	mu    sync.Mutex
	held  bool
	ready chan struct{}
}

func (d *refusing) Queues() []link.Queue { return []link.Queue{refusingQueue{d.Device.Queues()[0], d}} }

func (d *refusing) hold(held bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held = held; !held {
		select {
		case d.ready <- struct{}{}:
		default:
		}
	}
}

type refusingQueue struct {
	link.Queue
	d *refusing
}

func (q refusingQueue) Ready() <-chan struct{} { return q.d.ready }

func (q refusingQueue) Write(p []link.Packet) (int, error) {
	q.d.mu.Lock()
	held := q.d.held
	q.d.mu.Unlock()
	if held {
		return 0, link.ErrFull
	}
	return q.Queue.Write(p)
}

// With one device held full, connections over another go on; those that wait lose nothing, and go on with it; a SYN-ACK
// waits too; and Close returns all the same.
func TestDeviceHeldFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{MTU: 1400})
		c, d := link.Pipe(link.PipeConfig{MTU: 1400})
		stuck := &refusing{Device: a, ready: make(chan struct{}, 1)}
		us := New(Config{})
		defer us.Close()
		for _, h := range []struct {
			d    link.Device
			addr string
		}{{stuck, "198.51.100.1/24"}, {c, "203.0.113.1/24"}} {
			if _, err := us.Attach(h.d, netip.MustParsePrefix(h.addr)); err != nil {
				t.Fatal(err)
			}
		}
		behind := host(t, b, Config{}, server4)
		beside := host(t, d, Config{}, netip.MustParsePrefix("203.0.113.2/24"))
		slow, slowPeer := connected(t, us, behind, server4)
		quick, quickPeer := connected(t, us, beside, netip.MustParsePrefix("203.0.113.2/24"))
		l, err := us.Listen("tcp", "198.51.100.1:80")
		if err != nil {
			t.Fatal(err)
		}

		stuck.hold(true)
		text := random(1<<20, 1)
		go slow.Write(text)
		dialed := make(chan error, 1)
		go func() {
			_, err := behind.Dial("tcp", l.Addr().String())
			dialed <- err
		}()
		start := time.Now()
		go quick.Write(text)
		if _, err := io.ReadFull(quickPeer, make([]byte, len(text))); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("the connection beside took %v", took)
		}
		synctest.Wait()
		if n := us.Stats().Parked; n == 0 {
			t.Error("nothing is parked")
		}
		stuck.hold(false)
		got := make([]byte, len(text))
		if _, err := io.ReadFull(slowPeer, got); err != nil || string(got) != string(text) {
			t.Errorf("what waited arrived otherwise: %v", err)
		}
		if err := <-dialed; err != nil {
			t.Errorf("a SYN-ACK that waited: %v", err)
		}
		if n := us.Stats().Drops["device-full"]; n > 0 {
			t.Errorf("%d packets lost to a full device", n)
		}
		stuck.hold(true)
		slow.Write(text[:5000])
	})
}

// Many connections share what room a device has: each gets a turn.
func TestFullDeviceIsShared(t *testing.T) {
	const conns, each = 40, 200 << 10
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{MTU: 1400, Queue: 16, Delay: time.Millisecond}, Config{})
		l, err := server.Listen("tcp", ":80")
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		got := map[net.Conn]int{}
		total := 0
		enough := make(chan struct{})
		reached := sync.OnceFunc(func() { close(enough) })
		var from, to [conns]net.Conn
		for k := range conns {
			if from[k], err = client.Dial("tcp", "198.51.100.2:80"); err != nil {
				t.Fatal(err)
			}
			if to[k], err = l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		for k := range conns {
			c, s := from[k], to[k]
			go func() {
				for b := make([]byte, 32<<10); ; {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
			go func() {
				for b := make([]byte, 32<<10); ; {
					n, err := s.Read(b)
					mu.Lock()
					got[s] += n
					if total += n; total >= conns*each {
						reached()
					}
					mu.Unlock()
					if err != nil {
						return
					}
				}
			}()
		}
		<-enough
		mu.Lock()
		least := each
		for _, n := range got {
			least = min(least, n)
		}
		t.Logf("%d connections, %d octets each on average, the least %d", len(got), each, least)
		if len(got) < conns || least < each/4 {
			t.Errorf("of %d connections %d got something, and one only %d octets where %d is the average", conns, len(got), least, each)
		}
		mu.Unlock()
		client.Close()
		server.Close()
	})
}
