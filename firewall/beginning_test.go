package firewall

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// rates sets the bounds of a Config.
func rates(source, all int) func(*Config) {
	return func(c *Config) { c.SourceRate, c.NewRate = source, all }
}

// nth is a with another port.
func nth(a netip.AddrPort, n int) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), a.Port()+uint16(n))
}

// TestBeginningRates: of what one source, or all of one interface, begin at once, as much passes as the bound says, and the
// rest is counted by its reason; a second brings a second's worth.
func TestBeginningRates(t *testing.T) {
	const ports = 30000
	fromLAN := func(n int) []byte { return udpPacket(nth(laptop, n%ports), nth(phone, n/ports), "") }
	fromLAN6 := func(n int) []byte { return udpPacket(nth(laptop6, n%ports), nth(phone6, n/ports), "") }
	addresses6 := func(n int) []byte { // one host, which makes up addresses of its network (RFC 8981)
		a := laptop6.Addr().As16()
		binary.BigEndian.PutUint64(a[8:], uint64(n)*0x9e3779b97f4a7c15)
		return udpPacket(netip.AddrPortFrom(netip.AddrFrom16(a), 4000), phone6, "")
	}
	networks6 := func(n int) []byte {
		a := phone6.Addr().As16()
		binary.BigEndian.PutUint32(a[4:], uint32(n))
		return udpPacket(netip.AddrPortFrom(netip.AddrFrom16(a), 4000), server6, "")
	}
	linkLocals := func(n int) []byte {
		a := netip.MustParseAddr("fe80::1").As16()
		binary.BigEndian.PutUint32(a[12:], uint32(n))
		return udpPacket(netip.AddrPortFrom(netip.AddrFrom16(a), 4000), netip.AddrPortFrom(lan6, 53), "")
	}
	strangers := func(n int) []byte { return udpPacket(spoofed(n), wan(8080), "") }
	for _, c := range []struct {
		name        string
		source, all int
		in          string
		packet      func(n int) []byte
		burst, more int // how many pass at once, and how many a second later
		reason      Reason
	}{
		{"one address", 10, -1, "lan", fromLAN, 4 * 10, 10, SourceRate},
		{"one address, SYN", 10, -1, "lan", func(n int) []byte { return syn(nth(laptop, n%ports), nth(phone, n/ports)) }, 4 * 10, 10, SourceRate},
		{"one address, echo", 10, -1, "lan", func(n int) []byte {
			return echo(nth(laptop, n%ports), netip.AddrPortFrom(spoofed(n/ports).Addr(), 0), false)
		}, 4 * 10, 10, SourceRate},
		{"one address of IPv6", 10, -1, "lan", fromLAN6, 4 * 10, 10, SourceRate},
		{"one network of IPv6", 10, -1, "lan", addresses6, 4 * 10, 10, SourceRate},
		{"many networks of IPv6", 10, 100, "wan", networks6, 2 * 100, 100, NewRate},
		{"link-local hosts", 10, 100, "lan", linkLocals, 2 * 100, 100, NewRate},
		{"many addresses", 10, 100, "wan", strangers, 2 * 100, 100, NewRate},
		{"the source's bound before the interface's", 10, 100, "lan", fromLAN, 4 * 10, 10, SourceRate},
		{"the interface's bound before the source's", 100, 10, "lan", fromLAN, 2 * 10, 10, NewRate},
		{"by default, one address", 0, -1, "lan", fromLAN, 4 * 4096, 4096, SourceRate},
		{"by default, an interface", -1, 0, "lan", fromLAN, 2 * 8192, 8192, NewRate},
		{"no bound", -1, -1, "lan", fromLAN, 40000, 40000, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHome(t, "allow forward", rates(c.source, c.all), func(c *Config) { c.Connections = 1 << 20 })
			n := 0
			burst := func(want int) {
				t.Helper()
				before, passed := h.f.Stats().Dropped[c.reason], 0
				for range 40000 {
					if h.pass(c.in, c.packet(n)) != nil {
						passed++
					} else if h.last.Reason != c.reason || len(h.last.Reply) > 0 {
						t.Fatalf("dropped: %v, with a reply of %d octets; want %v, and none", h.last.Reason, len(h.last.Reply), c.reason)
					}
					n++
				}
				if lost := int(h.f.Stats().Dropped[c.reason] - before); passed != want || c.reason != 0 && lost != 40000-want {
					t.Errorf("%d pass and %d are counted as %q, want %d to pass", passed, lost, c.reason, want)
				}
			}
			burst(c.burst)
			h.now += time.Second
			burst(c.more)
		})
	}
}

