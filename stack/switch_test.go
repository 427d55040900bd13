package stack_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// station makes a host of its own at a port.
func station(t *testing.T, sw *link.Switch, name, addr string, wire link.PipeConfig) *stack.Stack {
	t.Helper()
	d, err := sw.Port(wire, link.PortConfig{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Config{})
	if _, err := s.Attach(d, netip.MustParsePrefix(addr)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// witness is a connection between two hosts, over which one sends without end and the other counts.
func witness(t *testing.T, from, to *stack.Stack, addr string) (received *atomic.Int64, c net.Conn) {
	t.Helper()
	l, err := to.Listen("tcp", net.JoinHostPort(addr, "80"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c, err = from.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	received = new(atomic.Int64)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := s.Read(b)
			received.Add(int64(n))
			if err != nil {
				s.Close()
				return
			}
		}
	}()
	go io.Copy(c, endless{})
	return received, c
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// rate is how much n grows in a second, measured for as long.
func rate(n *atomic.Int64, d time.Duration) float64 {
	before, start := n.Load(), time.Now()
	time.Sleep(d)
	return float64(n.Load()-before) / time.Since(start).Seconds()
}

// A station sends from made-up addresses without end, to others that nobody has. The table stays within its bound, the
// connection between two others goes on, and not one of its frames is flooded.
func TestSwitchMACFloodLeavesAConnectionAlone(t *testing.T) {
	for _, flood := range []struct {
		name string
		dst  func(i uint32) ethernet.Addr
	}{
		{"to unknown stations", func(i uint32) ethernet.Addr { return made(4, i) }},
		{"to itself", func(i uint32) ethernet.Addr { return made(6, i-1) }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			sw := link.NewSwitch(link.SwitchConfig{})
			defer sw.Close()
			wire := link.PipeConfig{MTU: 1500, GSO: 65535}
			a, b := station(t, sw, "a", "198.51.100.1/24", wire), station(t, sw, "b", "198.51.100.2/24", wire)
			attacker, err := sw.Port(link.PipeConfig{MTU: 1500}, link.PortConfig{Name: "attacker"})
			if err != nil {
				t.Fatal(err)
			}
			defer attacker.Close()
			var seen atomic.Int64 // frames that are not for the attacker, and that it gets to see
			go func() {
				p := make([]link.Packet, 64)
				for {
					n, err := attacker.Queues()[0].Read(p)
					if err != nil {
						return
					}
					for _, p := range p[:n] {
						if p.Head[0]&1 == 0 {
							seen.Add(1)
						}
					}
				}
			}()
			received, c := witness(t, a, b, "198.51.100.2")
			defer c.Close()
			before := rate(received, 200*time.Millisecond)
			sent, stop := new(atomic.Int64), make(chan struct{})
			idle := make(chan struct{})
			go func() {
				defer close(idle)
				mayhem(attacker.Queues()[0], flood.dst, sent, stop)
			}()
			during := rate(received, 200*time.Millisecond)
			at := received.Load()
			for deadline := time.Now().Add(20 * time.Second); sent.Load() < 10000 || received.Load() < at+1<<20; {
				if time.Now().After(deadline) {
					t.Fatalf("%d frames of the flood, and %d octets of the connection", sent.Load(), received.Load()-at)
				}
				time.Sleep(time.Millisecond)
			}
			close(stop)
			<-idle
			t.Logf("the connection: %.0f MB/s alone, %.0f MB/s during the flood of %d frames", before/1e6, during/1e6, sent.Load())
			if n := seen.Load(); n > 0 {
				t.Errorf("%d frames of others were flooded to the attacker", n)
			}
			stations := 0
			for range sw.Stations() {
				stations++
			}
			if stations != 4096 {
				t.Errorf("%d stations in the table, want its bound of 4096", stations)
			}
			for p := range sw.Ports() {
				if s := p.Stats(); (s.Evicted > 0) != (p.Name() == "attacker") || s.Moved > 0 {
					t.Errorf("port %s: %d stations evicted, %d moved", p.Name(), s.Evicted, s.Moved)
				}
			}
		})
	}
}

// made is a made-up address, of a kind.
func made(kind byte, i uint32) ethernet.Addr {
	a := ethernet.Addr{kind<<4 | 2}
	binary.BigEndian.PutUint32(a[2:], i)
	return a
}

// mayhem sends frames from one made-up address each: 128 in a millisecond, so that what it costs is the switch's, and not the
// processor time of the attacker.
func mayhem(q link.Queue, dst func(uint32) ethernet.Addr, sent *atomic.Int64, stop <-chan struct{}) {
	p := make([]link.Packet, 128)
	for i := range p {
		p[i].Head = make([]byte, 60)
		p[i].Head[12], p[i].Head[13] = 0x88, 0xb5
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := uint32(1); ; {
		for i := range p {
			to, from := dst(n), made(6, n)
			copy(p[i].Head, to[:])
			copy(p[i].Head[6:], from[:])
			n++
		}
		k, _ := q.Write(p)
		sent.Add(int64(k))
		select {
		case <-stop:
			return
		case <-tick.C:
		}
	}
}
