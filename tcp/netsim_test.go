package tcp

import (
	"bytes"
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata anew")

// wirePath is a path in virtual time: a queue with tail drop before a link of some rate, then a delay. It harms only
// what the sender sends; acknowledgements come back after the same delay.
type wirePath struct {
	rate    int64         // octets a second
	delay   time.Duration // one way
	queue   int           // octets that wait for the link at most
	loss    float64       // probability that a packet is lost
	bad     float64       // probability that a packet begins a burst of loss, in which every other one is lost
	reorder float64       // probability that a packet is held back,
	held    time.Duration // for up to so long
	message int           // the user sends messages of so many octets, each when the one before it was read; 0: all it may
	tail    float64       // probability that the last packet of a message is lost
}

// simulation is one sender and one receiver at the ends of a path.
type simulation struct {
	t        testing.TB
	path     wirePath
	r        *rand.Rand
	now      time.Duration
	end      [2]*TCB
	events   eventHeap
	free     time.Duration // when the link has sent all that waits
	n        int
	inBurst  bool
	zero     []byte
	written  int
	got      int // octets read
	spurious int // packets of text that had arrived before
	lost     int
	timeouts int // of the retransmission timer
	arrived  map[Seq]Seq
}

type simEvent struct {
	at time.Duration
	n  int // breaks ties
	to int
	s  Segment
}

type eventHeap []*simEvent

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(*simEvent)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// simulate runs p for d with the congestion control that cc makes.
func simulate(t testing.TB, p wirePath, c Config, d time.Duration, seed uint64) *simulation {
	m := &simulation{t: t, path: p, r: rand.New(rand.NewPCG(seed, 3)), zero: make([]byte, 64<<10), arrived: map[Seq]Seq{}}
	m.end[0] = Open(0, 100, &c)
	var syn Segment
	m.end[0].Next(0, &syn)
	m.now = p.delay
	m.end[1] = Accept(m.now, 300, &syn, &c)
	for m.now <= d {
		m.user()
		m.flush(0)
		m.flush(1)
		if !m.step(d) {
			break
		}
	}
	return m
}

// user writes and reads all it may.
func (m *simulation) user() {
	for m.end[1].Buffered() > 0 {
		m.got += m.end[1].Read(m.now, m.zero)
	}
	for {
		n := len(m.zero)
		if m.path.message > 0 {
			if m.written == m.got {
				m.written = m.got
				n = m.path.message
			} else if n = m.path.message - m.written%m.path.message; n == m.path.message {
				return
			}
		}
		k := m.end[0].Write(m.now, m.zero[:min(n, len(m.zero))])
		m.written += k
		if k == 0 {
			return
		}
	}
}

func (m *simulation) flush(from int) {
	var s Segment
	for m.end[from].Next(m.now, &s) {
		if from == 1 {
			o := s.Options
			o.Blocks = 0
			s.Options.Blocks = uint8(s.Options.fits(o.Len())) // as many as the header takes
			m.put(m.now+m.path.delay, 0, s, nil)
			continue
		}
		text, first := s.TextLen(), s
		size := text
		if s.Size > 0 {
			size = int(s.Size)
		}
		for ok := true; ok; ok = text > 0 {
			n := min(text, size)
			text -= n
			first.Flags = s.Flags
			if text > 0 {
				first.Flags &^= FIN | PSH
			}
			m.send(first, n)
			first.Seq += Seq(n)
		}
	}
}

// send puts a packet with n octets of text on the link.
func (m *simulation) send(s Segment, n int) {
	size := time.Duration(n + 40 + s.Options.Len())
	wait := max(m.free-m.now, 0)
	if int64(wait)*m.path.rate/int64(time.Second) > int64(m.path.queue) {
		m.lost++
		return
	}
	m.free = m.now + wait + size*time.Second/time.Duration(m.path.rate)
	if n > 0 && m.unlucky(s, n) {
		m.lost++
		return
	}
	at := m.free + m.path.delay
	if m.path.reorder > 0 && m.r.Float64() < m.path.reorder {
		at += time.Duration(m.r.Int64N(int64(m.path.held)))
	}
	m.put(at, 1, s, m.zero[:n])
}

// unlucky draws what becomes of a packet.
func (m *simulation) unlucky(s Segment, n int) bool {
	if m.inBurst {
		m.inBurst = m.r.Float64() < 0.9
		return m.r.IntN(2) == 0
	}
	m.inBurst = m.path.bad > 0 && m.r.Float64() < m.path.bad
	if m.path.tail > 0 && s.Cause == CauseData && int(s.Seq-101+Seq(n))%m.path.message == 0 && m.r.Float64() < m.path.tail {
		return true
	}
	return m.path.loss > 0 && m.r.Float64() < m.path.loss
}

func (m *simulation) put(at time.Duration, to int, s Segment, text []byte) {
	s.Text = nil
	if len(text) > 0 {
		s.Text = [][]byte{text}
	}
	m.n++
	heap.Push(&m.events, &simEvent{at, m.n, to, s})
}

// step lets the next packet arrive or the next timer expire, unless that is after d.
func (m *simulation) step(d time.Duration) bool {
	who, at := -1, time.Duration(1<<62)
	for i, e := range m.end {
		if x, ok := e.Deadline(); ok && x < at {
			who, at = i, x
		}
	}
	if len(m.events) > 0 && m.events[0].at <= at {
		e := heap.Pop(&m.events).(*simEvent)
		m.now = e.at
		if e.to == 1 && e.s.TextLen() > 0 {
			if m.arrived[e.s.Seq] == e.s.End() {
				m.spurious++
			}
			m.arrived[e.s.Seq] = e.s.End()
		}
		m.end[e.to].Arrive(m.now, &e.s)
		return m.now <= d
	}
	if who < 0 || at > d {
		return false
	}
	m.now = max(m.now, at)
	before := m.end[0].snd.backoff

	m.end[who].Expire(m.now)
	if m.end[0].snd.backoff > before {
		m.timeouts++
	}
	return true
}

// algorithms are what the paths are tried with.
var algorithms = []struct {
	name string
	make func(mss int) Congestion
}{{"reno", NewReno}, {"cubic", NewCubic}}

// simPaths are the paths of the golden table. Rates are in octets a second.
var simPaths = []struct {
	name string
	path wirePath
	d    time.Duration
}{
	{"clean 100M 20ms", wirePath{rate: 12.5e6, delay: 10 * ms, queue: 250e3}, 10 * time.Second},
	{"loss 1% 100M 50ms", wirePath{rate: 12.5e6, delay: 25 * ms, queue: 625e3, loss: 0.01}, 15 * time.Second},
	{"loss 5% 100M 50ms", wirePath{rate: 12.5e6, delay: 25 * ms, queue: 625e3, loss: 0.05}, 15 * time.Second},
	{"loss 0.1% 100M 50ms", wirePath{rate: 12.5e6, delay: 25 * ms, queue: 625e3, loss: 0.001}, 15 * time.Second},
	{"reorder 10% 100M 20ms", wirePath{rate: 12.5e6, delay: 10 * ms, queue: 250e3, reorder: 0.1, held: 5 * ms}, 10 * time.Second},
	{"bursts 100M 50ms", wirePath{rate: 12.5e6, delay: 25 * ms, queue: 625e3, bad: 0.0005}, 15 * time.Second},
	{"tail loss 30%, 20 kB, 50ms", wirePath{rate: 12.5e6, delay: 25 * ms, queue: 625e3, message: 20000, tail: 0.3}, 15 * time.Second},
	{"bufferbloat 10M 20ms 1MB", wirePath{rate: 1.25e6, delay: 10 * ms, queue: 1e6}, 15 * time.Second},
	{"long fat 500M 100ms", wirePath{rate: 62.5e6, delay: 50 * ms, queue: 3e6, loss: 0.00002}, 10 * time.Second},
}

// TestNetsim holds what each algorithm makes of each path: a change of behaviour shows in the table.
func TestNetsim(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of traffic")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%-28s %-6s %9s %7s %7s %8s %4s\n", "path", "", "Mbit/s", "lost", "again", "spurious", "RTO")
	for _, x := range simPaths {
		for _, cc := range algorithms {
			c := Config{MTU: 1480, ReadBuffer: 16 << 20, WriteBuffer: 16 << 20, Congestion: cc.make}
			m := simulate(t, x.path, c, x.d, 1)
			fmt.Fprintf(&b, "%-28s %-6s %9.2f %7d %7d %8d %4d\n", x.name, cc.name,
				float64(m.got)*8/x.d.Seconds()/1e6, m.lost, m.end[0].again, m.spurious, m.timeouts)
		}
	}
	golden := filepath.Join("testdata", "netsim.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("the table has changed; -update writes it anew. It is\n%s\nand was\n%s", b.Bytes(), want)
	}
}
