package sim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// Two flows share a link of 10 Mbit/s; the second comes five seconds later.
func ExampleRun() {
	r := Run(Config{
		Duration: 60 * time.Second,
		Forward:  Path{Rate: 1_250_000, Delay: 20 * time.Millisecond, Queue: 50_000},
		Flows: []Flow{
			{Name: "first", TCP: tcp.Config{Congestion: tcp.NewReno}},
			{Name: "second", TCP: tcp.Config{Congestion: tcp.NewReno}, Start: 5 * time.Second},
		},
	})
	both := r.Flows[0].Goodput*55/60 + r.Flows[1].Goodput*55/60
	fmt.Printf("the link is full: %t\n", both > 0.9*1_250_000*55/60)
	fmt.Printf("they share it: %t\n", r.Jain(20*time.Second, 60*time.Second) > 0.9)
	// Output:
	// the link is full: true
	// they share it: true
}

const ms = time.Millisecond

func TestZeroConfigFillsTheDefaultPath(t *testing.T) {
	r := Run(Config{})
	if len(r.Flows) != 1 || r.Flows[0].Algorithm != "cubic" {
		t.Fatalf("%+v", r.Flows)
	}
	if g := r.Flows[0].Goodput; g < 0.9*12_500_000 || g > 12_500_000 {
		t.Errorf("goodput %v octets a second, want just under 12.5 million", g)
	}
	if r.Config.Forward.Queue != 250_000 || len(r.Samples) != 500 || len(r.Flows[0].Samples) != 500 {
		t.Errorf("queue %d, %d and %d samples", r.Config.Forward.Queue, len(r.Samples), len(r.Flows[0].Samples))
	}
}

// TestSameSeedSameRun: everything that a run reports follows from its Config.
func TestSameSeedSameRun(t *testing.T) {
	c := Config{Seed: 7, Duration: 5 * time.Second, Forward: Path{Rate: 1e6, Delay: 10 * ms, Loss: 0.01, Reorder: 0.05, Hold: 9 * ms,
		Jitter: 3 * ms, Burst: Gilbert{Begin: 0.001, End: 0.2}}, Back: Path{Loss: 0.1}, Flows: make([]Flow, 3)}
	a, b := Run(c), Run(c)
	if fmt.Sprint(a) != fmt.Sprint(b) || fmt.Sprint(a.Flows[1].Samples) != fmt.Sprint(b.Flows[1].Samples) {
		t.Errorf("two runs of one seed differ:\n%v\n%v", a, b)
	}
	c.Seed++
	if d := Run(c); fmt.Sprint(a) == fmt.Sprint(d) {
		t.Errorf("two seeds give the same:\n%v", a)
	}
}

// one runs a single flow of n octets, or for ten seconds, over p.
func one(t *testing.T, p, back Path, f Flow) *Result {
	t.Helper()
	r := Run(Config{Seed: 1, Forward: p, Back: back, Flows: []Flow{f}})
	x := &r.Flows[0]
	if x.Octets == 0 || x.Err != tcp.None {
		t.Fatalf("the flow delivers %d octets and ends by %v", x.Octets, x.Err)
	}
	if f.Octets > 0 && (x.Octets != f.Octets || x.Done == 0) {
		t.Fatalf("%d octets of %d arrived, done at %v", x.Octets, f.Octets, x.Done)
	}
	return r
}

