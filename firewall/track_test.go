package firewall

import (
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// seg is a step of a TCP conversation: who sends (0 the first side), and what.
type seg struct {
	side     int
	flags    tcp.Flags
	seq, ack uint32
	text     uint32
	window   uint32
	want     int // of track
}

const (
	sf = tcp.SYN
	sa = tcp.SYN | tcp.ACK
	af = tcp.ACK
	fa = tcp.FIN | tcp.ACK
	rf = tcp.RST
	ra = tcp.RST | tcp.ACK
)

var handshake = []seg{{0, sf, 100, 0, 0, 1000, valid}, {1, sa, 300, 101, 0, 2000, valid}, {0, af, 101, 301, 0, 1000, valid}}

// TestTrack: the stage that conversations come to, and which segments cannot be part of them.
func TestTrack(t *testing.T) {
	for _, c := range []struct {
		name  string
		begin []seg
		steps []seg
		want  Progress
	}{
		{"RFC 9293 §3.5, three-way handshake", handshake, nil, Steady},
		{"SYN again", nil, []seg{handshake[0], handshake[0]}, Begun},
		{"both open at once", nil, []seg{{0, sf, 100, 0, 0, 1000, valid}, {1, sf, 300, 0, 0, 1000, valid}, {0, sa, 100, 301, 0, 1000, valid}, {1, sa, 300, 101, 0, 1000, valid}}, Steady},
		{"SYN,ACK for another SYN", nil, []seg{handshake[0], {1, sa, 300, 500, 0, 1000, bogus}}, Begun},
		{"ACK without SYN,ACK, as a forger sends", nil, []seg{handshake[0], {0, af, 101, 301, 0, 1000, valid}}, Begun},
		{"a refused SYN", nil, []seg{handshake[0], {1, ra, 0, 101, 0, 0, valid}}, Reset},
		{"a refused SYN stays refused", nil, []seg{handshake[0], {1, ra, 0, 101, 0, 0, valid}, {0, af, 101, 301, 0, 1000, valid}}, Reset},
		{"a SYN taken back", nil, []seg{handshake[0], {0, rf, 101, 0, 0, 0, valid}}, Reset},
		{"a SYN taken back by a forger", nil, []seg{handshake[0], {0, rf, 100, 0, 0, 0, valid}}, Begun},
		{"data in the window", handshake, []seg{{0, af, 101, 301, 2000, 1000, valid}, {1, af, 301, 2101, 0, 2000, valid}}, Steady},
		{"data beyond the window", handshake, []seg{{0, af, 101 + 2001, 301, 10, 1000, bogus}}, Steady},
		{"ACK of what was not sent", handshake, []seg{{0, af, 101, 302, 0, 1000, bogus}}, Steady},
		{"old data", handshake, []seg{{0, af, 101, 301, 500, 1000, valid}, {0, af, 101, 301, 500, 1000, valid}}, Steady},
		{"a probe of a closed window", handshake, []seg{{1, af, 301, 101, 0, 0, valid}, {0, af, 101, 301, 1, 1000, valid}}, Steady},
		{"keep-alive", handshake, []seg{{0, af, 100, 301, 0, 1000, valid}}, Steady},
		{"FIN from one side", handshake, []seg{{0, fa, 101, 301, 0, 1000, valid}, {1, af, 301, 102, 900, 2000, valid}}, Steady},
		{"FIN from both", handshake, []seg{{0, fa, 101, 301, 0, 1000, valid}, {1, fa, 301, 102, 0, 2000, valid}, {0, af, 102, 302, 0, 1000, valid}}, Closing},
		{"SYN after the end", handshake, []seg{{0, fa, 101, 301, 0, 1000, valid}, {1, fa, 301, 102, 0, 2000, valid}, {0, sf, 9000, 0, 0, 1000, reopen}}, Closing},
		{"SYN of the other side after the end", handshake, []seg{{0, rf, 101, 0, 0, 0, valid}, {1, sf, 9000, 0, 0, 1000, reopen}}, Reset},
		{"another SYN in place of the first", nil, []seg{handshake[0], {0, sf, 900, 0, 0, 1000, reopen}}, Begun},
		{"SYN of one who lost his memory, RFC 5961 §4.2", handshake, []seg{{0, sf, 90000, 0, 0, 1000, valid}, {1, af, 301, 101, 0, 2000, valid}, {0, rf, 101, 0, 0, 0, valid}}, Reset},
		{"RST next in line", handshake, []seg{{1, rf, 301, 0, 0, 0, valid}}, Reset},
		{"RST beyond the window, RFC 5961 §3.2", handshake, []seg{{1, rf, 301 + 1001, 0, 0, 0, bogus}}, Steady},
		{"RST before the window", handshake, []seg{{1, rf, 300, 0, 0, 0, valid}}, Steady},
		{"RST that nobody believed, RFC 7857 §2.2", handshake, []seg{{1, rf, 301, 0, 0, 0, valid}, {0, af, 101, 301, 100, 1000, valid}}, Steady},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k conn
			for i, s := range append(c.begin[:len(c.begin):len(c.begin)], c.steps...) {
				g := segment{seq: s.seq, ack: s.ack, flags: s.flags, text: s.text, window: s.window, scale: noScale}
				if got := k.track(s.side, &g); got != s.want {
					t.Fatalf("step %d, %+v: %d, want %d; sides %+v", i, s, got, s.want, k.sides)
				}
			}
			if k.progress != c.want {
				t.Errorf("%v, want %v", k.progress, c.want)
			}
		})
	}
}

