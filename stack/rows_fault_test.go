package stack

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// These are faults of the wire and of the host that a stack survives.

// flipping is a device that turns one bit of one packet in a hundred over, headers included.
type flipping struct {
	link.Device
	random *rand.Rand
}

type flippingQueue struct {
	link.Queue
	d *flipping
}

func (d *flipping) Queues() []link.Queue { return []link.Queue{flippingQueue{d.Device.Queues()[0], d}} }

func (q flippingQueue) Read(p []link.Packet) (int, error) {
	n, err := q.Queue.Read(p)
	for i := range p[:n] {
		if h := p[i].Head; len(h) > 0 && q.d.random.IntN(100) == 0 {
			h = slices.Clone(h)
			h[q.d.random.IntN(len(h))] ^= 1 << q.d.random.IntN(8)
			p[i].Head = h
		}
	}
	return n, err
}

// TestA65BitFlips: what arrives is what was sent, octet by octet, over a wire that turns bits over; checksums find each.
func TestA65BitFlips(t *testing.T) {
	bubble(t, func(t *testing.T, to netip.Prefix) {
		a, b := link.Pipe(link.PipeConfig{MTU: 1500, Delay: 5 * time.Millisecond})
		client := host(t, &flipping{a, rand.New(rand.NewPCG(1, 1))}, Config{}, client4, client6)
		server := host(t, &flipping{b, rand.New(rand.NewPCG(1, 2))}, Config{}, server4, server6)
		c, s := connected(t, client, server, to)
		bothWays(t, c, s, 2<<20)
		dropped := uint64(0)
		for _, reason := range []string{"bad-tcp-checksum", "bad-header"} {
			dropped += client.Stats().Drops[reason] + server.Stats().Drops[reason]
		}
		if dropped == 0 {
			t.Error("nothing was dropped: no bit was turned over")
		}
	})
}

// TestA81NoEntropy: without random octets there is no stack, rather than one whose keys are known; where they run out
// later, what is chosen goes on to differ.
func TestA81NoEntropy(t *testing.T) {
	dry := func([]byte) error { return errors.New("no entropy") }
	func() {
		defer func() {
			if why, ok := recover().(string); !ok || !strings.Contains(why, "random") {
				t.Errorf("a stack without random octets: %q", why)
			}
		}()
		New(Config{Rand: dry})
	}()
	n := 0
	var x secrets
	x.init(func(b []byte) error {
		if n++; n > 3 {
			return dry(b)
		}
		for i := range b {
			b[i] = byte(i * n)
		}
		return nil
	})
	had := map[uint64]bool{}
	for i := range 10000 {
		v := x.random()
		if had[v] {
			t.Fatalf("number %d comes a second time", i)
		}
		had[v] = true
	}
}

// TestA80Starved: on one processor, which others are busy on and which collects garbage all the time, timers come late, and
// nothing else happens: what arrives is what was sent, nothing is reset, and no deadline passes early.
func TestA80Starved(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{MTU: 1500}, Config{})
		c, s := connected(t, client, server, to)
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		var stop atomic.Bool
		var busy sync.WaitGroup
		for n := range 3 {
			busy.Go(func() {
				for !stop.Load() {
					if n == 0 {
						runtime.GC()
					}
				}
			})
		}
		defer busy.Wait()
		defer stop.Store(true)
		const wait = 20 * time.Millisecond
		began := time.Now()
		c.SetReadDeadline(began.Add(wait))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < wait {
			t.Errorf("a deadline of %v: %v after %v", wait, err, time.Since(began))
		}
		c.SetReadDeadline(time.Time{})
		bothWays(t, c, s, 512<<10)
		for name, x := range map[string]*Stack{"client": client, "server": server} {
			st := x.Stats()
			if st.Resets != 0 || st.ReadErrors != 0 || st.Drops["bad-header"]+st.Drops["bad-tcp-checksum"]+st.Drops["bad-tcp-header"] != 0 {
				t.Errorf("%s: %+v", name, st)
			}
		}
	})
}

// TestA44A45ErrorStorm: ICMP errors about connections that nobody has, about octets that are not outstanding, and about
// one that is, as fast as they come: none ends a connection that is open, and none is answered.
func TestA44A45ErrorStorm(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		if _, err := d.conn.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		sent := h.one("Write")
		r := rand.New(rand.NewPCG(4, 5))
		const storm = 3000
		for n := range storm {
			quoted := slices.Clone(sent.packet)
			at := h.headerLen()
			if n%3 == 0 {
				quoted[at+2] ^= byte(1 + r.IntN(255)) // another port of the tester's
			} else {
				copy(quoted[at+4:], []byte{byte(r.Uint32()), byte(r.Uint32()) | 1, byte(r.Uint32()), byte(r.Uint32())})
			}
			h.icmp(ipv4.ICMP{Type: ipv4.Unreachable, Code: uint8(n % 13), Body: quoted}, ipv6.ICMP{Type: ipv6.Unreachable, Code: uint8(n % 5), Body: quoted})
			if n%100 == 0 {
				h.idle()
			}
		}
		h.silent("a storm of errors")
		if d.state() != tcp.Established {
			t.Fatalf("the connection is in %v", d.state())
		}
		if got := h.drops("tcp-notice") + h.drops("bad-icmp"); got < storm*9/10 {
			t.Errorf("%d of %d errors are counted as about nothing", got, storm)
		}
		h.icmp(ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodePort, Body: sent.packet}, ipv6.ICMP{Type: ipv6.Unreachable, Code: ipv6.CodePort, Body: sent.packet})
		h.idle()
		d.say(1, 6, tcp.ACK, "world")
		if n, err := d.conn.Read(make([]byte, 5)); n != 5 || err != nil {
			t.Errorf("after it: read %d octets, %v", n, err)
		}
	})
}

// TestA28PortExhaustion: where each ephemeral port leads to one port of one peer already, one connection more is refused
// with Linux's error, and other peers are reached as before.
func TestA28PortExhaustion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		c, _ := connected(t, client, server, server4)
		to := c.RemoteAddr().String()
		each := func(f func(h *shard, flow tcp.Flow)) {
			flow := c.flow
			for port := firstEphemeral; port <= lastEphemeral; port++ {
				flow.LocalPort = uint16(port)
				h := client.shard(&flow)
				h.mu.Lock()
				f(h, flow)
				h.mu.Unlock()
			}
		}
		each(func(h *shard, flow tcp.Flow) { h.conns[flow] = c })
		if _, err := client.Dial("tcp", to); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("without a free port: %v, want EADDRNOTAVAIL", err)
		}
		connected(t, client, server, server4) // to another port
		connected(t, client, server, server6)
		each(func(h *shard, flow tcp.Flow) {
			if flow != c.flow {
				delete(h.conns, flow)
			}
		})
		if _, err := client.Dial("tcp", to); !errors.Is(err, syscall.ECONNREFUSED) { // nobody listens there any more
			t.Errorf("with free ports again: %v, want ECONNREFUSED", err)
		}
	})
}
