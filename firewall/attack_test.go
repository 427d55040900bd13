package firewall

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// spoofed is an address and port that an attacker made up.
func spoofed(i int) netip.AddrPort {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(i)*2654435761)
	a[0] = 198
	return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(1024+i%60000))
}

// TestFloods: whatever is sent with made-up sources, the tables stay within their limit, it is counted, and who has a
// connection keeps it.
func TestFloods(t *testing.T) {
	const limit = 1000
	for _, c := range []struct {
		name   string
		packet func(i int) []byte
	}{
		{"SYN", func(i int) []byte { return syn(spoofed(i), wan(8080)) }},
		{"UDP", func(i int) []byte { return udpPacket(spoofed(i), wan(8080), "x") }},
		{"ping", func(i int) []byte { return echo(spoofed(i), wan(0), false) }},
		{"SYN and then ACK", func(i int) []byte {
			if i%2 == 0 {
				return syn(spoofed(i/2), wan(8080))
			}
			return tcpPacket(spoofed(i/2), wan(8080), tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 1, Window: 500})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t, masquerade+"\nforward tcp,udp 203.0.113.1:8080 to 192.0.2.20:80", func(c *Config) { c.Connections = limit })
			h.shake("lan", laptop, phone, "wan")
			h.must("lan", udpPacket(laptop, phone, "q"), wan(4000), phone)
			h.must("wan", udpPacket(phone, wan(4000), "a"), phone, laptop)
			h.must("lan", udpPacket(laptop, phone, "q"), wan(4000), phone)
			for i := range 20 * limit {
				h.now += time.Millisecond
				h.pass("wan", c.packet(i))
				if i%limit == 0 {
					h.must("lan", tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500}), wan(4000), phone)
					h.must("wan", udpPacket(phone, wan(4000), "a"), phone, laptop)
					h.shake("wan", netip.AddrPortFrom(other.Addr(), uint16(10000+i/limit)), wan(8080), "lan") // and others may come
				}
			}
			s := h.f.Stats()
			if s.Connections > limit || s.Evicted < 8*limit {
				t.Errorf("%d connections, %d given up; the limit is %d", s.Connections, s.Evicted, limit)
			}
			if n := len(h.f.chunks) * chunk; n > limit+chunk || len(h.f.index.slots) > 8*limit {
				t.Errorf("room for %d connections, %d index slots", n, len(h.f.index.slots))
			}
		})
	}
}

// TestFull: when all there are are established, it is the new that are refused.
func TestFull(t *testing.T) {
	h := newHome(t, masquerade, func(c *Config) { c.Connections = 50 })
	for i := range uint16(50) {
		h.shake("lan", netip.AddrPortFrom(laptop.Addr(), 5000+i), phone, "wan")
	}
	for i := range uint16(500) {
		h.mustNot("lan", syn(netip.AddrPortFrom(laptop.Addr(), 6000+i), phone), TableFull)
	}
	for i := range uint16(50) {
		h.must("lan", tcpPacket(netip.AddrPortFrom(laptop.Addr(), 5000+i), phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500}), wan(5000+i), phone)
	}
	// Who comes from outside is not told.
	if h.mustNot("wan", syn(phone, toRouter), TableFull); len(h.last.Reply) != 0 {
		t.Errorf("answered: % x", h.last.Reply)
	}
	if s := h.f.Stats(); s.Dropped[TableFull] != 501 || s.Mappings != 50 || s.Evicted != 0 {
		t.Errorf("%+v", s)
	}
}

