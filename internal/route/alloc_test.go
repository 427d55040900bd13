//go:build !race

package route

import (
	"net/netip"
	"testing"
)

func TestLookupAllocs(t *testing.T) {
	table := New(entries("0.0.0.0/0", "198.51.100.0/24", "::/0", "2001:db8::/32"))
	a, b := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(100, func() { table.Lookup(a); table.Lookup(b) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
