package sim

import (
	"fmt"
	"math/bits"
	"sort"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// Result is what a run came to.
type Result struct {
	Config   Config       // as it was run, with defaults filled in
	Flows    []FlowResult // in Config's order
	Forward  PathResult
	Back     PathResult
	Samples  []PathSample // every Config.Every
	Segments int64        // that arrived, of all flows, both ways
}

// FlowResult is what became of one flow. Packets are those with text.
type FlowResult struct {
	Name            string        // Flow.Name, or the algorithm's
	Algorithm       string        // tcp.Congestion's name
	Octets          int64         // that the receiver's user has read
	Goodput         float64       // Octets a second, from Start until Done or the end of the run
	Packets         int64         // that were sent
	Retransmits     int64         // of them, those with octets that were sent before
	Retransmitted   int64         // octets sent again
	Spurious        int64         // octets that the path delivered again after it had delivered them
	SpuriousPackets int64         // packets with such octets
	Lost            int64         // packets that the path lost or dropped, acknowledgements included
	Marked          int64         // packets that the path marked with CE
	Timeouts        int64         // of the retransmission timer
	Probes          int64         // tail loss probes with text
	Delay           Delays        // of the text's packets in the queue
	Done            time.Duration // when the last octet was read of a flow that has closed; 0: it was not
	Err             tcp.Reason    // why the sender's connection ended, if it did
	Info            tcp.Info      // of the sender, at the end
	Samples         []Sample      // every Config.Every from Start on
}

// Needed is how many octets were sent again, and not for nothing.
func (f *FlowResult) Needed() int64 { return max(f.Retransmitted-f.Spurious, 0) }

// Delays is how long packets waited. P95 is exact to 3 %.
type Delays struct{ Mean, P95, Max time.Duration }

// Sample is a flow at an instant.
type Sample struct {
	At       time.Duration
	Cwnd     int // octets, as InFlight
	Ssthresh int // 0: none
	InFlight int // sent and not acknowledged
	SRTT     time.Duration
	Octets   int64 // that the receiver's user has read so far
}

// PathSample is the queues at an instant, in octets.
type PathSample struct {
	At            time.Duration
	Forward, Back int
}

// sample notes how everything is.
func (w *world) sample() {
	w.result.Samples = append(w.result.Samples, PathSample{w.now, w.links[0].waiting, w.links[1].waiting})
	for k := range w.flows {
		f := &w.flows[k]
		if f.ends[0].TCB == nil {
			continue
		}
		i := f.ends[0].Info()
		f.result.Samples = append(f.result.Samples, Sample{w.now, i.Cwnd, i.Ssthresh, i.InFlight, i.SRTT, f.read})
	}
}

// finish makes the result.
func (w *world) finish() *Result {
	r := w.result
	for i, p := range [...]*PathResult{&r.Forward, &r.Back} {
		l := &w.links[i]
		l.account()
		*p = l.result
		p.Delay = l.delays.delays()
	}
	for i := range w.flows {
		r.Flows[i] = w.flows[i].finish()
	}
	return r
}

func (f *flow) finish() FlowResult {
	r := f.result
	r.Octets, r.Delay, r.Name = f.read, f.delays.delays(), f.Name
	make := f.TCP.Congestion
	if make == nil {
		make = tcp.NewCubic
	}
	r.Algorithm = make(f.TCP.MTU).Name()
	if r.Name == "" {
		r.Name = r.Algorithm
	}
	end := f.w.c.Duration
	if r.Done != 0 {
		end = r.Done
	}
	if end > f.Start {
		r.Goodput = float64(r.Octets) / (end - f.Start).Seconds()
	}
	if t := f.ends[0].TCB; t != nil {
		r.Info, r.Err = t.Info(), t.Err()
	}
	return r
}

// String is a line for each flow, under a heading.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-10s %9s %9s %9s %9s %5s %26s\n", "flow", "Mbit/s", "sent", "again", "spurious", "RTO", "queue mean/p95/max, ms")
	for i := range r.Flows {
		f := &r.Flows[i]
		fmt.Fprintf(&b, "%-10s %9.2f %9d %9d %9d %5d %12.1f/%.1f/%.1f\n", f.Name, f.Goodput*8/1e6, f.Packets, f.Retransmits,
			f.SpuriousPackets, f.Timeouts, milliseconds(f.Delay.Mean), milliseconds(f.Delay.P95), milliseconds(f.Delay.Max))
	}
	return b.String()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Jain is how evenly the flows shared what was delivered in [from, to): 1 where all got the same, 1/n where one of n
// got everything (Jain's fairness index). A flow that starts after that time does not count. What was delivered is known
// at the samples, and between two of them taken for even.
func (r *Result) Jain(from, to time.Duration) float64 {
	var sum, squares, n float64
	for i := range r.Flows {
		if r.Config.Flows[i].Start >= to {
			continue
		}
		x := r.Flows[i].delivered(to) - r.Flows[i].delivered(from)
		sum += x
		squares += x * x
		n++
	}
	if squares == 0 {
		return 1 // nobody got more than another
	}
	return sum * sum / (n * squares)
}

// delivered is how many octets the receiver has read at an instant.
func (f *FlowResult) delivered(at time.Duration) float64 {
	i := sort.Search(len(f.Samples), func(i int) bool { return f.Samples[i].At >= at })
	switch {
	case i == len(f.Samples):
		return float64(f.Octets)
	case i == 0 && f.Samples[0].At > at:
		return 0
	case f.Samples[i].At == at:
		return float64(f.Samples[i].Octets)
	}
	a, b := &f.Samples[i-1], &f.Samples[i]
	return float64(a.Octets) + float64(b.Octets-a.Octets)*float64(at-a.At)/float64(b.At-a.At)
}

// fineness is how many bits of a delay a histogram keeps: 32 steps in each power of two, so 3 %.
const fineness = 5

// histogram counts delays by their size.
type histogram struct {
	counts   []uint32
	n        int64
	sum, max time.Duration
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	shift := max(bits.Len64(uint64(d))-fineness-1, 0)
	i := shift<<fineness + int(d>>shift)
	for i >= len(h.counts) {
		h.counts = append(h.counts, 0)
	}
	h.counts[i]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// delays summarises.
func (h *histogram) delays() Delays {
	if h.n == 0 {
		return Delays{}
	}
	d := Delays{Mean: h.sum / time.Duration(h.n), Max: h.max}
	seen, want := int64(0), (h.n*95+99)/100
	for i, c := range h.counts {
		if seen += int64(c); seen >= want {
			d.P95 = min(value(i), h.max)
			break
		}
	}
	return d
}

// value is the largest delay that is counted at i.
func value(i int) time.Duration {
	shift := max(i>>fineness-1, 0)
	return (time.Duration(i-shift<<fineness)+1)<<shift - 1
}
