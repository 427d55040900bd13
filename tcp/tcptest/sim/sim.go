// Package sim carries connections of package tcp over a modelled path, in virtual time: a bottleneck with a queue, a
// delay, loss, reordering and whatever else paths do, shared by any number of flows. A run depends on its Config alone,
// so the same seed gives the same run, segment by segment; and since nothing waits, a minute of a fast path takes a moment.
//
//	r := sim.Run(sim.Config{
//		Duration: time.Minute,
//		Forward:  sim.Path{Rate: 12_500_000, Delay: 25 * time.Millisecond, Queue: 300_000, Loss: 0.001},
//		Flows: []sim.Flow{
//			{TCP: tcp.Config{Congestion: tcp.NewCubic}},
//			{TCP: tcp.Config{Congestion: tcp.NewReno}, Start: 5 * time.Second},
//		},
//	})
//	fmt.Print(r)                                        // a line for each flow
//	fmt.Println(r.Jain(30*time.Second, 60*time.Second)) // how evenly they shared
//	r.SVG(file)                                         // windows, round-trip times and queues over time
//
// # The model
//
// The two directions are a Path each. A packet waits in the path's queue, or is dropped at its tail; it leaves the queue
// at the path's rate; then it may be lost; and it arrives after the path's delay. Packets count with their TCP header and
// with 20 octets of IP. A segment of several packets (tcp.Config.MaxText) is cut as it enters the queue, and Flow.Coalesce
// joins what arrives at one instant as a network card does.
//
// Both ends of a flow are a tcp.TCB, whose users are quick: the sender writes whatever finds room, the receiver reads
// whatever is there. All that arrives at one instant is taken before anything is answered, as package stack does with a batch.
package sim

