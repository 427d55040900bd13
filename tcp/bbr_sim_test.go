package tcp

import (
	"container/heap"
	"math/rand/v2"
	"testing"
	"time"
)

// dumbbell is flows through one link, in virtual time: a queue with tail drop, random loss behind it, and a delay.
type dumbbell struct {
	rate    int64         // octets a second
	delay   time.Duration // there and back
	queue   int           // octets that wait for the link at most
	loss    float64       // probability that a packet is lost
	maxText int           // Config.MaxText
	tick    time.Duration // deadlines are rounded up to it; 0: they are exact
	make    func(mss int) Congestion
	start   []time.Duration // of each flow
	idle    func(flow int, now time.Duration) bool

	r     *rand.Rand
	now   time.Duration
	flows []*dumbFlow
	ev    dumbHeap
	drain []byte // where what was read goes
	n     int
	free  time.Duration // when the link has sent all that waits

	waited   time.Duration // the sum of queueing delays,
	packets  int           // of so many packets
	longest  time.Duration
	above    int           // packets that waited for more than 1.5 times delay
	measured time.Duration // they are counted from here on
}

type dumbFlow struct {
	send, recv *TCB
	got        int64
	config     *Config
	segments   int   // that carried text,
	text       int64 // of so many octets
}

type dumbEvent struct {
	at   time.Duration
	n    int
	flow int
	back bool
	s    Segment
}

type dumbHeap []*dumbEvent

