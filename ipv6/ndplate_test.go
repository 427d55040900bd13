package ipv6

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// rich is a Router Advertisement with all that RFC 4191 and RFC 8106 add.
func rich(t testing.TB) NDP {
	n := NDP{Type: RouterAdvertisement, Lifetime: 1800, Preference: High, MTU: 1400, NumRoutes: 5, NumServers: 4, NumSearch: 2}
	for i, bits := range []int{0, 8, 64, 65, 128} {
		n.Routes[i] = Route{netip.PrefixFrom(alice, bits).Masked(), Preference(i%3 - 1), uint32(i)}
	}
	for i, lifetime := range []uint32{600, 600, 0, Infinite} {
		n.Servers[i] = Server{bob, lifetime}
	}
	for i, domains := range [][]string{{"example.com", "a.b_c.example"}, {"corp.example."}} {
		n.Search[i].Lifetime = uint32(i * 60)
		for _, d := range domains {
			if !n.Search[i].Add(d) {
				t.Fatalf("%q is refused", d)
			}
		}
	}
	return n
}

func TestLateOptionsRoundTrip(t *testing.T) {
	for _, n := range []NDP{rich(t), {Type: RouterAdvertisement, Lifetime: 1, Preference: Low}} {
		m := n.Encode(make([]byte, n.Len()))
		var got NDP
		if err := got.Decode(&m); err != nil || got != n {
			t.Errorf("%v\n got %+v\nwant %+v", err, got, n)
		}
	}
	n := rich(t)
	if got := slices.Collect(n.Search[0].All()); !slices.Equal(got, []string{"example.com", "a.b_c.example"}) {
		t.Errorf("the domains are %q", got)
	}
	n = NDP{Type: RouterAdvertisement, Preference: High, NumSearch: 1} // a router that serves no more; a list without a name
	m := n.Encode(make([]byte, n.Len()))
	var got NDP
	if err := got.Decode(&m); err != nil || got != (NDP{Type: RouterAdvertisement}) {
		t.Errorf("RFC 4191 §2.2: %v, %+v", err, got)
	}
}

// advert is a Router Advertisement with these octets of options.
func advert(options string) *ICMP {
	return &ICMP{Type: RouterAdvertisement, Rest: 1800, Body: append(make([]byte, 8), options...)}
}

func TestLateOptionsMalformed(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	for _, c := range []struct {
		name    string
		options string
		err     error
	}{
		{"A57 servers of length 2", "\x19\x02" + zeros(14), ErrNDPOption},
		{"A57 servers of length 4 (CVE-2020-16898)", "\x19\x04" + zeros(30), ErrNDPOption},
		{"A57 servers of length 1", "\x19\x01" + zeros(6), ErrNDPOption},
		{"A57 servers beyond the message", "\x19\x05" + zeros(22), ErrNDPOption},
		{"A57 search list without names", "\x1f\x01" + zeros(6), ErrNDPOption},
		{"A57 route of length 0", "\x18\x00" + zeros(6), ErrNDPOption},
		{"RFC 4191 §2.3 a /64 in no octets", "\x18\x01\x40" + zeros(5), nil},
		{"RFC 4191 §2.3 a /65 in eight", "\x18\x02\x41" + zeros(13), nil},
		{"A56 a prefix of 129 bits", "\x18\x03\x81" + zeros(21), nil},
		{"RFC 4191 §2.3 the reserved preference", "\x18\x02\x40\x10" + zeros(12), nil},
		{"RFC 8106 §5.2 compressed", "\x1f\x02" + zeros(6) + "\x03abc\xc0\x00\x00\x00", nil},
		{"RFC 8106 §5.2 unfinished", "\x1f\x02" + zeros(6) + "\x07example", nil},
		{"RFC 8106 §5.2 a label that is longer", "\x1f\x02" + zeros(6) + "\x3fexample", nil},
		{"no name of a host", "\x1f\x02" + zeros(6) + "\x03a.c\x00\x00\x00\x00", nil},
		{"RFC 8106 §5.2 nothing but zeros", "\x1f\x02" + zeros(14), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var n NDP
			if err := n.Decode(advert(c.options)); err != c.err {
				t.Errorf("Decode = %v, want %v", err, c.err)
			}
			if n.NumRoutes+n.NumServers+n.NumSearch != 0 {
				t.Errorf("it says something: %+v", n)
			}
		})
	}
}

func TestA55OptionsAreBounded(t *testing.T) {
	many := strings.Repeat("\x18\x01\x00\x00\x00\x00\x00\x01", 50) + strings.Repeat("\x19\x03\x00\x00\x00\x00\x00\x01"+strings.Repeat("\x20", 16), 50) +
		strings.Repeat("\x1f\x02\x00\x00\x00\x00\x00\x01\x03abc\x00\x00\x00\x00", 50)
	var n NDP
	if err := n.Decode(advert(many)); err != nil || n.NumRoutes != MaxRoutes || n.NumServers != MaxServers || n.NumSearch != MaxSearch {
		t.Errorf("%v, %d routes, %d servers, %d lists", err, n.NumRoutes, n.NumServers, n.NumSearch)
	}
	var l SearchList
	for k := 0; l.Add("example.com"); k++ {
		if k > maxNames {
			t.Fatal("a list has no end")
		}
	}
	for _, bad := range []string{"", ".", "a..b", ".a", strings.Repeat("a", 64), "a b", "exämple", strings.Repeat("a.", 130)} {
		if l = (SearchList{}); l.Add(bad) {
			t.Errorf("%q is taken for a domain", bad)
		}
	}
}