// TestTrackScale: windows are scaled if both sides have said so, and those of SYNs never.
func TestTrackScale(t *testing.T) {
	for _, c := range []struct {
		mine, yours uint8
		want        uint32
	}{{3, 7, 1000 << 3}, {3, noScale, 1000}, {noScale, 7, 1000}, {200, 0, 1000 << 14}} {
		var k conn
		k.track(0, &segment{seq: 100, flags: sf, window: 1000, scale: c.mine})
		k.track(1, &segment{seq: 300, ack: 101, flags: sa, window: 1000, scale: c.yours})
		k.track(0, &segment{seq: 101, ack: 301, flags: af, window: 1000, scale: noScale})
		if got := k.sides[1].limit - 301; got != c.want {
			t.Errorf("scales %d and %d: the window is %d, want %d", c.mine, c.yours, got, c.want)
		}
	}
}

// TestWrap: sequence numbers that wrap around are in order.
func TestWrap(t *testing.T) {
	var k conn
	k.track(0, &segment{seq: 1<<32 - 2, flags: sf, window: 1000, scale: noScale})
	k.track(1, &segment{seq: 1<<32 - 1, ack: 1<<32 - 1, flags: sa, window: 1000, scale: noScale})
	for i := range uint32(10) {
		if k.track(0, &segment{seq: 1<<32 - 1 + i*100, ack: 0, flags: af, text: 100, window: 1000}) != valid ||
			k.track(1, &segment{seq: 0, ack: 1<<32 - 1 + i*100 + 100, flags: af, window: 1000}) != valid {
			t.Fatalf("round %d is bogus: %+v", i, k.sides)
		}
	}
}

// TestReopen: the same two addresses and ports serve for a new connection, once the old one is over, and the rules are
// asked again.
func TestReopen(t *testing.T) {
	h := newHome(t, masquerade)
	h.shake("lan", laptop, phone, "wan")
	h.must("lan", tcpPacket(laptop, phone, tcp.Segment{Flags: rf, Seq: 101}), wan(4000), phone)
	h.rules(masquerade + "\ndrop forward tcp to any port 5000")
	h.mustNot("lan", syn(laptop, phone), Denied)
	h.rules(masquerade)
	h.shake("lan", laptop, phone, "wan")
}

// TestOutOfWindow: what is bogus on a translated connection is not handed to the router's own TCP, which would reset it.
func TestOutOfWindow(t *testing.T) {
	h := newHome(t, masquerade)
	h.shake("lan", laptop, phone, "wan")
	h.mustNot("wan", tcpPacket(phone, wan(4000), tcp.Segment{Flags: af, Seq: 1 << 30, Ack: 101}), Untracked)
	h.mustNot("lan", tcpPacket(laptop, other, tcp.Segment{Flags: af, Seq: 1, Ack: 1}), Untracked) // no connection at all
}

// TestExpiry: an idle table empties itself by Deadline and Expire, and by the packets of others.
func TestExpiry(t *testing.T) {
	h := newHome(t, "")
	if _, ok := h.f.Deadline(); ok {
		t.Error("a deadline with an empty table")
	}
	h.pass("lan", udpPacket(laptop, phone, ""))
	h.pass("lan", echo(laptop, phone, false))
	at, ok := h.f.Deadline()
	if want := h.now + time.Minute; !ok || at != want {
		t.Errorf("the deadline is %v, want %v", at, want)
	}
	h.f.Expire(at)
	if n := h.f.Stats().Connections; n != 1 {
		t.Errorf("%d connections after the query's time, want 1", n)
	}
	h.now += time.Hour
	for range numClasses {
		h.pass("lan", syn(laptop, phone))
	}
	if n := h.f.Stats().Connections; n != 1 {
		t.Errorf("%d connections, want the new one alone", n)
	}
}

// TestExpiryOrder: a connection that is busy does not keep those that came after it.
func TestExpiryOrder(t *testing.T) {
	h := newHome(t, "")
	h.pass("lan", udpPacket(laptop, phone, ""))
	h.pass("lan", udpPacket(laptop, other, ""))
	for range 10 {
		h.now += time.Minute
		h.pass("lan", udpPacket(laptop, phone, ""))
	}
	h.f.Expire(h.now)
	if n := h.f.Stats().Connections; n != 1 {
		t.Errorf("%d connections, want the busy one alone", n)
	}
}