// TestBeginningOthers: who has spent his rate is who is refused, and nobody else.
func TestBeginningOthers(t *testing.T) {
	h := newHome(t, "nat on wan from 192.0.2.0/24\nforward udp 203.0.113.1:8080 to 192.0.2.20:80\npolicy in drop", rates(10, 100))
	h.shake("lan", laptop, phone, "wan")
	h.must("lan", udpPacket(laptop, phone, "q"), wan(4000), phone)
	spend := func(in string, packet func(n int) []byte, want Reason) {
		t.Helper()
		for n := range 1000 {
			h.pass(in, packet(n))
		}
		h.mustNot(in, packet(1000), want)
	}
	spend("lan", func(n int) []byte { return udpPacket(nth(laptop, 1+n), other, "") }, SourceRate)

	ack := tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500}
	established := func() {
		t.Helper()
		h.must("lan", tcpPacket(laptop, phone, ack), wan(4000), phone)
		h.must("wan", tcpPacket(phone, wan(4000), tcp.Segment{Flags: tcp.ACK, Seq: 301, Ack: 101, Window: 500}), phone, laptop)
		h.must("lan", udpPacket(laptop, phone, "q"), wan(4000), phone)
		h.must("wan", udpPacket(phone, wan(4000), "a"), phone, laptop)
		h.must("wan", unreachable(other.Addr(), tcpPacket(wan(4000), phone, ack)), netip.AddrPortFrom(other.Addr(), 0), netip.AddrPortFrom(laptop.Addr(), 0))
	}
	established()
	neighbour := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.11"), 3999)
	h.must("lan", udpPacket(neighbour, phone, ""), wan(3999), phone)

	spend("wan", func(n int) []byte { return udpPacket(spoofed(n), wan(8080), "") }, NewRate)
	established()
	h.must("lan", udpPacket(neighbour, other, ""), wan(3999), other)
	h.must("wan", udpPacket(other, wan(3999), ""), other, neighbour) // an answer
	before := h.f.beginnings
	before.sources = slices.Clone(before.sources)
	for n := range 1000 { // the host's own begin as they like, also from an address that has spent its rate
		if h.emit("wan", udpPacket(nth(wan(20000), n), phone, "")) == nil || h.emit("wan", udpPacket(nth(laptop, 30000+n), other, "")) == nil {
			t.Fatalf("packet %d of the host's own: %v", n, h.last.Reason)
		}
	}
	if after := h.f.beginnings; after.ways != before.ways || !slices.Equal(after.sources, before.sources) {
		t.Error("the host's own packets were charged to somebody")
	}
	if n := h.f.Stats().Evicted; n != 0 {
		t.Errorf("%d connections were given up", n)
	}
}

// TestBeginningCharge: what does not become a connection is at nobody's cost, be it dropped by the rules or a part of one.
func TestBeginningCharge(t *testing.T) {
	h := newHome(t, masquerade+"\npolicy in drop\nallow in tcp to any port 22", rates(2, 2))
	for range 1000 {
		h.mustNot("wan", syn(phone, wan(23)), Denied)
		h.mustNot("wan", tcpPacket(phone, wan(22), tcp.Segment{Flags: tcp.ACK, Seq: 1, Ack: 1}), Denied)
	}
	for n := range 4 {
		h.must("wan", syn(nth(phone, n), wan(22)), nth(phone, n), wan(22))
	}
	h.mustNot("wan", syn(nth(phone, 4), wan(22)), NewRate)
	if n := h.f.Stats().Connections; n != 4 {
		t.Errorf("%d connections, want 4", n)
	}
}