// TestPath holds the model against what its fields say.
func TestPath(t *testing.T) {
	const rate = 1_250_000
	long := Path{Rate: rate, Delay: 10 * ms}
	for _, c := range []struct {
		name  string
		path  func(p *Path)
		back  Path
		flow  Flow
		check func(r *Result) (got, low, high float64)
	}{
		{name: "an empty queue delays nobody", path: func(p *Path) { p.Rate = 0 }, flow: Flow{Octets: 100_000},
			check: func(r *Result) (float64, float64, float64) { return float64(r.Forward.Delay.Max), 0, 0 }},
		{name: "a queue of 125 kB delays by 100 ms", path: func(p *Path) { p.Queue = 125_000 },
			check: func(r *Result) (float64, float64, float64) { return milliseconds(r.Flows[0].Delay.Max), 95, 100 }},
		{name: "SRTT is the delay and the queue", path: func(p *Path) { p.Rate = 0 }, flow: Flow{Octets: 1e6},
			check: func(r *Result) (float64, float64, float64) { return milliseconds(r.Flows[0].Info.SRTT), 20, 21 }},
		{name: "a flow's own delay counts twice", path: func(p *Path) { p.Rate = 0 }, flow: Flow{Octets: 1e6, Delay: 15 * ms},
			check: func(r *Result) (float64, float64, float64) { return milliseconds(r.Flows[0].Info.SRTT), 50, 51 }},
		{name: "acknowledgements that are lost cost little", path: func(p *Path) {}, back: Path{Loss: 0.3},
			check: func(r *Result) (float64, float64, float64) { return r.Flows[0].Goodput, 0.85 * rate, rate }},
		{name: "jitter keeps the order", path: func(p *Path) { p.Jitter = 5 * ms; p.Queue = 1e6 }, flow: Flow{Octets: 500_000},
			check: func(r *Result) (float64, float64, float64) { return float64(r.Flows[0].Retransmits), 0, 0 }},
		{name: "reordering costs what arrives twice", path: func(p *Path) { p.Reorder, p.Hold = 0.02, 40*ms },
			check: func(r *Result) (float64, float64, float64) { return float64(r.Flows[0].SpuriousPackets), 1, 1000 }},
		{name: "a changed rate", path: func(p *Path) { p.Changes = []Change{{At: 5 * time.Second, Rate: rate / 10}} },
			check: func(r *Result) (float64, float64, float64) { return r.Flows[0].Goodput, 0.45 * rate, 0.56 * rate }},
		{name: "a black-out", path: func(p *Path) { p.Outages = []Outage{{4 * time.Second, 6 * time.Second}} },
			check: func(r *Result) (float64, float64, float64) { return r.Flows[0].Goodput, 0.6 * rate, 0.8 * rate }},
		{name: "messages wait for the last one", path: func(p *Path) { p.Delay = 50 * ms }, flow: Flow{Message: 1000},
			check: func(r *Result) (float64, float64, float64) { return float64(r.Flows[0].Octets), 150_000, 200_000 }},
		{name: "a tail lost is probed for", path: func(p *Path) {}, flow: Flow{Message: 10_000, TailLoss: 0.5},
			check: func(r *Result) (float64, float64, float64) { return float64(r.Flows[0].Probes), 20, 1000 }},
		{name: "a user with a rate", path: func(p *Path) {}, flow: Flow{Rate: 100_000},
			check: func(r *Result) (float64, float64, float64) { return r.Flows[0].Goodput, 99_000, 101_000 }},
		{name: "a flow that stops", path: func(p *Path) {}, flow: Flow{Stop: 5 * time.Second},
			check: func(r *Result) (float64, float64, float64) {
				return float64(r.Flows[0].Octets), 0.45 * 10 * rate, 0.55 * 10 * rate
			}},
		{name: "super-segments make the same packets", path: func(p *Path) {}, flow: Flow{TCP: tcp.Config{MaxText: 64_000}, Octets: 144_800},
			check: func(r *Result) (float64, float64, float64) {
				return float64(r.Flows[0].Packets - r.Flows[0].Retransmits), 100, 100
			}},
		{name: "joined packets are acknowledged together", path: func(p *Path) { p.Slot = 10 * ms },
			flow:  Flow{TCP: tcp.Config{MaxText: 64_000}, Coalesce: true},
			check: func(r *Result) (float64, float64, float64) { return float64(r.Back.Packets), 900, 1300 }},
		{name: "the other way", path: func(p *Path) { p.Rate = rate / 10 }, back: Path{Rate: rate}, flow: Flow{Reverse: true},
			check: func(r *Result) (float64, float64, float64) { return r.Flows[0].Goodput, 0.85 * rate, rate }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := long
			c.path(&p)
			r := one(t, p, c.back, c.flow)
			if got, low, high := c.check(r); got < low || got > high {
				t.Errorf("%v, want %v to %v\n%v\n%+v", got, low, high, r, r.Forward)
			}
		})
	}
}

