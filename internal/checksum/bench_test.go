package checksum

import (
	"fmt"
	"net/netip"
	"testing"
)

// BenchmarkSum sums an IPv4 header, the headers of a segment, a packet and a super-segment.
func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 60, 1500, 65535} {
		b.Run(fmt.Sprintf("bytes=%d", n), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				Sum(data, 0)
			}
		})
	}
}

// BenchmarkPseudo sums the pseudo-header of either family.
func BenchmarkPseudo(b *testing.B) {
	for _, a := range []string{"198.51.100.1", "2001:db8:51::1"} {
		b.Run(a, func(b *testing.B) {
			addr := netip.MustParseAddr(a)
			for b.Loop() {
				Pseudo(addr, addr, 6, 1480)
			}
		})
	}
}