// TestBeginningRepeated: a SYN that comes again costs as much as the first, and is refused where that comes too soon; what
// else belongs to its connection passes, and is free.
func TestBeginningRepeated(t *testing.T) {
	h := newHome(t, masquerade, rates(-1, 5))
	for range 5 {
		h.must("lan", syn(laptop, phone), wan(4000), phone)
	}
	answer := tcpPacket(phone, wan(4000), tcp.Segment{Flags: tcp.SYN | tcp.ACK, Seq: 300, Ack: 101, Window: 64000})
	for range 100 { // by another interface, and paid for by the SYN
		h.must("wan", answer, phone, laptop)
	}
	for range 5 {
		h.must("lan", syn(laptop, phone), wan(4000), phone)
	}
	h.mustNot("lan", syn(laptop, phone), NewRate)
	for range 100 {
		h.must("lan", tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500}), wan(4000), phone)
		h.must("wan", answer, phone, laptop)
	}
	h.mustNot("lan", syn(laptop, phone), NewRate)
	h.now += time.Second
	for range 5 {
		h.must("lan", syn(laptop, phone), wan(4000), phone)
	}
	h.mustNot("lan", syn(laptop, phone), NewRate)
}

// TestBeginningAgain: a SYN that would begin a connection anew costs as much as any, and one that comes too soon leaves the
// connection as it was.
func TestBeginningAgain(t *testing.T) {
	h := newHome(t, masquerade, rates(-1, 5))
	begin := func(seq tcp.Seq) []byte {
		return tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.SYN, Seq: seq, Window: 64000})
	}
	for n := range tcp.Seq(10) {
		h.must("lan", begin(1000*n), wan(4000), phone)
	}
	h.mustNot("lan", begin(10000), NewRate)
	h.must("wan", tcpPacket(phone, wan(4000), tcp.Segment{Flags: tcp.SYN | tcp.ACK, Seq: 300, Ack: 9001, Window: 64000}), phone, laptop)
	if s := h.f.Stats(); s.Connections != 1 || s.Opened != 10 {
		t.Errorf("%d connections, %d opened; want 1 and 10", s.Connections, s.Opened)
	}
}

// TestBeginningCollision: two sources that meet in one place of the table share its rate, and no third is touched.
func TestBeginningCollision(t *testing.T) {
	h := newHome(t, "", rates(10, -1))
	place := func(a netip.AddrPort) uint32 {
		return h.f.key.hash((&tuple{src: a.Addr().As16()}).sender()) % numSources
	}
	same, apart := 0, 0
	for n := 1; (same == 0 || apart == 0) && n < 1<<20; n++ {
		if place(spoofed(n)) == place(spoofed(0)) {
			same = n
		} else {
			apart = n
		}
	}
	for n := range 40 {
		h.must("wan", udpPacket(nth(spoofed(0), n), server, ""), nth(spoofed(0), n), server)
	}
	h.mustNot("wan", udpPacket(spoofed(same), server, ""), SourceRate)
	h.must("wan", udpPacket(spoofed(apart), server, ""), spoofed(apart), server)
}

// TestBeginningMemory: a million sources, most of them made up, take no more room than there was when the flood began.
func TestBeginningMemory(t *testing.T) {
	const limit = 1000
	h := newHome(t, "", rates(100, 1<<20), func(c *Config) { c.Connections = limit })
	q := udpPacket(phone, server, "")
	flood := func(from, to int) {
		for i := from; i < to; i++ {
			h.now += time.Microsecond
			binary.BigEndian.PutUint32(q[12:], uint32(i)*2654435761|1)
			p := &h.last
			p.Reset(q)
			p.In, p.Out, p.Direction = "wan", "lan", Forward
			if h.f.Arrive(h.now, p) == Accept {
				h.f.Filter(h.now, p)
			}
		}
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	flood(0, 2*limit)
	before, slots := heap(), len(h.f.index.slots)
	flood(2*limit, 1_000_000)
	if after := heap(); after > before+64<<10 {
		t.Errorf("the heap grew from %d to %d octets", before, after)
	}
	s := h.f.Stats()
	if len(h.f.beginnings.sources) != numSources || len(h.f.index.slots) != slots || s.Connections > limit {
		t.Errorf("%d places for sources, %d index slots, %d connections", len(h.f.beginnings.sources), len(h.f.index.slots), s.Connections)
	}
	if s.Opened+s.Dropped[SourceRate]+s.Dropped[NewRate]+s.Dropped[Malformed] != 1_000_000 || s.Opened < 100_000 {
		t.Errorf("of a million packets %d began a connection and %d + %d came too soon", s.Opened, s.Dropped[SourceRate], s.Dropped[NewRate])
	}
	runtime.KeepAlive(h)
}
