//go:build !race

package route

import (
	"net/netip"
	"testing"
)

func TestLookupAllocs(t *testing.T) {
	table := New(entries("0.0.0.0/0", "198.51.100.0/24", "::/0", "2001:db8::/32"))
	a, b := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	if n := testing.AllocsPerRun(100, func() {
		table.Lookup(a)
		table.Lookup(b)
		table.LookupFunc(a, func(v string) bool { return v != "198.51.100.0/24" })
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// A change costs the nodes on its way, not the table.
func TestChangeAllocs(t *testing.T) {
	table := New(backbone(100_000, false))
	p := netip.MustParsePrefix("198.51.100.0/24")
	if n := testing.AllocsPerRun(100, func() { table.Insert(p, 1).Delete(p) }); n > 60 {
		t.Errorf("%v allocations to add a route to 100,000 and to take it away, want a few for each of some nodes", n)
	}
}
