//go:build !race

// One goroutine and minutes of traffic: the race detector would find nothing, and take ten times as long.

package tcp_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/tcp/tcptest/sim"
)

var update = flag.Bool("update", false, "write testdata anew")

const ms = time.Millisecond

// algorithms are what the paths are tried with.
var algorithms = []struct {
	name string
	make func(mss int) tcp.Congestion
}{{"reno", tcp.NewReno}, {"cubic", tcp.NewCubic}, {"bbr", tcp.NewBBR}}

// A simulation is a row of the golden table, for each algorithm.
type simulation struct {
	name          string
	forward, back sim.Path
	flow          sim.Flow
	d             time.Duration
}

// netsimPath is a path of some Mbit/s with a queue of some octets and a delay there and back.
func netsimPath(mbit float64, rtt time.Duration, queue int, harm sim.Path) sim.Path {
	harm.Rate, harm.Delay, harm.Queue = int64(mbit*1e6/8), rtt/2, queue
	return harm
}

// simulations are the rows. Where a path loses at random, a run is long enough for some hundreds of losses.
var simulations = []simulation{
	{name: "clean 100M 20ms", forward: netsimPath(100, 20*ms, 250e3, sim.Path{}), d: 10 * time.Second},
	{name: "shallow queue 100M 50ms", forward: netsimPath(100, 50*ms, 60e3, sim.Path{}), d: 30 * time.Second},
	{name: "loss 0.1% 100M 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{Loss: 0.001}), d: 60 * time.Second},
	{name: "loss 1% 100M 10ms", forward: netsimPath(100, 10*ms, 125e3, sim.Path{Loss: 0.01}), d: 30 * time.Second},
	{name: "loss 1% 100M 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{Loss: 0.01}), d: 60 * time.Second},
	{name: "loss 3% 100M 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{Loss: 0.03}), d: 60 * time.Second},
	{name: "loss 5% 100M 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{Loss: 0.05}), d: 60 * time.Second},
	{name: "reorder 10% 100M 20ms", forward: netsimPath(100, 20*ms, 250e3, sim.Path{Reorder: 0.1, Hold: 5 * ms}), d: 10 * time.Second},
	{name: "reorder 5% by 2.4ms", forward: netsimPath(100, 20*ms, 250e3, sim.Path{Reorder: 0.05, Hold: 2400 * time.Microsecond}), d: 10 * time.Second},
	{name: "reorder 5% by 2.4ms, 200ms", forward: netsimPath(100, 200*ms, 2500e3, sim.Path{Reorder: 0.05, Hold: 2400 * time.Microsecond}),
		flow: sim.Flow{TCP: tcp.Config{ReadBuffer: 16 << 20, WriteBuffer: 16 << 20}}, d: 60 * time.Second},
	{name: "jitter 10ms 100M 20ms", forward: netsimPath(100, 20*ms, 250e3, sim.Path{Jitter: 10 * ms}), d: 10 * time.Second},
	{name: "bursts 100M 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{Burst: sim.Gilbert{Begin: 0.0005, End: 0.1, Loss: 0.5}}), d: 60 * time.Second},
	{name: "tail loss 30%, 20 kB, 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{}), flow: sim.Flow{Message: 20000, TailLoss: 0.3}, d: 60 * time.Second},
	{name: "loss of ACKs 20% 100M 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{}), back: sim.Path{Loss: 0.2}, d: 15 * time.Second},
	{name: "ACKs in 10ms slots 50ms", forward: netsimPath(100, 50*ms, 625e3, sim.Path{}), back: sim.Path{Slot: 10 * ms}, d: 15 * time.Second},
	{name: "super-segments, joined", forward: netsimPath(1000, 10*ms, 1250e3, sim.Path{Slot: 100 * time.Microsecond}),
		flow: sim.Flow{TCP: tcp.Config{MaxText: 64000}, Coalesce: true}, d: 5 * time.Second},
	{name: "bufferbloat 10M 20ms 1MB", forward: netsimPath(10, 20*ms, 1e6, sim.Path{}), d: 15 * time.Second},
	{name: "long fat 500M 100ms", forward: netsimPath(500, 100*ms, 3e6, sim.Path{Loss: 0.00002}), d: 20 * time.Second},
	{name: "100M, 10M from 5s to 10s", forward: netsimPath(100, 20*ms, 250e3, sim.Path{Changes: []sim.Change{
		{At: 5 * time.Second, Rate: 1250e3}, {At: 10 * time.Second, Rate: 12500e3}}}), d: 15 * time.Second},
	{name: "a route 5 times as long", forward: netsimPath(100, 20*ms, 250e3, sim.Path{Changes: []sim.Change{
		{At: 5 * time.Second, Delay: 90 * ms}, {At: 10 * time.Second, Delay: 10 * ms}}}), d: 15 * time.Second},
	{name: "black-out of 2s", forward: netsimPath(100, 20*ms, 250e3, sim.Path{Outages: []sim.Outage{
		{From: 5 * time.Second, To: 7 * time.Second}}}), d: 15 * time.Second},
}

// TestNetsim holds what each algorithm makes of each path: a change of behaviour shows in the table. Where it is a change
// that was wanted, -update writes the table anew.
func TestNetsim(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of traffic")
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%-28s %-6s %9s %7s %7s %8s %4s %9s\n", "path", "", "Mbit/s", "lost", "again", "spurious", "RTO", "queue, ms")
	for _, x := range simulations {
		for _, cc := range algorithms {
			f := x.flow
			f.TCP.Congestion, f.TCP.ReadBuffer, f.TCP.WriteBuffer = cc.make, 16<<20, 16<<20
			r := sim.Run(sim.Config{Seed: 1, Duration: x.d, Forward: x.forward, Back: x.back, Flows: []sim.Flow{f}})
			y := &r.Flows[0]
			fmt.Fprintf(&b, "%-28s %-6s %9.2f %7d %7d %8d %4d %9.2f\n", x.name, cc.name, y.Goodput*8/1e6,
				r.Forward.Lost+r.Forward.Dropped, y.Retransmits, y.SpuriousPackets, y.Timeouts, float64(y.Delay.P95)/float64(ms))
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

// TestFairness: two flows of one algorithm and one round-trip time share a bottleneck, over two minutes behind a start of
// half of one, also where one of them was there first. The acknowledgements jitter a little, since on a path as regular as
// clockwork the queue's tail may drop the same flow's packets again and again; and of three seeds the middle one counts.
func TestFairness(t *testing.T) {
	if testing.Short() {
		t.Skip("minutes of traffic")
	}
	for _, cc := range algorithms {
		for _, p := range []struct {
			name  string
			path  sim.Path
			start time.Duration
		}{
			{"20M 20ms, together", netsimPath(20, 20*ms, 50e3, sim.Path{}), 0},
			{"20M 50ms, 10s apart", netsimPath(20, 50*ms, 125e3, sim.Path{}), 10 * time.Second},
			{"20M 100ms, 10s apart", netsimPath(20, 100*ms, 250e3, sim.Path{}), 10 * time.Second},
			{"20M 50ms, half a BDP, 5s apart", netsimPath(20, 50*ms, 62e3, sim.Path{}), 5 * time.Second},
			{"20M 50ms, two BDP, 5s apart", netsimPath(20, 50*ms, 250e3, sim.Path{}), 5 * time.Second},
		} {
			t.Run(cc.name+", "+p.name, func(t *testing.T) {
				t.Parallel()
				c := tcp.Config{Congestion: cc.make, ReadBuffer: 16 << 20, WriteBuffer: 16 << 20}
				var all [3]float64
				for seed := range all {
					r := sim.Run(sim.Config{Seed: uint64(seed), Duration: p.start + 150*time.Second, Forward: p.path,
						Back: sim.Path{Jitter: ms}, Flows: []sim.Flow{{TCP: c}, {TCP: c, Start: p.start}}})
					all[seed] = r.Jain(p.start+30*time.Second, p.start+150*time.Second)
					if sum := r.Flows[0].Goodput + r.Flows[1].Goodput; sum < 0.85*float64(p.path.Rate) {
						t.Errorf("they leave the path empty:\n%v", r)
					}
				}
				slices.Sort(all[:])
				t.Logf("Jain %.3f", all)
				if all[1] < 0.95 {
					t.Errorf("Jain's index is %.3f, want 0.95 in the middle", all)
				}
			})
		}
	}
}
