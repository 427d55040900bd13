package stack

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/pathmtu"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// tooBig has a router say of a packet of the stack's that the next link carries mtu octets.
func (h *tester) tooBig(mtu int, packet []byte) {
	h.Helper()
	quote := packet[:min(len(packet), h.headerLen()+8)]
	h.icmp(ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeFragNeeded, Seq: uint16(mtu), Body: quote},
		ipv6.ICMP{Type: ipv6.PacketTooBig, Rest: uint32(mtu), Body: quote})
	h.idle()
}

// longest is the length of the longest packet of some.
func longest(seen []packetSeen) (n int) {
	for _, p := range seen {
		n = max(n, len(p.packet))
	}
	return n
}

// TestC126PacketTooBig: what a router says is acted on at once, without a smaller window; other connections to that host, and
// new ones, heed it as well (RFC 1191 §3, RFC 8201 §4).
func TestC126PacketTooBig(t *testing.T) {
	links(t, func(h *tester) {
		d := h.shakes()
		other := h.stranger()
		other.ports.Src, other.listener = testerPort+1, d.listener
		other.open()
		d.conn.Write(make([]byte, 5840))
		seen := d.sent()
		before := d.conn.Info()
		h.tooBig(1300, seen[0].packet)
		again := d.sent()
		if len(again) == 0 || longest(again) != 1300 || again[0].seg.Seq != seen[0].seg.Seq || again[0].seg.Cause != tcp.CauseNone {
			t.Fatalf("a router's word is followed by %v, the longest of %d octets", again, longest(again))
		}
		if i := d.conn.Info(); i.Backoff != 0 || i.Cwnd < before.Cwnd*8/10 {
			t.Errorf("before: %+v\nafter: %+v", before, i)
		}
		other.conn.Write(make([]byte, 5840))
		if seen := other.sent(); longest(seen) != 1300 {
			t.Errorf("another connection sends %d octets", longest(seen))
		}
		third := h.stranger()
		third.ports.Src, third.listener = testerPort+2, d.listener
		if p := third.asks(); int(p.seg.Options.MSS) != 1500-h.headerLen()-tcp.HeaderLen {
			t.Errorf("a new connection announces an MSS of %d, which the way back has nothing to do with", p.seg.Options.MSS)
		}
		third.say(1, 1, tcp.ACK)
		third.accept()
		third.conn.Write(make([]byte, 5840))
		if seen := third.sent(); longest(seen) != 1300 {
			t.Errorf("a new connection sends %d octets", longest(seen))
		}
		if mtu, err := h.stack.PathMTU(h.us); mtu != 1300 || err != nil {
			t.Errorf("PathMTU: %d, %v", mtu, err)
		}
	})
}

// TestC127C129Bounds: whatever a router says, packets have a size that makes sense, and the transfer goes on.
func TestC127C129Bounds(t *testing.T) {
	for _, x := range []struct {
		said, want4, want6 int
		cut                bool
	}{
		{1300, 1300, 1300, false}, {1280, 1280, 1280, false}, {1279, 1279, 1500, false}, {600, 600, 1500, false},
		{552, 552, 1500, false}, {551, 552, 1500, true}, {68, 552, 1500, true}, {20, 552, 1500, true}, {0, 1492, 1500, false},
		{1500, 1500, 1500, false}, {9000, 1500, 1500, false},
	} {
		bare(t, Config{}, func(h *tester) {
			h.narrow = x.cut
			want := x.want4
			if h.us.Is6() {
				want = x.want6
			}
			d := h.shakes()
			d.conn.Write(make([]byte, 5840))
			seen := d.sent()
			h.tooBig(x.said, seen[0].packet)
			again := d.sent()
			if want == 1500 {
				if len(again) != 0 {
					t.Errorf("an MTU of %d: %v", x.said, again)
				}
				return
			}
			if longest(again) != want {
				t.Errorf("an MTU of %d: packets of %d octets, want %d", x.said, longest(again), want)
			}
			ids := map[uint32]bool{}
			for _, p := range again {
				df := h.us.Is6() || p.packet[6]&0x40 != 0
				if df == x.cut || x.cut && ids[uint32(p.packet[4])<<8|uint32(p.packet[5])] {
					t.Errorf("an MTU of %d: DF is %v, or an identification came twice: % x", x.said, df, p.packet[:20])
				}
				if x.cut {
					ids[uint32(p.packet[4])<<8|uint32(p.packet[5])] = true
				}
			}
			d.say(1, 1+5840, tcp.ACK)
			h.idle()
			if i := d.conn.Info(); i.InFlight != 0 {
				t.Errorf("%+v", i)
			}
		})
	}
}

