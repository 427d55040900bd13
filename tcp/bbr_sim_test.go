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
	late    time.Duration // and come later by up to so much
	make    func(mss int) Congestion
	start   []time.Duration // of each flow
	idle    func(flow int, now time.Duration) bool

	r     *rand.Rand
	now   time.Duration
	flows []*dumbFlow
	ev    dumbHeap
	n     int
	free  time.Duration // when the link has sent all that waits

	waited   time.Duration // the sum of queueing delays,
	packets  int           // of so many packets
	longest  time.Duration
	measured time.Duration // they are counted from here on
	onStep   func(d *dumbbell)
}

type dumbFlow struct {
	send, recv *TCB
	got        int64
	config     *Config
	largest    int // octets of the largest segment of text
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
		d.flows = make([]*dumbFlow, len(d.start))
	}
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
		} else if e.back {
			f.send.Arrive(d.now, &e.s)
		} else {
			f.recv.Arrive(d.now, &e.s)
			f.got += int64(f.recv.Read(d.now, dumbZero))
		}
	}
	for i, f := range d.flows {
		if f != nil {
			d.flush(i)
		}
	}
	if d.onStep != nil {
		d.onStep(d)
	}
}

var dumbZero = make([]byte, 1<<20)

func (d *dumbbell) open(i int) {
	c := &Config{MTU: 1480, MaxText: d.maxText, ReadBuffer: 64 << 20, WriteBuffer: 64 << 20, Congestion: d.make, Memory: new(chunks)}
	f := &dumbFlow{config: c}
	var s Segment
	f.send = Open(d.now, Seq(1000*i), c)
	f.send.Next(d.now, &s)
	d.flows[i] = f
	d.put(d.now+d.delay/2, i, false, s)
}

func (d *dumbbell) flush(i int) {
	f := d.flows[i]
	var s Segment
	// what the user writes is never more than a window ahead, so that memory stays small
	for f.send.State() >= Established && f.send.sendq.end.From(f.send.snd.nxt) < 256<<10 && (d.idle == nil || !d.idle(i, d.now)) {
		if f.send.Write(d.now, dumbZero[:64<<10]) == 0 {
			break
		}
	}
	for f.send.Next(d.now, &s) {
		f.largest = max(f.largest, s.TextLen())
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
		{"3% 50ms", 50 * ms, 0.03, 1, 0, 0},
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
			t.Logf("%.3f of the link, %d sent again; the queue is %.2f BDP in the mean and %.2f at most; in %s: bw %d",
				share, f.again, queue, d.longest.Seconds()*rate/bdp, f.cc.State(), f.cc.(*bbr).bw)
			if share < tc.least {
				t.Errorf("%.3f of the link, want %.2f", share, tc.least)
			}
			if queue > 1.5 {
				t.Errorf("the queue is %.2f BDP in the mean, want less than 1.5", queue)
			}
		})
	}
}