// TestLoss counts what is lost of packets that no connection sends.
func TestLoss(t *testing.T) {
	const n = 200_000
	for _, c := range []struct {
		name string
		path Path
		want float64 // the share that is lost
		runs float64 // packets lost one behind another, on average
	}{
		{"none", Path{}, 0, 0},
		{"random", Path{Loss: 0.1}, 0.1, 1 / 0.9},
		{"bursts", Path{Burst: Gilbert{Begin: 0.01, End: 0.25}}, 0.01 / 0.26, 4 / 0.99},
		{"bursts that lose half", Path{Burst: Gilbert{Begin: 0.01, End: 0.25, Loss: 0.5}}, 0.01 / 0.26 / 2, 1.6},
	} {
		c.path.Delay = ms
		w := newWorld(&Config{Seed: 3, Forward: c.path})
		l := &w.links[0]
		runs, before := 0, false
		for range n {
			lost := l.result.Lost
			i := w.alloc()
			w.pool[i] = packet{size: 800, to: &w.flows[0].ends[1]}
			l.put(i)
			now := l.result.Lost > lost
			if now && !before {
				runs++
			}
			before = now
		}
		got, length := float64(l.result.Lost)/n, float64(l.result.Lost)/float64(max(runs, 1))
		if math.Abs(got-c.want) > 0.06*c.want || math.Abs(length-c.runs) > 0.06*c.runs {
			t.Errorf("%s: %v of the packets are lost, %v in a row; want %v and %v", c.name, got, length, c.want, c.runs)
		}
	}
}

// TestMark: what is marked is not dropped, and only where the transport is capable (RFC 3168 §5).
func TestMark(t *testing.T) {
	for ecn, want := range []uint8{0, 3, 3, 3} {
		w := newWorld(&Config{Forward: Path{Rate: 1000, Queue: 10_000, Mark: 1000}})
		l := &w.links[0]
		for range 3 {
			i := w.alloc()
			w.pool[i] = packet{s: tcp.Segment{ECN: uint8(ecn)}, size: 800, to: &w.flows[0].ends[1]}
			l.put(i)
		}
		if got := w.pool[2].s.ECN; got != want {
			t.Errorf("ECN %02b leaves as %02b, want %02b", ecn, got, want)
		}
		if got := w.pool[1].s.ECN; int(got) != ecn {
			t.Errorf("ECN %02b leaves as %02b in front of the threshold", ecn, got)
		}
	}
}

// TestSpans compares with a set of octets.
func TestSpans(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var s spans
	var set [3000]bool
	for range 4000 {
		from := r.Int64N(2900)
		to := from + r.Int64N(60)
		want := int64(0)
		for i := from; i < to; i++ {
			if set[i] {
				want++
			}
			set[i] = true
		}
		if got := s.add(from, to); got != want {
			t.Fatalf("[%d, %d): %d were there, want %d", from, to, got, want)
		}
	}
	for i := range set {
		in := int64(i) < s.edge || slices.ContainsFunc(s.ahead, func(a span) bool { return a.from <= int64(i) && int64(i) < a.to })
		if in != set[i] {
			t.Fatalf("octet %d is in: %t", i, in)
		}
	}
}

