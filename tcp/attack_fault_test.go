package tcp

import (
	"testing"
	"time"
)

// These are faults of the network and of the host, which a connection survives.

// TestA64EveryPacketTwice: each packet arrives twice, the second time when the next ones have come: text is exact, and
// nobody resets.
func TestA64EveryPacketTwice(t *testing.T) {
	for how := range 256 {
		text := [2][]byte{pattern(60000, 1), pattern(20000, 2)}
		p := newPair(t, pairConfig(uint8(how)), [2]Seq{0xffffffff - 30000, 0xffffffff - 10000}, text, how&1 != 0, func() byte { return 2 })
		p.run()
		p.check(text)
	}
}

// TestA69LateTimers: the host sleeps for half a minute, and all its timers come late at once. A connection that moved text
// goes on, after one retransmission at each end at most, and one that was idle has sent one probe, not all of them.
func TestA69LateTimers(t *testing.T) {
	for how := range 256 {
		text := [2][]byte{pattern(60000, 1), pattern(20000, 2)}
		n := 0
		var p *pair
		p = newPair(t, pairConfig(uint8(how)), [2]Seq{100, 300}, text, how&1 != 0, func() byte {
			if n++; n == 20 {
				p.now += 30 * time.Second
			}
			return 0
		})
		p.run()
		p.check(text)
	}
	s := plainly(t)
	s.SetKeepAlive(s.now, KeepAlive{Idle: 10 * time.Second, Interval: time.Second, Count: 3})
	s.now += 30 * time.Second
	s.Expire(s.now)
	if g := s.take(); len(g) != 1 || s.State() != Established {
		t.Errorf("after a sleep of 30 s %d probes are sent, and it is %v; want one and ESTABLISHED", len(g), s.State())
	}
	s.ack(101)
	s.wait(9 * time.Second)
	s.want()
}

// TestA70TicksWrap: the clock of milliseconds in timestamps wraps after 49.7 days, in the midst of a transfer; sequence
// numbers do as well.
func TestA70TicksWrap(t *testing.T) {
	for how := range 256 {
		for _, early := range []time.Duration{50 * ms, 500 * ms, 5 * time.Second} {
			text := [2][]byte{pattern(60000, 1), pattern(20000, 2)}
			c := pairConfig(uint8(how))
			c.SYNTimeout, c.UserTimeout = 3000*time.Hour, 3000*time.Hour
			p := newPair(t, c, [2]Seq{0xffffffff - 30000, 0xffffffff - 10000}, text, how&1 != 0,
				seededFate(uint64(how), 10))
			p.now = 1<<32*ms - early
			p.run()
			p.check(text)
		}
	}
}
