package route

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

func entries(prefixes ...string) []Entry[string] {
	var es []Entry[string]
	for _, p := range prefixes {
		es = append(es, Entry[string]{netip.MustParsePrefix(p), p})
	}
	return es
}

func TestLookup(t *testing.T) {
	both := New(entries("0.0.0.0/0", "198.51.100.0/24", "198.51.100.128/25", "198.51.100.7/32", "255.255.255.255/32",
		"::/0", "2001:db8::/32", "2001:db8:0:1::/64", "2001:db8::1/128", "fe80::/10", "ffff::/16"))
	some := New(entries("198.51.100.64/26", "2001:db8::/64", "::ffff:0:0/96"))
	tests := []struct {
		name  string
		table *Table[string]
		addr  string
		want  string // "" : none
	}{
		{"default", both, "203.0.113.1", "0.0.0.0/0"},
		{"first address of a prefix", both, "198.51.100.0", "198.51.100.0/24"},
		{"last address before a longer one", both, "198.51.100.127", "198.51.100.0/24"},
		{"longer prefix", both, "198.51.100.128", "198.51.100.128/25"},
		{"last address where two prefixes end", both, "198.51.100.255", "198.51.100.128/25"},
		{"after both have ended", both, "198.51.101.0", "0.0.0.0/0"},
		{"host", both, "198.51.100.7", "198.51.100.7/32"},
		{"after the host", both, "198.51.100.8", "198.51.100.0/24"},
		{"all ones", both, "255.255.255.255", "255.255.255.255/32"},
		{"v6 default", both, "2001:db9::", "::/0"},
		{"v6 /32", both, "2001:db8:0:2::1", "2001:db8::/32"},
		{"v6 /64", both, "2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"},
		{"v6 /128", both, "2001:db8::1", "2001:db8::1/128"},
		{"v6 /10", both, "febf::1", "fe80::/10"},
		{"v6 last address", both, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff::/16"},
		{"v4-mapped is IPv6", both, "::ffff:198.51.100.7", "::/0"},
		{"v4-mapped prefix", some, "::ffff:198.51.100.7", "::ffff:0:0/96"},
		{"zone", both, "fe80::1%eth0", ""},
		{"before the only one", some, "198.51.100.63", ""},
		{"in the only one", some, "198.51.100.64", "198.51.100.64/26"},
		{"behind the only one", some, "198.51.100.128", ""},
		{"v6 without default", some, "2001:db8:0:1::", ""},
		{"nil table", nil, "198.51.100.64", ""},
		{"zero table", new(Table[string]), "2001:db8::", ""},
		{"empty table", New[string](nil), "2001:db8::", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := tt.table.Lookup(netip.MustParseAddr(tt.addr))
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("Lookup(%s) = %q, %v; want %q", tt.addr, got, ok, tt.want)
			}
		})
	}
	if _, ok := both.Lookup(netip.Addr{}); ok {
		t.Error("the zero Addr has a route")
	}
}

func TestNewMasksAndKeepsTheFirst(t *testing.T) {
	in := []Entry[int]{
		{netip.MustParsePrefix("198.51.100.9/24"), 1},
		{netip.Prefix{}, 2},
		{netip.MustParsePrefix("198.51.100.0/24"), 3},
		{netip.MustParsePrefix("2001:db8::5/24"), 4},
		{netip.MustParsePrefix("0.0.0.0/0"), 5},
	}
	table := New(in)
	want := []Entry[int]{
		{netip.MustParsePrefix("198.51.100.0/24"), 1},
		{netip.MustParsePrefix("2001:d00::/24"), 4},
		{netip.MustParsePrefix("0.0.0.0/0"), 5},
	}
	if got := slices.Collect(table.All()); !slices.Equal(got, want) {
		t.Errorf("All = %v, want %v", got, want)
	}
	if table.Len() != len(want) {
		t.Errorf("Len = %d, want %d", table.Len(), len(want))
	}
	for range table.All() {
		break // a range that stops is no panic
	}
	if in[0].Prefix.Addr() != netip.MustParseAddr("198.51.100.9") {
		t.Error("New changed the caller's slice")
	}
	var none *Table[int]
	if none.Len() != 0 || len(slices.Collect(none.All())) != 0 {
		t.Error("a nil table is not empty")
	}
}

