package link_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// While a station floods as fast as it can, what goes over a connection of two others arrives, octet by octet, and to their
// ports goes no more of the flood than its bound; what is more is dropped and counted, and the table stays within its own.
func TestSwitchUnderFloodCarriesOthersWhole(t *testing.T) {
	for _, x := range floods {
		t.Run(x.name, func(t *testing.T) {
			const storm, stations = 1000, 256
			start := time.Now()
			sw := link.NewSwitch(link.SwitchConfig{Storm: storm, Stations: stations})
			w := newWitness(t, sw)
			w.begin(t, x.flood)
			text := make([]byte, 8<<20)
			rand.NewChaCha8([32]byte{1}).Read(text)
			got := make([]byte, len(text))
			w.s.SetReadDeadline(start.Add(time.Minute))
			w.c.SetWriteDeadline(start.Add(time.Minute))
			read := make(chan error, 1)
			go func() {
				_, err := io.ReadFull(w.s, got)
				read <- err
			}()
			if _, err := w.c.Write(text); err != nil {
				t.Error(err)
			}
			if err := <-read; err != nil || !bytes.Equal(got, text) {
				t.Errorf("what arrives is not what was sent; %v", err)
			}
			for deadline := start.Add(time.Minute); w.port.Stats().Storm+w.port.Stats().Filtered < storm; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("a minute of the flood, and the port has %+v", w.port.Stats())
				}
			}
			w.end()
			n, ports := len(slices.Collect(sw.Stations())), slices.Collect(sw.Ports())
			if n > stations {
				t.Errorf("%d stations in the table, want its bound of %d at most", n, stations)
			}
			sw.Close() // so that nothing is on its way
			most := storm * uint64(time.Since(start)/time.Second+2)
			if s := w.port.Stats(); s.Flooded > most || s.Flooded+s.Storm+s.Filtered+s.Forwarded != s.FramesIn {
				t.Errorf("the flooding port has %+v, want no more than %d flooded, and each frame counted", s, most)
			}
			for _, p := range ports {
				if s := p.Stats(); p != w.port && s.Storm+s.Unlearnt+s.Evicted > 0 {
					t.Errorf("port %s has %+v, want nothing of its own dropped or forgotten", p.Name(), s)
				}
			}
		})
	}
}

// floods are what an attacker may do.
var floods = []struct {
	name  string
	flood func(a *attack)
}{
	{"flood of made-up stations", func(a *attack) { a.flood(2, true) }},
	{"flood of one station", func(a *attack) { a.flood(2, false) }},
	{"flood of broadcasts", func(a *attack) { a.flood(0xff, true) }},
	{"flood to itself", func(a *attack) { a.flood(0, true) }},
	{"flood that waits for room", func(a *attack) { a.waits = true; a.flood(2, true) }},
}

// BenchmarkWitness is a TCP connection between two stations of a switch, alone and while a third station does its worst, on a
// goroutine of the same program, as fast as it can and mostly without ever waiting. How much of the processor such a goroutine
// takes, whatever it does, is to be seen beside one that is only busy.
func BenchmarkWitness(b *testing.B) {
	bench := func(name string, flood func(a *attack)) {
		b.Run(name, func(b *testing.B) {
			w := newWitness(b, link.NewSwitch(link.SwitchConfig{}))
			w.begin(b, flood)
			text := make([]byte, 64<<10)
			b.SetBytes(int64(len(text)))
			read := make(chan error, 1)
			written, taken := w.sent.Load(), w.port.Stats().FramesIn
			b.ResetTimer()
			go func() { read <- readAll(w.s, int64(b.N)*int64(len(text))) }()
			for range b.N {
				if _, err := w.c.Write(text); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-read; err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			seconds := b.Elapsed().Seconds()
			b.ReportMetric(float64(w.sent.Load()-written)/seconds, "written/s")
			b.ReportMetric(float64(w.port.Stats().FramesIn-taken)/seconds, "taken/s")
		})
	}
	bench("alone", nil)
	bench("beside a busy goroutine", (*attack).spin)
	for _, x := range floods {
		bench(x.name, x.flood)
	}
}

// A witness is a connection between two stations of a switch, with a third station for an attacker.
type witness struct {
	attack
	sw   *link.Switch
	port *link.Port // the attacker's, the last
	c, s net.Conn
	once sync.Once
}

func newWitness(t testing.TB, sw *link.Switch) *witness {
	wire := link.PipeConfig{MTU: 1500, GSO: 65535}
	station := func(name, addr string) *stack.Stack {
		d, err := sw.Port(wire, link.PortConfig{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		s := stack.New(stack.Config{NoDAD: true})
		t.Cleanup(func() { s.Close() })
		if _, err := s.Attach(d, netip.MustParsePrefix(addr)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Cleanup(func() { sw.Close() })
	from, to := station("a", "198.51.100.1/24"), station("b", "198.51.100.2/24")
	d, err := sw.Port(link.PipeConfig{MTU: 1500}, link.PortConfig{Name: "attacker"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	w := &witness{sw: sw, attack: attack{q: d.Queues()[0], stop: make(chan struct{}), done: make(chan struct{})}}
	for p := range sw.Ports() {
		w.port = p
	}
	l, err := to.Listen("tcp", "198.51.100.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if w.c, err = from.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.c.Close() })
	if w.s, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.s.Close() })
	return w
}

// begin has the attacker do something until end; it may be nothing.
func (w *witness) begin(t testing.TB, flood func(a *attack)) {
	t.Cleanup(w.end)
	go func() {
		defer close(w.done)
		if flood != nil {
			flood(&w.attack)
		}
	}()
}

// end waits until the attacker has ended.
func (w *witness) end() {
	w.once.Do(func() { close(w.stop) })
	<-w.done
}

// readAll reads n octets.
func readAll(c net.Conn, n int64) (err error) {
	text := make([]byte, 64<<10)
	for k := 0; n > 0 && err == nil; n -= int64(k) {
		k, err = c.Read(text[:min(n, int64(len(text)))])
	}
	return err
}

// An attack is a station that floods.
type attack struct {
	q          link.Queue
	sent       atomic.Int64
	waits      bool // for room, where there is none
	stop, done chan struct{}
}

func (a *attack) over() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

func (a *attack) spin() {
	for !a.over() {
		for start := time.Now(); time.Since(start) < time.Millisecond; {
		}
	}
}

// flood sends frames from made-up stations, or from one, to others of the same kind: kind is the first octet of the
// destination, and 0 stands for the station that was the source of the frame before.
func (a *attack) flood(kind byte, many bool) {
	p := make([]link.Packet, 128)
	for i := range p {
		p[i].Head = make([]byte, 60)
		b := p[i].Head
		switch b[0], b[6] = kind, 6; kind {
		case 0:
			b[0] = 6
		case 0xff:
			copy(b, "\xff\xff\xff\xff\xff\xff")
		}
		b[12], b[13] = 0x88, 0xb5
	}
	for n := uint32(1); !a.over(); {
		for i := range p {
			if b := p[i].Head; many {
				binary.BigEndian.PutUint32(b[8:], n)
				if kind != 0xff {
					binary.BigEndian.PutUint32(b[2:], n-1)
				}
				n++
			}
		}
		k, err := a.q.Write(p)
		if err != nil && !errors.Is(err, link.ErrFull) {
			return
		}
		a.sent.Add(int64(k))
		if a.waits && err != nil {
			select {
			case <-a.stop:
			case <-a.q.Ready():
			}
		}
	}
}
