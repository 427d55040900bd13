package firewall

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/pace"
	"github.com/seed87e66d9f/waybill/tcp"
)

// BenchmarkForward is Arrive and Filter for packets of established connections, of so many, in random order: filtered
// only, and masqueraded. (The checksum of the segment that it makes of one is not right, and not looked at.)
func BenchmarkForward(b *testing.B) {
	for _, kind := range []struct{ name, rules string }{{"filter", filter + "allow forward on lan"}, {"nat", filter + "allow forward on lan\nnat on wan"}} {
		for _, n := range []int{1, 1000, 100000} {
			b.Run(fmt.Sprintf("%s/%d", kind.name, n), func(b *testing.B) {
				// Two external addresses, since one has not ports enough.
				rules := kind.rules
				if kind.name == "nat" {
					rules += " to 203.0.113.1,203.0.113.2"
				}
				h := newHome(b, rules, rates(-1, -1), func(c *Config) { c.Connections = n })
				source := func(i int) netip.AddrPort {
					return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i%200)}), uint16(1024+i/200))
				}
				for i := range n {
					h.shake("lan", source(i), phone, "wan")
				}
				r := rand.New(rand.NewPCG(1, 2))
				order := make([]int32, 1<<14)
				for i := range order {
					order[i] = int32(r.IntN(n))
				}
				p := &h.last
				segment := tcpPacket(laptop, phone, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500})
				data := make([]byte, len(segment))
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					src := source(int(order[i&(len(order)-1)]))
					copy(data, segment)
					data[15] = src.Addr().As4()[3]
					binary.BigEndian.PutUint16(data[20:], src.Port())
					p.Reset(data)
					p.In, p.Out, p.Direction = "lan", "wan", Forward
					if h.f.Arrive(h.now, p) != Accept || h.f.Filter(h.now, p) != Accept {
						b.Fatal(p.Reason)
					}
				}
			})
		}
	}
}

// BenchmarkRules is the first packet of a flow that a hundred rules do not match and the policy drops.
func BenchmarkRules(b *testing.B) {
	text := "policy in drop\n"
	for i := range 100 {
		text += fmt.Sprintf("allow in tcp from 192.0.2.0/24 to any port %d\n", 1000+i)
	}
	h := newHome(b, text)
	s := syn(phone, toRouter)
	p := &h.last
	b.ReportAllocs()
	for range b.N {
		p.Reset(s)
		p.In, p.Direction = "wan", In
		h.f.Arrive(h.now, p)
		h.f.Filter(h.now, p)
	}
}

// BenchmarkHurried is a packet that would begin a connection and comes too soon, of one source and of ever new ones, while
// so many connections are tracked.
func BenchmarkHurried(b *testing.B) {
	for _, n := range []int{0, 16384} {
		for _, c := range []struct {
			name string
			srcs int
		}{{"one", 1}, {"many", 1 << 20}} {
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				h := newHome(b, filter+"allow forward on lan\nnat on wan", rates(-1, -1))
				for i := range n {
					h.shake("lan", netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i%200)}), uint16(1024+i/200)), phone, "wan")
				}
				h.f.beginnings.source, h.f.beginnings.way = pace.New(1, time.Second, 0), pace.New(1, time.Second, 0)
				h.f.beginnings.sources = make([]time.Duration, numSources)
				if c.srcs == 1 {
					h.f.beginnings.way = pace.New(1, time.Second, 1)
				}
				s := syn(laptop, phone)
				p := &h.last
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					binary.BigEndian.PutUint32(s[12:], uint32(i%c.srcs)*2654435761)
					binary.BigEndian.PutUint16(s[20:], uint16(i))
					p.Reset(s)
					p.In = "lan"
					if h.f.Arrive(h.now, p) == Accept {
						b.Fatal("it may")
					}
				}
			})
		}
	}
}
