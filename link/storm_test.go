package link

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/pace"
)

func TestThrottleOfSeveralGoroutines(t *testing.T) {
	p := throttle{Pace: pace.New(1000, time.Second, 1000)}
	var got atomic.Int64
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 1000 {
				if p.take(0, 1) {
					got.Add(1)
				}
			}
		})
	}
	running.Wait()
	if got.Load() != 1000 {
		t.Errorf("%d of 4000 at once, want 1000", got.Load())
	}
}

// pour writes frames until n are gone, or the device has no room: it returns how many it took.
func (s *card) pour(n int, frame func(i int) []byte) (sent int) {
	s.t.Helper()
	p := make([]Packet, 0, relayBatch)
	for sent < n {
		p = p[:0]
		for i := sent; i < min(n, sent+relayBatch); i++ {
			p = append(p, Packet{Head: frame(i)})
		}
		k, err := s.d.Queues()[0].Write(p)
		sent += k
		synctest.Wait()
		if err != nil {
			if !errors.Is(err, ErrFull) {
				s.t.Fatal(err)
			}
			return sent
		}
	}
	return sent
}

func (s *card) count(text string) int { return strings.Count(s.heard(), text) }

func TestSwitchStormControl(t *testing.T) {
	for name, dst := range map[string]func(i int) ethernet.Addr{
		"stations not heard of": func(i int) ethernet.Addr { return mac(1 << 20) },
		"made-up stations":      func(i int) ethernet.Addr { return mac(1<<20 + i) },
		"all":                   func(i int) ethernet.Addr { return ethernet.Broadcast },
		"a group":               func(i int) ethernet.Addr { return ethernet.Addr{1, 0, 0x5e, 0, 0, 1} },
	} {
		t.Run("to "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sw, s := threePorts(t, SwitchConfig{Storm: 100})
				defer hangUp(t, sw, s...)
				s[1].say(frame(mac(2), mac(1), "b"))
				s[2].say(frame(mac(1), mac(2), "c"))
				for _, c := range s {
					c.heard()
				}
				flood := func(n, pass int) {
					t.Helper()
					s[0].pour(n, func(i int) []byte { return frame(dst(i), mac(1<<19+i), "storm") })
					if b, c := s[1].count("storm"), s[2].count("storm"); b != pass || c != pass {
						t.Errorf("of %d frames the others heard %d and %d, want %d", n, b, c, pass)
					}
				}
				flood(1000, 100)
				s[0].say(frame(mac(1), mac(0), "for b alone"))
				s[2].say(frame(ethernet.Broadcast, mac(2), "another port's"))
				want(t, "in the midst of it", s, "another port's", "for b alone another port's", "")
				time.Sleep(time.Second / 2)
				flood(1000, 50)
				time.Sleep(time.Hour)
				flood(1000, 100)
				got := port(t, &sw.bridge, "a").Stats()
				if got.FramesIn != 3001 || got.Flooded != 250 || got.Storm != 2750 || got.Forwarded != 1 {
					t.Errorf("port a has %+v, want 3001 frames, 250 flooded, 1 forwarded, 2750 dropped", got)
				}
				for _, name := range []string{"b", "c"} {
					if got := port(t, &sw.bridge, name).Stats(); got.Storm+got.Full > 0 {
						t.Errorf("port %s has %+v, want nothing dropped", name, got)
					}
				}
			})
		})
	}
}

func TestSwitchStormBound(t *testing.T) {
	for _, tt := range []struct {
		name  string
		storm int
		frame Packet
		n     int
		want  int // of n
	}{
		{"default", 0, Packet{Head: frame(ethernet.Broadcast, mac(1), "m")}, 10_000, defaultStorm},
		{"none", -1, Packet{Head: frame(ethernet.Broadcast, mac(1), "m")}, 10_000, 10_000},
		// 14 + 40 + 10,000 octets in pieces of 1460 count as 7: the eighth begins before 50 are over.
		{"super-segments", 50, superFrame(10_000), 1000, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sw := NewSwitch(SwitchConfig{Storm: tt.storm})
				defer sw.Close()
				d, err := sw.Port(PipeConfig{MTU: 1500, GSO: 65535}, PortConfig{Name: "a"})
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				for range tt.n {
					if n, err := d.Queues()[0].Write([]Packet{tt.frame}); n != 1 || err != nil {
						t.Fatal(n, err)
					}
					synctest.Wait()
				}
				got := port(t, &sw.bridge, "a").Stats()
				if got.Flooded != uint64(tt.want) || got.Storm != uint64(tt.n-tt.want) {
					t.Errorf("%d flooded and %d dropped of %d, want %d flooded", got.Flooded, got.Storm, tt.n, tt.want)
				}
			})
		})
	}
}

// superFrame is a super-segment to a station not heard of.
func superFrame(text int) Packet {
	s := superSegment{frame: []byte{2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 0, 1}, gso: TCP4, text: text, size: 1460, flags: 0x10}
	p, _ := s.whole()
	return p
}