func (h dumbHeap) Len() int { return len(h) }
func (h dumbHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].n < h[j].n
}
func (h dumbHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dumbHeap) Push(x any)   { *h = append(*h, x.(*dumbEvent)) }
func (h *dumbHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// run carries the flows until end.
func (d *dumbbell) run(end time.Duration) {
	if d.r == nil {
		d.r = rand.New(rand.NewPCG(7, 9))
		d.flows, d.drain = make([]*dumbFlow, len(d.start)), make([]byte, 1<<20)
	}
	d.flush() // the user may have something to send by now
	for {
		at := time.Duration(1 << 62)
		for i, f := range d.flows {
			if f == nil {
				at = min(at, max(d.start[i], d.now))
				continue
			}
			at = min(at, d.deadline(f.send), d.deadline(f.recv))
		}
		if len(d.ev) > 0 {
			at = min(at, d.ev[0].at)
		}
		if d.now = max(d.now, at); d.now > end {
			d.now = end
			return
		}
		d.step()
	}
}

func (d *dumbbell) deadline(t *TCB) time.Duration {
	if t == nil {
		return 1 << 62
	}
	at, ok := t.Deadline()
	if !ok {
		return 1 << 62
	}
	if d.tick > 0 {
		at = (at + d.tick - 1) / d.tick * d.tick
	}
	return at
}

func (d *dumbbell) step() {
	for i, f := range d.flows {
		if f == nil && d.start[i] <= d.now {
			d.open(i)
			f = d.flows[i]
		}
		if f == nil {
			continue
		}
		for _, t := range []*TCB{f.send, f.recv} {
			if d.deadline(t) <= d.now {
				t.Expire(d.now)
			}
		}
	}
	for len(d.ev) > 0 && d.ev[0].at <= d.now {
		e := heap.Pop(&d.ev).(*dumbEvent)
		f := d.flows[e.flow]
		if f.recv == nil {
			f.recv = Accept(d.now, 300, &e.s, f.config)
			f.recv.SetBuffers(d.now, 64<<20, 64<<20)
		} else if e.back {
			f.send.Arrive(d.now, &e.s)
		} else {
			f.recv.Arrive(d.now, &e.s)
			f.got += int64(f.recv.Read(d.now, d.drain))
		}
	}
	d.flush()
}

func (d *dumbbell) flush() {
	for i, f := range d.flows {
		if f != nil {
			d.send(i)
		}
	}
}

// dumbZero is what every flow sends; nobody writes to it.
var dumbZero = make([]byte, 1<<20)

func (d *dumbbell) open(i int) {
	c := &Config{MTU: 1480, MaxText: d.maxText, ReadBuffer: 64 << 20, WriteBuffer: 64 << 20, Congestion: d.make, Memory: new(chunks)}
	f := &dumbFlow{config: c}
	var s Segment
	f.send = Open(d.now, Seq(1000*i), c)
	f.send.SetBuffers(d.now, 64<<20, 64<<20) // the path is what is looked at
	f.send.Next(d.now, &s)
	d.flows[i] = f
	d.put(d.now+d.delay/2, i, false, s)
}

func (d *dumbbell) send(i int) {
	f := d.flows[i]
	var s Segment
	// what the user writes is never more than a window ahead, so that memory stays small
	for f.send.State() >= Established && f.send.sendq.end.From(f.send.snd.nxt) < 256<<10 && (d.idle == nil || !d.idle(i, d.now)) {
		if f.send.Write(d.now, dumbZero[:64<<10]) == 0 {
			break
		}
	}
	for f.send.Next(d.now, &s) {
		if n := s.TextLen(); n > 0 {
			f.segments++
			f.text += int64(n)
		}
		d.cut(i, s)
	}
	for f.recv != nil && f.recv.Next(d.now, &s) {
		s.Text = nil
		d.put(d.now+d.delay/2, i, true, s)
	}
}

// cut sends s as the packets that a device makes of it.
func (d *dumbbell) cut(i int, s Segment) {
	text, size := s.TextLen(), s.TextLen()
	if s.Size > 0 {
		size = int(s.Size)
	}
	for ok := true; ok; ok = text > 0 {
		n := min(text, size)
		text -= n
		p := s
		p.Text = nil
		if n > 0 {
			p.Text = [][]byte{dumbZero[:n]}
		}
		d.transmit(i, p, n)
		s.Seq += Seq(n)
	}
}

func (d *dumbbell) transmit(i int, s Segment, n int) {
	wait := max(d.free-d.now, 0)
	if d.now >= d.measured && n > 0 {
		d.waited += wait
		d.packets++
		d.longest = max(d.longest, wait)
		if wait > 3*d.delay/2 {
			d.above++
		}
	}
	if int64(float64(wait)*float64(d.rate)/1e9) > int64(d.queue) {
		return
	}
	d.free = d.now + wait + time.Duration(float64(n+52)*1e9/float64(d.rate))
	if n > 0 && d.loss > 0 && d.r.Float64() < d.loss {
		return
	}
	d.put(d.free+d.delay/2, i, false, s)
}

func (d *dumbbell) put(at time.Duration, flow int, back bool, s Segment) {
	d.n++
	heap.Push(&d.ev, &dumbEvent{at, d.n, flow, back, s})
}

// jain is Jain's index of fairness: 1 where all are equal, 1/n where one has all.
func jain(x []float64) float64 {
	sum, squares := 0.0, 0.0
	for _, v := range x {
		sum += v
		squares += v * v
	}
	return sum * sum / (float64(len(x)) * squares)
}

// TestBBRGoodput: what BBR makes of a path of 100 Mbit/s, in Mbit/s and in queue.
func TestBBRGoodput(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of traffic")
	}
	for _, tc := range []struct {
		name  string
		rtt   time.Duration
		loss  float64
		queue float64 // in BDP
		tick  time.Duration
		least float64 // share of the link
	}{
		{"clean 10ms", 10 * ms, 0, 2, 0, 0.93},
		{"clean 50ms", 50 * ms, 0, 2, 0, 0.93},
		{"clean 50ms, ticks", 50 * ms, 0, 2, ms, 0.93},
		{"shallow 50ms", 50 * ms, 0, 0.1, 0, 0.85},
		{"0.1% 50ms", 50 * ms, 0.001, 1, 0, 0.93},
		{"1% 10ms", 10 * ms, 0.01, 1, 0, 0.9},
		{"1% 10ms, ticks", 10 * ms, 0.01, 1, ms, 0.9},
		{"1% 50ms", 50 * ms, 0.01, 1, 0, 0.9},
		{"1% 200ms", 200 * ms, 0.01, 1, 0, 0.9},
		{"3% 50ms", 50 * ms, 0.03, 1, 0, 0}, // beyond what BBR is to bear: only told
		{"3% 10ms", 10 * ms, 0.03, 1, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const rate = 12.5e6
			bdp := rate * tc.rtt.Seconds()
			d := &dumbbell{rate: rate, delay: tc.rtt, queue: int(tc.queue * bdp), loss: tc.loss, tick: tc.tick,
				make: NewBBR, start: []time.Duration{0}, measured: 5 * time.Second}
			d.run(5 * time.Second)
			before := d.flows[0].got
			d.run(25 * time.Second)
			share := float64(d.flows[0].got-before) / 20 / rate
			queue := d.waited.Seconds() / float64(d.packets) * rate / bdp
			f := d.flows[0].send
			t.Logf("%.3f of the link, %d sent again; the queue is %.2f BDP in the mean and %.2f at most",
				share, f.snd.again, queue, d.longest.Seconds()*rate/bdp)
			if share < tc.least {
				t.Errorf("%.3f of the link, want %.2f", share, tc.least)
			}
			if most := d.longest.Seconds() * rate / bdp; most > 1.5 {
				t.Errorf("the queue is up to %.2f BDP, want less than 1.5", most)
			}
		})
	}
}

