package tcp

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

// hole is a path that carries segments of at most so many octets, header included, and drops longer ones in silence. It
// takes 100 µs for each.
type hole struct {
	limit func(now time.Duration) int
	delay time.Duration
	now   time.Duration
	busy  [2]time.Duration // until when each direction is
	ends  [2]*TCB
	air   [2][]passing // by destination
	lost  int
	again int      // octets sent again
	sizes [][2]int // at which octet a longest segment of what size arrived
}

type passing struct {
	at  time.Duration
	seg Segment
}

func (h *hole) send(from int) {
	var s Segment
	for h.ends[from].Next(h.now, &s) {
		text := bytes.Join(s.Text, nil)
		packets := [][]byte{text}
		if s.Size > 0 {
			packets = slices.Collect(slices.Chunk(text, int(s.Size)))
		}
		for _, p := range packets {
			g := s
			g.Size, g.Text = 0, [][]byte{bytes.Clone(p)}
			if s.Cause != CauseData && s.Cause != CauseMTUProbe {
				h.again += len(p)
			}
			if HeaderLen+g.Options.Len()+len(p) > h.limit(h.now) {
				h.lost++
			} else {
				h.busy[from] = max(h.busy[from], h.now) + 100*time.Microsecond
				h.air[1-from] = append(h.air[1-from], passing{h.busy[from] + h.delay, g})
				if full := HeaderLen + g.Options.Len() + len(p); len(h.sizes) == 0 || full > h.sizes[len(h.sizes)-1][1] {
					h.sizes = append(h.sizes, [2]int{int(g.Seq), full})
				}
			}
			s.Seq += Seq(len(p))
		}
	}
}

// step lets the next thing happen; false: there is none.
func (h *hole) step() bool {
	next := time.Duration(1<<63 - 1)
	for i, t := range h.ends {
		if at, ok := t.Deadline(); ok {
			next = min(next, max(at, h.now))
		}
		if len(h.air[i]) > 0 {
			next = min(next, h.air[i][0].at)
		}
	}
	if next == 1<<63-1 {
		return false
	}
	h.now = next
	for i, t := range h.ends {
		for len(h.air[i]) > 0 && h.air[i][0].at <= h.now {
			g := h.air[i][0].seg
			h.air[i] = h.air[i][1:]
			t.Arrive(h.now, &g)
			h.send(i)
		}
		if at, ok := t.Deadline(); ok && at <= h.now {
			t.Expire(h.now)
		}
		h.send(i)
	}
	return true
}

// transfer opens a connection over h, sends n octets and returns how long they took to be acknowledged.
func (h *hole) transfer(t *testing.T, c *Config, n int) time.Duration {
	h.ends[0] = Open(0, 100, c)
	var syn Segment
	h.ends[0].Next(0, &syn)
	h.ends[1] = Accept(0, 300, &syn, c)
	h.send(1)
	left, buf := n, make([]byte, 64<<10)
	for left > 0 || h.ends[0].Info().InFlight > 0 {
		if left > 0 && h.ends[0].State() == Established {
			left -= h.ends[0].Write(h.now, make([]byte, min(left, len(buf))))
			h.send(0)
		}
		for h.ends[1].Read(h.now, buf) > 0 {
			h.send(1)
		}
		if !h.step() || h.now > time.Hour {
			t.Fatalf("after %v, %d octets are left, %+v", h.now, left, h.ends[0].Info())
		}
	}
	return h.now
}