// scan is the definition of a longest-prefix match.
func scan(es []Entry[int], a netip.Addr) (v int, ok bool) {
	best := -1
	for _, e := range es {
		if e.Prefix.Contains(a) && e.Prefix.Bits() > best {
			best, v, ok = e.Prefix.Bits(), e.Value, true
		}
	}
	return v, ok
}

// dense returns an address out of few, so that prefixes nest and touch.
func dense(r *rand.Rand) netip.Addr {
	b := [16]byte{}
	for i := range b {
		b[i] = [...]byte{0, 0, 0, 255, 255, 1, 128, byte(r.Uint32())}[r.IntN(8)]
	}
	switch r.IntN(9) {
	case 0:
		return netip.AddrFrom16([16]byte{10: 255, 11: 255, 12: b[12], 13: b[13], 14: b[14], 15: b[15]})
	case 1, 2, 3, 4:
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16(b)
}

func TestAgainstLinearScan(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var es []Entry[int]
		for i := range r.IntN(1 + int(seed)) {
			a := dense(r)
			es = append(es, Entry[int]{netip.PrefixFrom(a, r.IntN(a.BitLen()+1)), i})
		}
		table := New(es)
		check := func(a netip.Addr) {
			got, gok := table.Lookup(a)
			want, wok := scan(es, a)
			if got != want || gok != wok {
				t.Fatalf("seed %d: Lookup(%v) = %d, %v; want %d, %v; of %v", seed, a, got, gok, want, wok, es)
			}
		}
		for range 200 {
			check(dense(r))
		}
		for _, e := range es { // the edges
			first := e.Prefix.Masked().Addr()
			check(first)
			if a := first.Prev(); a.IsValid() {
				check(a)
			}
		}
		for a := range table.All() {
			if v, ok := table.Find(a.Prefix); !ok || v != a.Value {
				t.Fatalf("seed %d: Find(%v) = %d, %v; want %d", seed, a.Prefix, v, ok, a.Value)
			}
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add([]byte("\x04\x18\xc6\x33\x64\x00\x06\x20\x20\x01\x0d\xb8"), []byte("\xc6\x33\x64\x01"))
	f.Fuzz(func(t *testing.T, routes, addr []byte) {
		addrOf := func(b []byte, six bool) netip.Addr {
			var full [16]byte
			copy(full[:], b)
			if six {
				return netip.AddrFrom16(full)
			}
			return netip.AddrFrom4([4]byte(full[:4]))
		}
		var es []Entry[int]
		for i := 0; len(routes) >= 6; i++ {
			a := addrOf(routes[2:min(18, len(routes))], routes[0]&2 != 0)
			es = append(es, Entry[int]{netip.PrefixFrom(a, int(routes[1])%(a.BitLen()+1)), i})
			routes = routes[6:]
		}
		table := New(es)
		for _, six := range []bool{false, true} {
			a := addrOf(addr, six)
			got, gok := table.Lookup(a)
			if want, wok := scan(es, a); got != want || gok != wok {
				t.Errorf("Lookup(%v) = %d, %v; want %d, %v; of %v", a, got, gok, want, wok, es)
			}
		}
	})
}

func TestManyRoutes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var es []Entry[int]
	for i := range 100_000 {
		a := netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		es = append(es, Entry[int]{netip.PrefixFrom(a, 8+r.IntN(17)), i})
	}
	table := New(es)
	for range 20 {
		a := netip.AddrFrom4([4]byte{byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32())})
		got, gok := table.Lookup(a)
		if want, wok := scan(es, a); got != want || gok != wok {
			t.Errorf("Lookup(%v) = %d, %v; want %d, %v", a, got, gok, want, wok)
		}
	}
}

func ExampleTable_Lookup() {
	table := New([]Entry[string]{
		{netip.MustParsePrefix("0.0.0.0/0"), "via 198.51.100.1"},
		{netip.MustParsePrefix("198.51.100.0/24"), "on the link"},
	})
	for _, a := range []string{"198.51.100.7", "203.0.113.9"} {
		how, _ := table.Lookup(netip.MustParseAddr(a))
		fmt.Println(a, how)
	}
	// Output:
	// 198.51.100.7 on the link
	// 203.0.113.9 via 198.51.100.1
}
