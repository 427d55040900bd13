package main

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"
)

// numbered is a TCP packet with octets of text from seq on.
func numbered(seq uint32, text int) []byte {
	b := make([]byte, ipLen+tcpLen+text)
	b[0], b[9] = 4<<4|5, protoTCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint32(b[ipLen+4:], seq)
	b[ipLen+12] = 5 << 4
	return b
}

// pour puts n packets of 1,500 octets on a lane, gap apart, and returns the numbers of those that arrive, and when the last does.
func pour(l *lane, n int, gap time.Duration) (order []int, last time.Duration) {
	const text = ourMTU - ipLen - tcpLen
	now := time.Duration(0)
	take := func(b []byte) { order = append(order, int(binary.BigEndian.Uint32(b[ipLen+4:])/text)); last = now }
	for i := range n {
		now = time.Duration(i) * gap
		l.deliver(now, take)
		l.enter(now, numbered(uint32(i*text), text))
	}
	for {
		at, ok := l.next()
		if !ok {
			return order, last
		}
		now = max(now, at)
		l.deliver(now, take)
	}
}

// TestRateIsExact: what waits at the bottleneck leaves at its rate, and no packet arrives before its delay is over.
func TestRateIsExact(t *testing.T) {
	const rate = 100e6 / 8
	l := newLane(path{rate: rate, delay: 25 * time.Millisecond, queue: 1 << 30, seed: 1}, 0)
	order, last := pour(l, 10_000, 0)
	want := 25*time.Millisecond + time.Duration(10_000*ourMTU/rate*float64(time.Second))
	if len(order) != 10_000 || (last-want).Abs() > time.Microsecond*10 {
		t.Errorf("%d packets arrived, the last after %v, want 10,000 after %v", len(order), last, want)
	}
}

// TestLossAndQueue: packets are lost as often as asked, and dropped where the queue is full.
func TestLossAndQueue(t *testing.T) {
	l := newLane(path{loss: 0.03, seed: 7}, 0)
	order, _ := pour(l, 100_000, time.Microsecond)
	if got := 1 - float64(len(order))/100_000; math.Abs(got-0.03) > 0.003 || l.lost != uint64(100_000-len(order)) {
		t.Errorf("%.4f of the packets are lost (%d), want 0.03", got, l.lost)
	}
	l = newLane(path{rate: 1e6, queue: 10 * ourMTU, seed: 7}, 0)
	if order, _ = pour(l, 25, 0); len(order) != 10 || l.dropped != 15 {
		t.Errorf("%d packets of 25 pass a queue of ten, %d dropped", len(order), l.dropped)
	}
}

// TestOvertaken: 5 % of the packets are overtaken, by 20 at most, and none is lost by it.
func TestOvertaken(t *testing.T) {
	l := newLane(path{reorder: 0.05, seed: 3}, 0)
	order, _ := pour(l, 20_000, 100*time.Microsecond)
	highest, most, late := -1, 0, 0
	for at, n := range order {
		if n < highest {
			late++
			behind := 0
			for _, m := range order[max(at-2*maxOvertaken, 0):at] {
				if m > n {
					behind++
				}
			}
			most = max(most, behind)
		}
		highest = max(highest, n)
	}
	if share := float64(late) / 20_000; share < 0.04 || share > 0.06 {
		t.Errorf("%.3f of the packets came late, want 0.05", share)
	}
	if most < 15 || most > maxOvertaken {
		t.Errorf("up to %d packets overtook one, want up to %d", most, maxOvertaken)
	}
	slices.Sort(order)
	if len(slices.Compact(order)) != 20_000 {
		t.Errorf("%d of 20,000 packets arrived", len(order))
	}
}

// TestNeedless: octets count as needless where they were delivered before, in order or not, across the end of the
// sequence space.
func TestNeedless(t *testing.T) {
	start, f := uint32(1<<32-2500), flows{}
	for _, step := range []struct {
		seq   uint32
		n     int
		again int
	}{
		{start, 1000, 0},
		{start + 2000, 1000, 0},    // beyond a hole
		{start + 2000, 1000, 1000}, // and again
		{start + 500, 1000, 500},   // half of it new
		{start + 1200, 1500, 1000}, // fills the hole, and touches both sides
		{start, 3000, 3000},
		{start + 3000, 100, 0},
	} {
		if got := f.delivered(numbered(step.seq, step.n)); got != step.again {
			t.Errorf("%d octets at start+%d: %d were there, want %d", step.n, step.seq-start, got, step.again)
		}
	}
}
