//go:build !race

package tcp_test

import (
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/tcp/tcptest/sim"
)

// These are faults of the path that take minutes to show, and moments to simulate.

// sampleAt is the flow's sample of an instant.
func sampleAt(f *sim.FlowResult, t time.Duration) (s sim.Sample) {
	for _, s = range f.Samples {
		if s.At >= t {
			break
		}
	}
	return s
}

// TestA66DelayJumps: the delay becomes 2 s in one direction or in both, and 10 ms again. Until the first acknowledgement
// comes the timer backs off, and each time one packet is sent for nothing; then the timeouts prove spurious (RFC 5682,
// RFC 3522), and the window is what it was. When the delay falls, what is on its way is overtaken: no timer expires, no more
// than what was in flight is sent for nothing, and the path is full again.
func TestA66DelayJumps(t *testing.T) {
	const up, down, end = 10 * time.Second, 30 * time.Second, 50 * time.Second
	const backoffs = 4 // of 200 ms, doubled each time: the fifth expires after 6.2 s, and the longest round trip is 4 s
	jumps := []sim.Change{{At: up, Delay: 2 * time.Second}, {At: down, Delay: 10 * ms}}
	for _, cc := range algorithms {
		for _, x := range []struct {
			name          string
			forward, back []sim.Change
		}{{"there", jumps, nil}, {"back", nil, jumps}, {"there and back", jumps, jumps}} {
			t.Run(cc.name+", "+x.name, func(t *testing.T) {
				until := func(d time.Duration) *sim.FlowResult { // a run is the beginning of a longer one
					r := sim.Run(sim.Config{Seed: 1, Duration: d, Every: 100 * ms, Forward: netsimPath(10, 20*ms, 50e3, sim.Path{Changes: x.forward}),
						Back:  sim.Path{Delay: 10 * ms, Changes: x.back},
						Flows: []sim.Flow{{TCP: tcp.Config{Congestion: cc.make, ReadBuffer: 16 << 20, WriteBuffer: 16 << 20}}}})
					return &r.Flows[0]
				}
				short, long, all := until(up), until(down), until(end)
				if n := long.Timeouts - short.Timeouts; n < 1 || n > backoffs || long.SpuriousPackets-short.SpuriousPackets > n {
					t.Errorf("the delay rises: %d timeouts, and %d packets for nothing; want 1 to %d, and no more packets than timeouts",
						n, long.SpuriousPackets-short.SpuriousPackets, backoffs)
				}
				before, after := sampleAt(all, up), sampleAt(all, down) // a few round trips: else it would still be in slow start
				if after.Cwnd < before.Cwnd || after.Ssthresh < before.Ssthresh {
					t.Errorf("the timeouts are not undone: %+v became %+v", before, after)
				}
				if n := all.SpuriousPackets - long.SpuriousPackets; all.Timeouts != long.Timeouts || n > int64(after.InFlight/1000) {
					t.Errorf("the delay falls: %d timeouts, and %d packets for nothing, with %d octets in flight", all.Timeouts-long.Timeouts, n, after.InFlight)
				}
				last := float64(sampleAt(all, end).Octets-sampleAt(all, end-10*time.Second).Octets) / 10
				if last < 0.85*10e6/8 || all.Err != tcp.None {
					t.Errorf("ten seconds later it carries %.2f Mbit/s of 10, %v", last*8/1e6, all.Err)
				}
			})
		}
	}
}

// TestA68Queues: where next to nothing waits at the bottleneck, and where half a second does, CUBIC gets four fifths at least of
// what the kernel's got there: kernel to kernel over the same wire in real time, eight seconds, one run each. It drops
// whatever finds no room in its queue, as a policer does, but that a policer lets go at once what it does not drop.
func TestA68Queues(t *testing.T) {
	for _, x := range []struct {
		mbit   float64
		queue  int
		rtt    time.Duration
		kernel float64 // Mbit/s
	}{
		{1, 1500, 10 * ms, 0.27}, {1, 1500, 50 * ms, 0.13}, {10, 1500, 10 * ms, 0.44}, {10, 1500, 50 * ms, 0.15},
		{1, 15000, 10 * ms, 0.96}, {1, 15000, 50 * ms, 0.96}, {10, 15000, 10 * ms, 9.53}, {10, 15000, 50 * ms, 4.72},
		{1, 65536, 10 * ms, 0.97}, {1, 65536, 50 * ms, 0.89}, {10, 65536, 10 * ms, 9.50}, {10, 65536, 50 * ms, 9.51},
	} {
		r := sim.Run(sim.Config{Seed: 1, Duration: 8 * time.Second, Forward: netsimPath(x.mbit, x.rtt, x.queue, sim.Path{}),
			Flows: []sim.Flow{{TCP: tcp.Config{ReadBuffer: 16 << 20, WriteBuffer: 16 << 20}}}})
		if f := &r.Flows[0]; f.Goodput*8/1e6 < 0.8*x.kernel || f.SpuriousPackets > 0 || f.Timeouts > 1 {
			t.Errorf("%g Mbit/s, a queue of %d octets, %v: %.2f Mbit/s, the kernel %.2f; %d packets for nothing, %d timeouts",
				x.mbit, x.queue, x.rtt, f.Goodput*8/1e6, x.kernel, f.SpuriousPackets, f.Timeouts)
		}
	}
}