// TestQueueOrder: events come by time, and those of one instant in the order in which they were pushed.
func TestQueueOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q queue
	at := make([]time.Duration, 0, 3000)
	for i := range int32(3000) {
		at = append(at, time.Duration(r.IntN(500)))
		q.push(at[i], event{i: i})
	}
	for last := int32(-1); q.next() != never; {
		now := q.next()
		e := q.pop()
		if at[e.i] != now || last >= 0 && (at[last] > now || at[last] == now && last > e.i) {
			t.Fatalf("event %d of %v comes at %v behind %d of %v", e.i, at[e.i], now, last, at[max(last, 0)])
		}
		last = e.i
	}
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i) * ms)
	}
	d := h.delays()
	if d.Max != 999*ms || d.Mean != 499500*time.Microsecond || math.Abs(milliseconds(d.P95)-950) > 30 {
		t.Errorf("%+v", d)
	}
	for v := range 5000 {
		h = histogram{}
		h.add(time.Duration(v))
		h.max = never
		if got := h.delays().P95; got < time.Duration(v) || float64(got) > float64(v)*33/32 {
			t.Fatalf("%d is told as %d", v, got)
		}
	}
}

func TestJain(t *testing.T) {
	r := &Result{Config: Config{Flows: make([]Flow, 2)}, Flows: []FlowResult{
		{Octets: 300, Samples: []Sample{{At: 0}, {At: 10, Octets: 100}, {At: 20, Octets: 200}}},
		{Octets: 100, Samples: []Sample{{At: 0}, {At: 10, Octets: 100}, {At: 20, Octets: 100}}},
	}}
	for _, c := range []struct {
		from, to time.Duration
		want     float64
	}{{0, 10, 1}, {10, 20, 0.5}, {0, 20, 0.9}, {5, 15, 0.9}, {0, 30, 0.8}, {40, 50, 1}} {
		if got := r.Jain(c.from, c.to); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("from %d to %d: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

// broken is a writer that fails.
type broken struct{}

var errBroken = errors.New("broken")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestSVG(t *testing.T) {
	r := Run(Config{Duration: 3 * time.Second, Flows: []Flow{{Name: `<a & "b">`}, {Start: time.Second}}})
	var b bytes.Buffer
	if err := r.SVG(&b); err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(&b)
	lines, texts := 0, ""
	for {
		k, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch k := k.(type) {
		case xml.StartElement:
			if k.Name.Local == "polyline" {
				lines++
			}
		case xml.CharData:
			texts += string(k)
		}
	}
	if lines != 2*4+1 {
		t.Errorf("%d curves, want window, flight, time and rate of two flows, and the queue", lines)
	}
	if !bytes.Contains([]byte(texts), []byte(`<a & "b">`)) {
		t.Errorf("the legend lacks the flow's name: %s", texts)
	}
	if err := r.SVG(broken{}); !errors.Is(err, errBroken) {
		t.Errorf("a writer that fails: %v", err)
	}
	if err := new(Result).SVG(io.Discard); err != nil {
		t.Errorf("nothing to draw: %v", err)
	}
}

// BenchmarkRun says how many segments a second are simulated, acknowledgements included.
func BenchmarkRun(b *testing.B) {
	for _, c := range []struct {
		name string
		c    Config
	}{
		{"clean", Config{Forward: Path{Rate: 125e6, Delay: 10 * ms}, Flows: []Flow{{TCP: tcp.Config{ReadBuffer: 16 << 20, WriteBuffer: 16 << 20}}}}},
		{"loss", Config{Forward: Path{Rate: 125e6, Delay: 5 * ms, Loss: 0.0001}, Duration: 30 * time.Second}},
		{"100 flows", Config{Forward: Path{Rate: 125e6, Delay: 10 * ms}, Flows: make([]Flow, 100)}},
	} {
		b.Run(c.name, func(b *testing.B) {
			n := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				n += Run(c.c).Segments
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "segments/s")
			b.ReportMetric(float64(n)/float64(b.N), "segments/op")
		})
	}
}
