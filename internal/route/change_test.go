package route

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// audit looks at the shape of a trie: each node stands below the prefix of its parent, in the right place, with as many
// entries as it says; and is there for a reason.
func audit(t *testing.T, n *node[int]) (entries int) {
	t.Helper()
	if n == nil {
		return 0
	}
	if len(n.entries) == 0 && len(n.nodes) < 2 {
		t.Fatalf("a node at bit %d without a route has %d children", n.at, len(n.nodes))
	}
	i, k := 0, 0
	for bit := range uint(64) {
		if n.prefixes>>bit&1 != 0 {
			if key, at, want := place(n.entries[i].Prefix); at != n.at || want != 1<<bit || !key.shares(n.key, at) {
				t.Fatalf("%v stands at bit %d as %d", n.entries[i].Prefix, n.at, bit)
			}
			i++
		}
		if n.children>>bit&1 != 0 {
			c := n.nodes[k]
			if c.at <= n.at || !c.key.shares(n.key, n.at) || c.key.chunk(n.at) != uint64(bit) {
				t.Fatalf("node at bit %d: child %d is at bit %d with %x", n.at, bit, c.at, c.key)
			}
			entries += audit(t, c)
			k++
		}
	}
	if i != len(n.entries) || k != len(n.nodes) {
		t.Fatalf("node at bit %d: %d entries and %d children, counted %d and %d", n.at, len(n.entries), len(n.nodes), i, k)
	}
	return entries + i
}

// Every table on the way stays what it was, and the last is as if made at once.
func TestTablesAreImmutable(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		now := map[netip.Prefix]int{}
		type version struct {
			table *Table[int]
			holds map[netip.Prefix]int
		}
		var versions []version
		var table *Table[int]
		for i := range 120 {
			a := dense(r)
			p := netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked()
			if r.IntN(3) == 0 && len(now) > 0 {
				for p = range now {
					break
				}
				delete(now, p)
				table = table.Delete(p)
			} else {
				now[p] = i
				table = table.Insert(p, i)
			}
			versions = append(versions, version{table, maps.Clone(now)})
		}
		for p := range now {
			table = table.Delete(p)
		}
		if table.Len() != 0 || table.v4 != nil || table.v6 != nil {
			t.Fatalf("seed %d: %d entries left of a table that lost all", seed, table.Len())
		}
		for n, v := range versions {
			if got := audit(t, v.table.v4) + audit(t, v.table.v6); got != len(v.holds) || v.table.Len() != got {
				t.Fatalf("seed %d, version %d: %d entries, Len %d; want %d", seed, n, got, v.table.Len(), len(v.holds))
			}
			var es []Entry[int]
			for e := range v.table.All() {
				if want, ok := v.holds[e.Prefix]; !ok || want != e.Value {
					t.Fatalf("seed %d, version %d: %v is %d, want %d", seed, n, e.Prefix, e.Value, want)
				}
				es = append(es, e)
			}
			for range 20 {
				a := dense(r)
				got, gok := v.table.Lookup(a)
				if want, wok := scan(es, a); got != want || gok != wok {
					t.Fatalf("seed %d, version %d: Lookup(%v) = %d, %v; want %d, %v", seed, n, a, got, gok, want, wok)
				}
			}
		}
	}
}

func TestDeleteWhatIsNotThere(t *testing.T) {
	table := New(entries("198.51.100.0/24"))
	for _, p := range []netip.Prefix{{}, netip.MustParsePrefix("198.51.100.0/25"), netip.MustParsePrefix("198.51.0.0/16"),
		netip.MustParsePrefix("::/0"), netip.MustParsePrefix("203.0.113.0/24")} {
		if got := table.Delete(p); got != table {
			t.Errorf("Delete(%v) made another table", p)
		}
		if v, ok := table.Find(p); ok {
			t.Errorf("Find(%v) = %q", p, v)
		}
	}
	if table.Insert(netip.Prefix{}, "") != table {
		t.Error("Insert of the zero Prefix made another table")
	}
	if got := table.Delete(netip.MustParsePrefix("198.51.100.77/24")); got.Len() != 0 || table.Len() != 1 {
		t.Errorf("Delete of a prefix that is not masked leaves %d, and %d in the old table", got.Len(), table.Len())
	}
}

func TestLookupFunc(t *testing.T) {
	table := New(entries("0.0.0.0/0", "198.51.96.0/20", "198.51.100.0/22", "198.51.100.0/24", "198.51.100.7/32", "2001:db8::/32"))
	for _, tt := range []struct {
		not  []string
		want string
	}{
		{nil, "198.51.100.7/32"},
		{[]string{"198.51.100.7/32"}, "198.51.100.0/24"},
		{[]string{"198.51.100.7/32", "198.51.100.0/24"}, "198.51.100.0/22"},
		{[]string{"198.51.100.7/32", "198.51.100.0/24", "198.51.100.0/22"}, "198.51.96.0/20"},
		{[]string{"198.51.100.7/32", "198.51.100.0/24", "198.51.100.0/22", "198.51.96.0/20"}, "0.0.0.0/0"},
		{[]string{"198.51.100.7/32", "198.51.100.0/24", "198.51.100.0/22", "198.51.96.0/20", "0.0.0.0/0"}, ""},
	} {
		got, ok := table.LookupFunc(netip.MustParseAddr("198.51.100.7"), func(v string) bool { return !slices.Contains(tt.not, v) })
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("without %q: %q, %v; want %q", tt.not, got, ok, tt.want)
		}
	}
}

// backbone makes n routes as a router has them: most of 16 to 24 bits.
func backbone(n int, six bool) (es []Entry[int]) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		var b [16]byte
		for k := range b {
			b[k] = byte(r.Uint32())
		}
		if six {
			b[0] = 0x20
			es = append(es, Entry[int]{netip.PrefixFrom(netip.AddrFrom16(b), 20+4*r.IntN(8)), i})
		} else {
			es = append(es, Entry[int]{netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), 8+r.IntN(17)), i})
		}
	}
	return es
}

// lookups are addresses in the prefixes of es.
func lookups(es []Entry[int]) (addrs [1024]netip.Addr) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range addrs {
		addrs[i] = es[r.IntN(len(es))].Prefix.Addr()
	}
	return addrs
}

var sizes = []int{10, 1000, 100_000}

func BenchmarkLookup(b *testing.B) {
	for _, six := range []bool{false, true} {
		for _, n := range sizes {
			b.Run(fmt.Sprintf("IPv%d/%d", map[bool]int{false: 4, true: 6}[six], n), func(b *testing.B) {
				es := backbone(n, six)
				table, addrs := New(es), lookups(es)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					table.Lookup(addrs[i%len(addrs)])
				}
			})
		}
	}
}

func BenchmarkInsertDelete(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			table := New(backbone(n, false))
			more := backbone(n+1024, false)[n:]
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table.Insert(more[i%len(more)].Prefix, 1).Delete(more[i%len(more)].Prefix)
			}
		})
	}
}