// TestC128Ageing: RFC 1191 §6.3: ten minutes later longer packets are tried again, on connections that are open as well.
func TestC128Ageing(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		write := func() int {
			d.conn.Write(make([]byte, 2920))
			seen := d.sent()
			last := seen[len(seen)-1]
			d.say(1, int(last.seg.End()-d.iss), tcp.ACK)
			h.idle()
			return longest(seen)
		}
		d.conn.Write(make([]byte, 2920))
		seen := d.sent()
		h.tooBig(1400, seen[0].packet)
		d.sent()
		d.say(1, 1+2920, tcp.ACK)
		h.pass(pathmtu.Age - time.Second)
		if n := write(); n != 1400 {
			t.Errorf("after less than ten minutes packets have %d octets", n)
		}
		h.pass(2 * time.Second)
		if n := write(); n != 1500 {
			t.Errorf("after ten minutes packets have %d octets", n)
		}
		if mtu, _ := h.stack.PathMTU(h.us); mtu != 1500 {
			t.Errorf("PathMTU: %d", mtu)
		}
	})
}

// TestC130Forged: RFC 5927 §7, and A42: who cannot see our packets changes nothing. What it would also have, that nothing is
// believed until a packet times out, is not done: a path that says so is to cost nothing (C126).
func TestC130Forged(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		d.conn.Write(make([]byte, 2920))
		p := d.sent()[0].packet
		at := h.headerLen()
		for name, change := range map[string]func(b []byte){
			"a sequence number behind the window":      func(b []byte) { b[at+5]++ },
			"a sequence number in front of the window": func(b []byte) { b[at+5]-- },
			"another port of ours":                     func(b []byte) { b[at+1]++ },
			"another port of the peer":                 func(b []byte) { b[at+3]++ },
			"another host":                             func(b []byte) { b[at-1]++ },
			"another source":                           func(b []byte) { b[15+(at-20)/20*8]++ },
			"a packet that would pass": func(b []byte) {
				if at == ipv4.MinHeaderLen {
					b[2], b[3] = 5, 0
				} else {
					b[4], b[5] = 0, 40
				}
			},
		} {
			b := slices.Clone(p)
			change(b)
			h.tooBig(1290, b)
			if seen := d.sent(); len(seen) != 0 {
				t.Errorf("%s: %v", name, seen)
			}
		}
		d.say(1, 1+2920, tcp.ACK)
		h.idle()
		h.tooBig(1290, p)
		d.conn.Write(make([]byte, 2920))
		if n := longest(d.sent()); n != 1500 {
			t.Errorf("with nothing in flight an error is believed: packets of %d octets", n)
		}
	})
}

// TestC132UDP: datagrams learn as well: what is too long leaves in fragments, or is refused where the user asks for that.
func TestC132UDP(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		to := netip.AddrPortFrom(h.us, 7)
		u := h.bind(6000)
		long := make([]byte, 1500-h.headerLen()-8)
		u.WriteToUDPAddrPort(long, to)
		p := h.one("a datagram").packet
		stray := slices.Clone(p)
		stray[h.headerLen()+3]++ // whom it never sent anything
		h.tooBig(1300, stray)
		stray = slices.Clone(p)
		stray[h.headerLen()+1]++ // a port that nobody has
		h.tooBig(1300, stray)
		u.WriteToUDPAddrPort(long, to)
		if seen := h.sent(); len(seen) != 1 || h.drops("stray-icmp") != 2 {
			t.Errorf("forged errors: %v, %v", seen, h.stack.Stats().Drops)
		}
		h.tooBig(1300, p)
		if _, err := u.WriteToUDPAddrPort(long, to); err != nil {
			t.Error(err)
		}
		seen := h.sent()
		if len(seen) != 2 || longest(seen) > 1300 || longest(seen) < 1290 || !seen[0].cut.is {
			t.Errorf("after a router's word: %v, the longest of %d octets", seen, longest(seen))
		}
		u.SetDontFragment(true)
		if _, err := u.WriteToUDPAddrPort(long, to); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("with DF: %v, want EMSGSIZE", err)
		}
		if _, err := u.WriteToUDPAddrPort(long[:1300-h.headerLen()-8], to); err != nil {
			t.Errorf("with DF, what fits: %v", err)
		}
		if p := h.one("a datagram that fits"); len(p.packet) != 1300 || p.cut.is {
			t.Errorf("%d octets, %+v", len(p.packet), p.cut)
		}

		c, err := h.stack.DialUDP("udp", netip.AddrPort{}, to)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(long[:1300-h.headerLen()-8])
		h.tooBig(1290, h.one("a datagram").packet)
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EMSGSIZE) { // as Linux
			t.Errorf("connected: %v, want EMSGSIZE once", err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("connected, told twice: %v", err)
		}
	})
}