// A station that makes up addresses fills the table and exchanges its own for a second's worth, and no more is noted of it.
// What the others have learnt stays, and they learn on.
func TestSwitchNotesNoMoreThanItsPaceOfNewStations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{Stations: 100})
		defer hangUp(t, sw, s...)
		s[1].say(frame(mac(2), mac(1), "b"))
		s[2].say(frame(mac(1), mac(2), "c"))
		made := 0
		flood := func() {
			s[0].pour(10_000, func(int) []byte { made++; return frame(mac(2), mac(1<<19+made), "m") })
		}
		check := func(exchanged int) {
			t.Helper()
			a, b, c := port(t, &sw.bridge, "a").Stats(), port(t, &sw.bridge, "b").Stats(), port(t, &sw.bridge, "c").Stats()
			if n := len(sw.stations.m); n != 100 {
				t.Errorf("%d entries in the table, want its bound of 100", n)
			}
			if a.Evicted != uint64(exchanged) || a.Unlearnt != uint64(made-98-exchanged) || a.Forwarded != uint64(made) {
				t.Errorf("of %d stations, 98 found room, %d took another's place, %d were not noted, %d frames passed; want %d, %d and all",
					made, a.Evicted, a.Unlearnt, a.Forwarded, exchanged, made-98-exchanged)
			}
			if b.Evicted+c.Evicted+b.Unlearnt+c.Unlearnt > 0 {
				t.Errorf("at the other ports: %+v and %+v, want no change", b, c)
			}
		}
		flood()
		check(relearn)
		time.Sleep(time.Second / 2)
		flood()
		check(relearn + relearn/2)
		s[1].say(frame(mac(2), mac(7), "new here"))
		for _, c := range s {
			c.heard()
		}
		s[2].say(frame(mac(7), mac(2), "found"))
		want(t, "a new station at another port", s, "", "found", "")
	})
}

// A relay that drops more than its pace leaves what else comes to the device, and takes it up again later. Other ports go on.
func TestSwitchLeavesAFloodToTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		s[1].say(frame(mac(2), mac(1), "b"))
		s[2].say(frame(mac(1), mac(2), "c"))
		for _, c := range s {
			c.heard()
		}
		chaff := frame(mac(0), mac(0), "to itself")
		sent := s[0].pour(discards, func(int) []byte { return chaff })
		got := port(t, &sw.bridge, "a").Stats()
		if got.FramesIn < discardBurst || got.FramesIn > discardBurst+4*relayBatch || got.Filtered != got.FramesIn {
			t.Errorf("port a has %+v, want %d frames read at once, and filtered", got, discardBurst)
		}
		if waiting := uint64(sent) - got.FramesIn; waiting != defaultQueue {
			t.Errorf("%d frames wait in the device, want its %d", waiting, defaultQueue)
		}
		for i := range 10 {
			s[1].say(frame(mac(2), mac(1), fmt.Sprint(i)))
		}
		want(t, "between other ports", s[2:], "0 1 2 3 4 5 6 7 8 9")
		time.Sleep(time.Second)
		if got := port(t, &sw.bridge, "a").Stats(); got.FramesIn != uint64(sent) {
			t.Errorf("%d frames read a second later, want all %d", got.FramesIn, sent)
		}
		s[0].say(frame(mac(2), mac(0), "honest"))
		want(t, "after the flood", s[2:], "honest")
	})
}

// A port that sends more than another takes rests once that one is full: what it has yet to send waits in its own device, and
// is not lost where others want room as well.
func TestSwitchPortThatOverrunsAnotherRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sw, s := threePorts(t, SwitchConfig{})
		defer hangUp(t, sw, s...)
		d, far := Pipe(PipeConfig{Ethernet: true})
		defer d.Close()
		slow, err := sw.Attach(far, PortConfig{Name: "slow"})
		if err != nil {
			t.Fatal(err)
		}
		q := d.Queues()[0]
		q.Write([]Packet{{Head: frame(mac(0), mac(9), "here")}})
		synctest.Wait()
		const n = 10_000
		sent := s[0].pour(n, func(int) []byte { return frame(mac(9), mac(0), "much") })
		if got := slow.Stats(); got.FramesOut != defaultQueue || got.Full == 0 || got.Full > relayBatch || sent > 3*defaultQueue {
			t.Errorf("of %d frames %d were taken, %d of them by the full port and %d lost, want its queue of %d, and a batch lost at most",
				n, sent, got.FramesOut, got.Full, defaultQueue)
		}
		p, heard := make([]Packet, defaultQueue), 0
		for heard < defaultQueue {
			k, err := q.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			heard += k
		}
		s[1].say(frame(mac(9), mac(1), "little"))
		time.Sleep(restFor)
		synctest.Wait()
		got := slow.Stats()
		if k, err := q.Read(p); err != nil || !slices.ContainsFunc(p[:k], func(p Packet) bool { return strings.Contains(string(p.Head), "little") }) {
			t.Errorf("who sends little is not among %d frames after a rest (%v)", k, err)
		}
		if got.Full > relayBatch {
			t.Errorf("%d frames lost after a rest in which the queue was emptied", got.Full)
		}
	})
}

// TestYield: how often a port rests after batches, and what it may send from one rest to the next.
func TestYield(t *testing.T) {
	var y yield
	for _, x := range []struct {
		name                string
		batches, n, refused int
		rests, allowance    int
	}{
		{"all find room", 1000, relayBatch, 0, 0, 0},
		{"one does not", 1, relayBatch, 1, 1, 1001 * relayBatch / yieldDivisor},
		{"none does", 1, relayBatch, relayBatch, 1, relayBatch},
		{"all do again", 8, relayBatch, 0, 4, relayBatch + 4*yieldStep}, // after 1, 2, 2 and 2 batches
		{"no backlog", 1, relayBatch - 1, relayBatch - 1, 0, 0},
		{"and all find room", 9, relayBatch, 0, 0, 0},
	} {
		rests := 0
		for range x.batches {
			y.refused = x.refused
			if y.rest(x.n) {
				rests++
			}
		}
		if rests != x.rests || y.allowance != x.allowance {
			t.Errorf("%s: %d rests and an allowance of %d, want %d and %d", x.name, rests, y.allowance, x.rests, x.allowance)
		}
	}
}
