//go:build !race

package firewall

import (
	"net/netip"
	"testing"

	"github.com/seed87e66d9f/waybill/tcp"
)

// TestAllocations: packets of known connections, translated or not, and packets that are refused allocate nothing.
func TestAllocations(t *testing.T) {
	h := newHome(t, masquerade+"\npolicy in reject", rates(1, 100))
	h.shake("lan", laptop, phone, "wan")
	for n := range 10 {
		h.pass("lan", udpPacket(nth(server, n+1), phone, ""))
		h.pass("lan", syn(laptop, phone))
	}
	if d := h.f.Stats().Dropped; d[SourceRate] != 13 { // of the ten datagrams four pass, of the ten SYNs three, since one has been before
		t.Fatalf("%d came too soon", d[SourceRate])
	}
	for _, c := range []struct {
		name, in, out string
		d             Direction
		b             []byte
	}{
		{"established", "lan", "wan", Forward, tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500})},
		{"its answer", "wan", "lan", Forward, tcpPacket(phone, wan(4000), tcp.Segment{Flags: tcp.ACK, Seq: 301, Ack: 101, Window: 500})},
		{"an error about it", "wan", "lan", Forward, unreachable(other.Addr(), tcpPacket(wan(4000), phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301}))},
		{"rejected", "wan", "", In, syn(phone, toRouter)},
		{"too soon", "lan", "wan", Forward, udpPacket(server, phone, "")},
		{"again too soon", "lan", "wan", Forward, syn(laptop, phone)},
	} {
		p := &h.last
		data := make([]byte, len(c.b))
		if n := testing.AllocsPerRun(1000, func() {
			copy(data, c.b)
			p.Reset(data)
			p.In, p.Out, p.Direction = c.in, c.out, c.d
			if h.f.Arrive(h.now, p) == Accept {
				h.f.Filter(h.now, p)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations a packet", c.name, n)
		}
	}
}

// TestMemory: a tracked connection takes about what Config.Connections says.
func TestMemory(t *testing.T) {
	const n = 20000
	r := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			h := newHome(b, "", rates(-1, -1))
			q := udpPacket(laptop, phone, "")
			for i := range n {
				a := netip.AddrPortFrom(spoofed(i).Addr(), 53)
				copy(q[12:], a.Addr().AsSlice())
				p := &h.last
				p.Reset(q)
				p.In, p.Out, p.Direction = "wan", "lan", Forward
				h.f.Arrive(h.now, p)
				h.f.Filter(h.now, p)
			}
		}
	})
	if per := r.AllocedBytesPerOp() / n; per > 400 { // allocated, growing included
		t.Errorf("%d octets a connection", per)
	}
}
