//go:build !race

package checksum

import (
	"net/netip"
	"testing"
)

func TestNoAllocation(t *testing.T) {
	bs := [][]byte{make([]byte, 33), make([]byte, 1460)}
	a := netip.MustParseAddr("2001:db8::1")
	var sum uint16
	if n := testing.AllocsPerRun(100, func() { sum = Vec(bs, Pseudo(a, a, 6, 1493)) }); n != 0 {
		t.Errorf("%v allocations a packet (sum %#04x), want 0", n, sum)
	}
}