// TestPortsExhausted: when no port is left, it is counted and said, and nobody gets another's packets.
func TestPortsExhausted(t *testing.T) {
	h := newHome(t, masquerade, rates(-1, -1), func(c *Config) { c.Connections = 1 << 17 })
	owner := map[uint16]netip.AddrPort{}
	const ports = 1<<16 - 1024
	for i := range ports + 100 {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i/30000)}), uint16(2000+i%30000))
		b := h.pass("lan", udpPacket(src, phone, ""))
		if (b != nil) != (i < ports) {
			t.Fatalf("packet %d: passes %v, reason %v", i, b != nil, h.last.Reason)
		}
		if b != nil {
			port := external(b).Port()
			if o, ok := owner[port]; ok {
				t.Fatalf("port %d is %v's and %v's", port, o, src)
			}
			owner[port] = src
		}
	}
	if n := h.f.Stats().Dropped[PortsExhausted]; n != 100 {
		t.Errorf("%d counted, want 100", n)
	}
	for port, o := range owner {
		h.must("wan", udpPacket(phone, wan(port), ""), phone, o)
	}
	h.now += time.Hour
	h.f.Expire(h.now)
	h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
}

// TestTaken: translation leaves the ports alone that the host uses or that are forwarded.
func TestTaken(t *testing.T) {
	h := newHome(t, masquerade+"\nforward tcp on wan port 4001 to 192.0.2.20:80", func(c *Config) {
		c.Taken = func(proto uint8, at netip.AddrPort) bool { return proto == protoTCP && at == wan(4000) }
	})
	for _, port := range []uint16{4000, 4001} {
		a := external(h.pass("lan", syn(netip.AddrPortFrom(laptop.Addr(), port), phone)))
		if a.Addr() != wan4 || a.Port() == 4000 || a.Port() == 4001 {
			t.Errorf("%d became %v", port, a)
		}
	}
	h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
	// The host's own packets give way to a mapping.
	b := h.emit("wan", udpPacket(wan(4000), phone, "own"))
	own := external(b)
	if own == wan(4000) {
		t.Fatal("a mapping's port is used twice")
	}
	h.must("wan", udpPacket(phone, own, ""), phone, wan(4000))
	h.must("wan", udpPacket(phone, wan(4000), ""), phone, laptop)
}

// TestOwn: the host's own packets keep their port, though all that leaves is masqueraded; and who claims an external
// address from inside does not get its answers.
func TestOwn(t *testing.T) {
	h := newHome(t, "nat on wan", func(c *Config) { c.Taken = func(uint8, netip.AddrPort) bool { return true } })
	if b := h.emit("wan", udpPacket(wan(4000), phone, "")); external(b) != wan(4000) {
		t.Errorf("it leaves from %v", external(b))
	}
	h = newHome(t, masquerade)
	h.must("lan", udpPacket(laptop, phone, ""), wan(4000), phone)
	h.mustNot("lan", udpPacket(wan(4000), phone, ""), Collision)
}

// TestReplyRate: a flood of what is rejected is not answered by a flood.
func TestReplyRate(t *testing.T) {
	h := newHome(t, "policy in reject", func(c *Config) { c.Rejects = 10 })
	for i := range 1000 {
		h.pass("wan", syn(spoofed(i), toRouter))
	}
	if n := h.f.Stats().Replies; n != 10 {
		t.Errorf("%d answers, want 10", n)
	}
}

// TestChurn: tables that fill and empty keep what is in them apart.
func TestChurn(t *testing.T) {
	h := newHome(t, masquerade, func(c *Config) { c.Connections = 300 })
	for i := range 20000 {
		h.now += 50 * time.Millisecond
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i%200)}), uint16(1024+i*7919%50000))
		b := h.pass("lan", udpPacket(src, spoofed(i), ""))
		if b == nil {
			t.Fatalf("packet %d: %v", i, h.last.Reason)
		}
		h.must("wan", udpPacket(spoofed(i), external(b), ""), spoofed(i), src)
	}
	n, refs := 0, 0
	for range h.f.Connections() {
		n++
	}
	for m := range h.f.Mappings() {
		refs += m.Connections
	}
	if s := h.f.Stats(); n != s.Connections || refs != n || h.f.index.n != 2*n || h.f.mappings.index.n != 2*s.Mappings || len(h.f.mappings.peers) > n {
		t.Errorf("%d connections listed, %d by mappings, %d+%d index entries, %d peers: %+v", n, refs, h.f.index.n, h.f.mappings.index.n, len(h.f.mappings.peers), s)
	}
}
