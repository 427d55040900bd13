package tcp_test

import (
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/tcp/tcptest/sim"
)

// markingPath is 20 Mbit/s over 40 ms with a queue of two BDP, which marks from 20 packets on.
var markingPath = sim.Path{Rate: 2_500_000, Delay: 20 * time.Millisecond, Queue: 200_000, Mark: 30_000}

// TestC115ECNKeepsTheQueueShort: behind a queue that marks, nothing is lost once slow start is over, and the queue stays where
// the marks begin, while the path stays full.
func TestC115ECNKeepsTheQueueShort(t *testing.T) {
	for _, cc := range []struct {
		name string
		make func(mss int) tcp.Congestion
	}{{"reno", tcp.NewReno}, {"cubic", tcp.NewCubic}} {
		t.Run(cc.name, func(t *testing.T) {
			c := tcp.Config{Congestion: cc.make, ECN: tcp.ECNActive}
			r := sim.Run(sim.Config{Seed: 1, Duration: 30 * time.Second, Forward: markingPath, Flows: []sim.Flow{{TCP: c}, {TCP: c}}})
			if r.Forward.Dropped+r.Forward.Lost > 0 || r.Forward.Marked == 0 {
				t.Errorf("%d packets dropped, %d marked; want none, and some", r.Forward.Dropped, r.Forward.Marked)
			}
			if limit := 2 * 30_000 * time.Second / 2_500_000; r.Forward.Delay.P95 > limit {
				t.Errorf("95 %% of the packets waited for up to %v, want %v at most", r.Forward.Delay.P95, limit)
			}
			sum := 0.0
			for i := range r.Flows {
				f := &r.Flows[i]
				sum += f.Goodput
				if f.Retransmits > 0 || !f.Info.ECN {
					t.Errorf("flow %d: %d sent again, ECN %v; want none, and agreed on", i, f.Retransmits, f.Info.ECN)
				}
			}
			if sum < 0.93*2_500_000 {
				t.Errorf("%.0f octets a second, want 93 %% of the path", sum)
			}
			t.Logf("marked %d of %d, P95 of the delay %v, %.1f %% of the path\n%v", r.Forward.Marked, r.Forward.Packets, r.Forward.Delay.P95, sum/25_000, r)
		})
	}
}

// TestC115ECNOffIsMarkedNever: where ECN is not agreed on, or the algorithm does not know what a mark means, nothing that is
// sent may be marked, and the queue drops.
func TestC115ECNOffIsMarkedNever(t *testing.T) {
	for name, c := range map[string]tcp.Config{
		"nobody asks": {}, "off": {ECN: tcp.ECNOff}, "bbr": {ECN: tcp.ECNActive, Congestion: tcp.NewBBR},
	} {
		r := sim.Run(sim.Config{Seed: 1, Duration: 5 * time.Second, Forward: markingPath, Flows: []sim.Flow{{TCP: c}}})
		if r.Forward.Marked > 0 {
			t.Errorf("%s: %d packets were marked", name, r.Forward.Marked)
		}
	}
}