// TestBBRQueue: in a buffer of five BDP, the queue stays below 1.5 BDP once Startup is over; between two flows for 99 packets
// in a hundred at least, as while one of them probes for the round-trip time, the other learns of a rate that is not its own.
func TestBBRQueue(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of traffic")
	}
	const rate, rtt = 6.25e6, 40 * ms
	for flows := 1; flows <= 2; flows++ {
		d := &dumbbell{rate: rate, delay: rtt, queue: int(5 * rate * rtt.Seconds()), make: NewBBR,
			start: make([]time.Duration, flows), measured: 5 * time.Second}
		d.run(150 * time.Second)
		mean, above := d.waited.Seconds()/float64(d.packets)/rtt.Seconds(), float64(d.above)/float64(d.packets)
		t.Logf("%d flows: the queue is %.2f BDP in the mean, %.2f at most, and above 1.5 for %.2g of the packets", flows, mean,
			d.longest.Seconds()/rtt.Seconds(), above)
		if mean > 1 || above > 0.01*float64(flows-1) {
			t.Errorf("%d flows: the queue is %.2f BDP in the mean, and above 1.5 for %.2g of the packets", flows, mean, above)
		}
	}
}

// TestFairness: two flows of one algorithm share a link evenly over 120 s, 30 s after the first began.
func TestFairness(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of traffic")
	}
	for _, name := range []string{"bbr", "cubic", "reno"} {
		for _, queue := range []float64{0.5, 1, 2} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				const rate, rtt = 2.5e6, 40 * ms
				algorithm, _ := CongestionNamed(name)
				d := &dumbbell{rate: rate, delay: rtt, queue: int(queue * rate * rtt.Seconds()), make: algorithm,
					start: []time.Duration{0, 3 * time.Second}}
				d.run(30 * time.Second)
				a, b := d.flows[0].got, d.flows[1].got
				d.run(150 * time.Second)
				share := []float64{float64(d.flows[0].got-a) / 120 / rate, float64(d.flows[1].got-b) / 120 / rate}
				t.Logf("a queue of %.1f BDP: %.3f and %.3f, Jain's index %.4f", queue, share[0], share[1], jain(share))
				if j := jain(share); j < 0.95 {
					t.Errorf("a queue of %.1f BDP: %.3f and %.3f, Jain's index %.3f, want 0.95", queue, share[0], share[1], j)
				}
			})
		}
	}
}

// TestBBRPausing: a user who pauses does not lose the rate that was found.
func TestBBRPausing(t *testing.T) {
	const rate = 12.5e6
	d := &dumbbell{rate: rate, delay: 20 * ms, queue: 1e6, make: NewBBR, start: []time.Duration{0}}
	d.idle = func(_ int, now time.Duration) bool { return now > 3*time.Second && now%time.Second > 300*ms }
	d.run(3 * time.Second)
	b := d.flows[0].send.cc.(*bbr)
	before := b.bw
	for d.now < 30*time.Second {
		d.run(d.now + 100*ms)
		if b.bw < before*9/10 {
			t.Fatalf("at %v the rate is %d, want about %d as before the pauses", d.now, b.bw, before)
		}
	}
	if l := d.flows[0].send.Info().Limit; l != LimitedByUser {
		t.Errorf("in a pause it is limited by %v, want the user", l)
	}
	d.run(30*time.Second + 200*ms)
	if r := d.flows[0].send.Info().DeliveryRate; r < before*9/10 {
		t.Errorf("%d octets a second are delivered, want about %d", r, before)
	}
}

// TestBBRSuperSegments: at 10 Gbit/s what is paced leaves in pieces of 32 KB and more.
func TestBBRSuperSegments(t *testing.T) {
	d := &dumbbell{rate: 1250e6, delay: 2 * ms, queue: 5e6, maxText: 65000, tick: ms, make: NewBBR, start: []time.Duration{0}}
	d.run(200 * ms)
	f := d.flows[0]
	got, segments, text := f.got, f.segments, f.text
	d.run(500 * ms)
	mean := float64(f.text-text) / float64(f.segments-segments)
	share := float64(f.got-got) / 0.3 / 1250e6
	t.Logf("%.0f octets a segment, %.3f of the link", mean, share)
	if mean < 32<<10 {
		t.Errorf("segments have %.0f octets in the mean, want 32 KB and more", mean)
	}
	if share < 0.9 {
		t.Errorf("%.3f of 10 Gbit/s, want 0.9", share)
	}
}
