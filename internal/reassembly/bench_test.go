package reassembly

import (
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
)

// BenchmarkFragment is one fragment of a packet of 60,000 octets in 41 of them, in a table that is empty, or full of what never
// becomes whole.
func BenchmarkFragment(b *testing.B) {
	for _, x := range []struct {
		name  string
		waits int
	}{{"empty", 0}, {"full", 10_000}} {
		b.Run(x.name, func(b *testing.B) {
			table, s := New(Config{}), sender{src: client4, dst: server4, id: 1}
			for n := range x.waits {
				evil := s
				evil.id = uint32(n)
				evil.src = server4.Next()
				for range n & 7 {
					evil.src = evil.src.Next()
				}
				give(b, table, 0, evil.part(8, true, make([]byte, 8)))
			}
			parts := s.cut(random(1, 60_000), 1480)
			headers := make([]ipv4.Header, len(parts))
			for k := range parts {
				headers[k].Decode(parts[k])
			}
			buf := make([]byte, 1<<16)
			b.SetBytes(1480)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				k := n % len(parts)
				if r := table.IPv4(time.Second, &headers[k], parts[k], Way{}, buf); r.Verdict == Full {
					b.Fatal(r)
				}
			}
		})
	}
}