import (
	"math/rand/v2"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// Config says what is simulated. The zero value is one flow of CUBIC for ten seconds over DefaultPath.
type Config struct {
	// Seed decides about everything that happens by chance.
	Seed uint64
	// Duration is how long the run lasts in virtual time. 0 means DefaultDuration.
	Duration time.Duration
	// Forward is the way that the flows' text takes. Where it has neither a rate nor a delay, DefaultPath's are taken.
	Forward Path
	// Back is the way of the acknowledgements. Its zero value is Forward's delay and nothing besides.
	Back Path
	// Flows are the connections. None means one, with all defaults.
	Flows []Flow
	// Every is the time between two samples. 0 means a five-hundredth of Duration.
	Every time.Duration
}

// DefaultDuration is how long a run lasts where Config names no duration.
const DefaultDuration = 10 * time.Second

// DefaultPath is the path of a Config that names none: 100 Mbit/s, and 20 ms there and back. It is not to be changed.
var DefaultPath = Path{Rate: 12_500_000, Delay: 10 * time.Millisecond}

// DefaultMTU is tcp.Config.MTU of a flow that names none: what an Ethernet frame leaves beside 20 octets of IPv4.
const DefaultMTU = 1480

// ipHeader is what a packet carries besides its segment: an IPv4 header without options (RFC 791 §3.1).
const ipHeader = 20

// Flow is one connection, whose text goes one way.
type Flow struct {
	// Name stands in the table and in the legend. "" means the algorithm's name.
	Name string
	// TCP is the sender's configuration, and the receiver's. An MTU of 0 means DefaultMTU; a nil Memory chunks that the
	// flows of the run share. Congestion chooses the algorithm.
	TCP tcp.Config
	// Start is when the connection is opened.
	Start time.Duration
	// Stop is when the sender stops writing and closes. 0: never.
	Stop time.Duration
	// Octets is how many the sender writes before it closes. 0: without end.
	Octets int64
	// Message, where it is not 0, makes the sender write so many octets each time the receiver has read the last so many.
	Message int
	// TailLoss is the probability that a message's last packet is lost, the first time that it is sent.
	TailLoss float64
	// Rate is how many octets a second the sender's user has to write, every 10 ms. 0: as many as there is room for.
	Rate int64
	// Delay is this flow's own, added each way.
	Delay time.Duration
	// Reverse swaps the ways: the text goes Back, beside the acknowledgements of the other flows.
	Reverse bool
	// Coalesce lets the receiver's card join packets that arrive at one instant and continue each other, up to 64 KB:
	// see Path.Slot.
	Coalesce bool
}

// writeEvery is how often a user with a Flow.Rate writes.
const writeEvery = 10 * time.Millisecond

// world is a run under way.
type world struct {
	c      Config
	now    time.Duration
	events queue
	links  [2]link // forward, back
	flows  []flow
	dirty  []*end // what is to be looked after at the end of this instant
	pool   []packet
	free   []int32 // of pool
	zeros  []byte
	text   [1][]byte // the text of the packet that arrives
	result *Result
	chunks memory
}

// packet is one on its way.
type packet struct {
	s       tcp.Segment // without its text
	n       int32       // octets of text
	size    int32       // octets on the path
	to      *end
	entered time.Duration // the queue
	tail    bool          // the last of a message, for the first time
}

// Run simulates c.
func Run(c Config) *Result {
	w := newWorld(&c)
	for w.step() {
	}
	w.now = c.Duration
	return w.finish()
}

func newWorld(c *Config) *world {
	c.fill()
	w := &world{c: *c, zeros: make([]byte, 1<<16), result: &Result{Config: *c}, flows: make([]flow, len(c.Flows))}
	for i, p := range [...]Path{c.Forward, c.Back} {
		w.links[i] = link{w: w, Path: p, random: rand.New(rand.NewPCG(c.Seed, uint64(i)))}
		for k, change := range p.Changes {
			w.events.push(change.At, event{kind: changes, i: int32(i), k: int32(k)})
		}
	}
	random := rand.New(rand.NewPCG(c.Seed, uint64(len(w.links))))
	for i := range w.flows {
		w.flows[i].init(w, &c.Flows[i], random)
		w.events.push(c.Flows[i].Start, event{kind: opens, i: int32(i)})
	}
	w.events.push(c.Every, event{kind: samples})
	return w
}

// fill puts the defaults in. It changes nothing that the caller still holds.
func (c *Config) fill() {
	if c.Duration == 0 {
		c.Duration = DefaultDuration
	}
	if c.Every <= 0 {
		c.Every = max(c.Duration/500, 1)
	}
	if c.Forward.Rate == 0 && c.Forward.Delay == 0 {
		c.Forward.Rate, c.Forward.Delay = DefaultPath.Rate, DefaultPath.Delay
	}
	if c.Back.Delay == 0 {
		c.Back.Delay = c.Forward.Delay
	}
	for _, p := range []*Path{&c.Forward, &c.Back} {
		if p.Queue == 0 {
			p.Queue = max(int(float64(p.Rate)*(c.Forward.Delay+c.Back.Delay).Seconds()), leastQueue)
		}
	}
	c.Flows = append([]Flow(nil), c.Flows...)
	if len(c.Flows) == 0 {
		c.Flows = make([]Flow, 1)
	}
	for i := range c.Flows {
		if f := &c.Flows[i].TCP; f.MTU == 0 {
			f.MTU = DefaultMTU
		}
	}
}

// step lets happen what comes next, and is false where that is after the end.
func (w *world) step() bool {
	at, who := w.events.next(), -1
	for i := range w.links {
		if l := &w.links[i]; l.count > 0 && l.leaves < at {
			at, who = l.leaves, i
		}
	}
	if at > w.now && len(w.dirty) > 0 {
		w.settle()
		return true
	}
	if at > w.c.Duration {
		return false
	}
	w.now = at
	if who >= 0 {
		w.links[who].send()
		return true
	}
	switch e := w.events.pop(); e.kind {
	case arrives:
		w.arrive(e.i)
	case wakes:
		f := &w.flows[e.i]
		f.ends[e.k].wake()
	case opens:
		w.flows[e.i].open()
	case writes:
		w.flows[e.i].earn(e.k)
	case samples:
		w.sample()
		w.events.push(w.now+w.c.Every, e)
	case changes:
		w.links[e.i].change(e.k)
	}
	return true
}

// settle looks after the ends that something happened to.
func (w *world) settle() {
	for i := 0; i < len(w.dirty); i++ { // it may grow
		w.dirty[i].settle()
	}
	w.dirty = w.dirty[:0]
}

// arrive hands a packet to the end that it was sent to.
func (w *world) arrive(i int32) {
	p := &w.pool[i]
	p.to.take(p)
	w.drop(i)
}

// alloc is the index of a packet to fill.
func (w *world) alloc() int32 {
	if n := len(w.free); n > 0 {
		i := w.free[n-1]
		w.free = w.free[:n-1]
		return i
	}
	w.pool = append(w.pool, packet{})
	return int32(len(w.pool) - 1)
}

func (w *world) drop(i int32) { w.free = append(w.free, i) }

// memory lends chunks to all TCBs of a run, and keeps those that come back.
type memory struct{ small, large []*tcp.Chunk }

func (m *memory) list(n int) *[]*tcp.Chunk {
	if n <= tcp.SmallChunk {
		return &m.small
	}
	return &m.large
}

// Borrow implements tcp.Memory.
func (m *memory) Borrow(n int) *tcp.Chunk {
	l := m.list(n)
	if k := len(*l); k > 0 {
		c := (*l)[k-1]
		*l = (*l)[:k-1]
		return c
	}
	return tcp.NewChunk(n)
}

// Return implements tcp.Memory.
func (m *memory) Return(c *tcp.Chunk) {
	l := m.list(len(c.Bytes))
	*l = append(*l, c)
}