// TestC131BlackHole: RFC 4821: a path that drops what is longer than it carries, without a word, delays a transfer by a
// few timeouts, and is then used up to what it carries.
func TestC131BlackHole(t *testing.T) {
	const octets = 4 << 20
	for _, x := range []struct {
		name    string
		c       Config
		limit   int // of the packet less the IP header
		atLeast int // what a segment comes to, header included
		within  time.Duration
	}{
		{"1280 of 1500", Config{MTU: 1480}, 1260, 1260 - 2*searchStep, 4 * time.Second},
		{"1280 of 9000", Config{MTU: 8980}, 1260, 1260 - 2*searchStep, 4 * time.Second},
		{"1280 of 1500, super-segments", Config{MTU: 1480, MaxText: 65000}, 1260, 1260 - 2*searchStep, 4 * time.Second},
		{"600 of 1500", Config{MTU: 1480}, 580, 580 - 2*searchStep, 8 * time.Second},
		{"1280 of 1500, IPv6", Config{MTU: 1460, DefaultMSS: 1220}, 1240, 1240, 4 * time.Second},
		{"1280 of 1500, no SACK", Config{MTU: 1480, NoSACK: true}, 1260, searchBase, 6 * time.Second},
		{"1280 of 1500, BBR", Config{MTU: 1480, Congestion: NewBBR}, 1260, 1260 - 2*searchStep, 6 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			h := &hole{delay: 5 * time.Millisecond, limit: func(time.Duration) int { return x.limit }}
			d := h.transfer(t, &x.c, octets)
			got := h.sizes[len(h.sizes)-1][1]
			t.Logf("%d octets in %v, %d packets lost, %d octets sent again, segments of up to %d octets", octets, d, h.lost, h.again, got)
			if got < x.atLeast || d > x.within {
				t.Errorf("segments of %d octets, %v; want at least %d, within %v", got, d, x.atLeast, x.within)
			}
		})
	}
}

// TestBlackHoleIsAnOutage: after an outage, which looks like a black hole at first, segments are full-sized at once.
func TestBlackHoleIsAnOutage(t *testing.T) {
	h := &hole{delay: 5 * time.Millisecond, limit: func(now time.Duration) int {
		if now > time.Second && now < 20*time.Second {
			return 0
		}
		return 1 << 20
	}}
	c := &Config{MTU: 1480, ReadBuffer: 65535, WriteBuffer: 65535}
	h.transfer(t, c, 20<<20)
	i := h.ends[0].Info()
	if m := h.ends[0].search; m == nil || i.MSS != 1460-12 || int(m.low) != 1460 {
		t.Errorf("the MSS is %d after %+v", i.MSS, m)
	}
	if h.now > 40*time.Second {
		t.Errorf("the transfer took %v", h.now)
	}
}

// TestBlackHoleProbeIsNoCongestion: a probe that is lost costs no congestion window.
func TestBlackHoleProbeIsNoCongestion(t *testing.T) {
	limit := 1480
	h := &hole{delay: 5 * time.Millisecond, limit: func(time.Duration) int { return limit }}
	h.transfer(t, &Config{MTU: 1480}, 100<<10)
	limit = 1260
	h.ends[0].search = &mtuSearch{low: searchBase, high: 1460}
	h.ends[0].resize()
	before, lost, buf := h.ends[0].Info().Cwnd, 0, make([]byte, 64<<10)
	for h.ends[0].search.at == 0 && lost < 100 {
		was := h.lost
		h.ends[0].Write(h.now, make([]byte, 64<<10))
		h.send(0)
		for h.ends[0].Info().InFlight > 0 {
			h.step()
			for h.ends[1].Read(h.now, buf) > 0 {
			}
		}
		lost += h.lost - was
	}
	if i := h.ends[0].Info(); i.Cwnd < before || lost == 0 {
		t.Errorf("%d probes were lost, and the congestion window went from %d to %d", lost, before, i.Cwnd)
	}
}

// TestBlackHoleNeedsLongSegments: timeouts of short segments say nothing of the path's packets.
func TestBlackHoleNeedsLongSegments(t *testing.T) {
	s := plainly(t)
	s.write(1000)
	s.wait(10 * time.Second)
	if s.search != nil || s.Info().Backoff < retriesR1 {
		t.Errorf("a search after %d timeouts of 1000 octets: %+v", s.Info().Backoff, s.search)
	}
	s = plainly(t)
	s.write(1460)
	s.take()
	s.wait(700 * time.Millisecond)
	for _, want := range []int{1460, 1024, 512, 256, 128, 64, minMSS, minMSS} {
		s.take()
		s.wait(s.Info().RTO)
		if got := s.take(); len(got) == 0 || got[0].TextLen() != want {
			t.Fatalf("after %d timeouts %v leave, want %d octets", s.Info().Backoff, fmt.Sprint(got), want)
		}
	}
}
