package stack

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/seed87e66d9f/waybill/link"
)

// multihomed makes a host on one link with the addresses of a list, each /64 or /24: "d" behind one says that it is
// deprecated, "t" that it is temporary, "o" that it is optimistic.
func multihomed(t *testing.T, addrs string) (*Stack, *Interface) {
	t.Helper()
	a, far := link.Pipe(link.PipeConfig{MTU: 1500})
	t.Cleanup(func() { far.Close() })
	s := New(Config{})
	t.Cleanup(func() { s.Close() })
	i, err := s.Attach(a)
	if err != nil {
		t.Fatal(err)
	}
	for f := range strings.FieldsSeq(addrs) {
		text, flag, _ := strings.Cut(f, ",")
		a := netip.MustParseAddr(text)
		n := 64
		if a.Is4() {
			n = 24
		}
		if err := i.AddAddr(netip.PrefixFrom(a, n)); err != nil {
			t.Fatal(err)
		}
		i.changeAddr(a, func(x *Addr) {
			x.Deprecated, x.Temporary = flag == "d", flag == "t"
			if flag == "o" {
				x.State = AddrOptimistic
			}
		})
	}
	for _, dst := range []string{"0.0.0.0/0", "::/0"} {
		if err := s.AddRoute(netip.MustParsePrefix(dst), netip.Addr{}, i); err != nil {
			t.Fatal(err)
		}
	}
	return s, i
}

// The examples of RFC 6724 §10.1, but for that of Mobile IP, and what they leave out. The order of the addresses does not matter.
func TestC193SourceAddress(t *testing.T) {
	for _, c := range []struct{ rule, dst, addrs, want string }{
		{"1 same address", "2001:db8:1::1", "2001:db8:1::1,d 2001:db8:2::1", "2001:db8:1::1"},
		{"2 scope", "2001:db8:1::1", "2001:db8:3::1 fe80::1", "2001:db8:3::1"},
		{"2 scope, link-local", "fe80::1", "fe80::2,d 2001:db8:1::1", "fe80::2"},
		{"2 scope, multicast of a site", "ff05::1", "2001:db8:3::1 fe80::1", "2001:db8:3::1"},
		{"2 scope, multicast of a link", "ff02::fb", "2001:db8:3::1 fe80::1", "fe80::1"},
		{"2 scope, IPv4", "203.0.113.9", "169.254.13.78 198.51.100.117", "198.51.100.117"},
		{"2 scope, IPv4 link-local", "169.254.1.1", "198.51.100.117 169.254.13.78", "169.254.13.78"},
		{"3 deprecated", "2001:db8:1::1", "2001:db8:1::2,d 2001:db8:3::2", "2001:db8:3::2"},
		{"3 optimistic", "2001:db8:1::1", "2001:db8:1::2,o 2001:db8:3::2", "2001:db8:3::2"},
		{"3 nothing but deprecated", "2001:db8:1::1", "2001:db8:1::2,d 2001:db8:3::2,d", "2001:db8:1::2"},
		{"6 label", "2002:c633:6401::1", "2002:c633:6401::d5e3:7953:13eb:22e8,t 2001:db8:1::2", "2002:c633:6401::d5e3:7953:13eb:22e8"},
		{"6 label, unique local", "fd00:1::1", "2001:db8:1::2 fd00:2::2", "fd00:2::2"},
		{"6 label, global", "2001:db8:1::1", "fd00:2::2 2002:c633:6401::2 2001:db8:5::2", "2001:db8:5::2"},
		{"7 temporary", "2001:db8:1::d5e3:0:0:1", "2001:db8:1::2 2001:db8:1::d5e3:7953:13eb:22e8,t", "2001:db8:1::d5e3:7953:13eb:22e8"},
		{"8 prefix", "2001:db8:1::1", "2001:db8:1::2 2001:db8:3::2", "2001:db8:1::2"},
		{"8 prefix, IPv4", "203.0.113.9", "198.51.100.117 203.0.113.77", "203.0.113.77"},
		{"family", "203.0.113.9", "2001:db8:1::2", ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			fields := strings.Fields(c.addrs)
			for range 2 {
				s, i := multihomed(t, strings.Join(fields, " "))
				got, ok := s.view.Load().source(netip.MustParseAddr(c.dst), &i.onLink)
				if want, err := netip.ParseAddr(c.want); got != want || ok != (err == nil) {
					t.Errorf("to %s from one of %q: %v, %v, want %q", c.dst, fields, got, ok, c.want)
				}
				slices.Reverse(fields)
			}
		})
	}
}

// Of addresses that are equally good the first serves; RFC 6724 §2.2 has the common prefix end with that of the source.
func TestC193FirstOfEqualAddresses(t *testing.T) {
	s, i := multihomed(t, "198.51.100.2 198.51.100.8 2001:db8:1::2 2001:db8:1::8")
	for dst, want := range map[string]string{"198.51.100.9": "198.51.100.2", "2001:db8:1::9": "2001:db8:1::2"} {
		if got, _ := s.view.Load().source(netip.MustParseAddr(dst), &i.onLink); got.String() != want {
			t.Errorf("to %s: %v, want %s", dst, got, want)
		}
	}
}

// Rule 5.5: the address that the next hop advertised, and with IPv4 the one of the next hop's network; and before all rules
// the address that the route names.
func TestC193SourceByNextHop(t *testing.T) {
	s, i := multihomed(t, "2001:db8:1::2 2001:db8:2::2 203.0.113.77 198.51.100.117")
	router := netip.MustParseAddr("fe80::a")
	i.changeAddr(netip.MustParseAddr("2001:db8:2::2"), func(a *Addr) { a.Router = router })
	for _, c := range []struct {
		dst  string
		h    hop
		want string
	}{
		{"2001:db8:1::1", hop{ifc: i}, "2001:db8:1::2"},
		{"2001:db8:1::1", hop{ifc: i, via: router}, "2001:db8:2::2"},
		{"203.0.113.9", hop{ifc: i, via: netip.MustParseAddr("198.51.100.1")}, "198.51.100.117"},
		{"203.0.113.9", hop{ifc: i, src: netip.MustParseAddr("198.51.100.117")}, "198.51.100.117"},
		{"203.0.113.9", hop{ifc: i, src: netip.MustParseAddr("198.51.100.99")}, "203.0.113.77"}, // not ours any more
	} {
		if got, _ := s.view.Load().source(netip.MustParseAddr(c.dst), &c.h); got.String() != c.want {
			t.Errorf("to %s via %v, %v: %v, want %s", c.dst, c.h.via, c.h.src, got, c.want)
		}
	}
}

// The examples of RFC 6724 §10.2, but for that of Mobile IP.
func TestDestinationOrder(t *testing.T) {
	for _, c := range []struct{ rule, addrs, dsts string }{
		{"1 unusable", "198.51.100.117", "198.51.100.121 2001:db8:1::1"},
		{"2 scope", "2001:db8:1::2 fe80::1 169.254.13.78", "2001:db8:1::1 198.51.100.121"},
		{"2 scope, IPv4", "fe80::1 198.51.100.117", "198.51.100.121 2001:db8:1::1"},
		{"3 deprecated", "2001:db8:1::2 fe80::2,d", "2001:db8:1::1 fe80::1"},
		{"5 label", "2002:c633:6401::2 fe80::2", "2002:c633:6401::1 2001:db8:1::1"},
		{"6 precedence", "2001:db8:1::2 fe80::1 10.1.2.4", "2001:db8:1::1 10.1.2.3"},
		{"6 precedence, 6to4", "2002:c633:6401::2 2001:db8:1::2 fe80::2", "2001:db8:1::1 2002:c633:6401::1"},
		{"8 smaller scope", "2001:db8:1::2 fe80::2", "fe80::1 2001:db8:1::1"},
		{"9 prefix", "2001:db8:1::2 2001:db8:3f44::2 fe80::2", "2001:db8:1::1 2001:db8:3ffe::1"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			s, _ := multihomed(t, c.addrs)
			var want []netip.AddrPort
			for d := range strings.FieldsSeq(c.dsts) {
				want = append(want, netip.AddrPortFrom(netip.MustParseAddr(d), 80))
			}
			for _, reversed := range []bool{false, true} {
				got := slices.Clone(want)
				if reversed {
					slices.Reverse(got)
				}
				if s.order(got); !slices.Equal(got, want) {
					t.Errorf("from %s, reversed %v: %v, want %v", c.addrs, reversed, got, want)
				}
			}
		})
	}
}

// Rule 10: what RFC 6724 does not tell apart stays in the order of DNS, and IPv4 addresses with it.
func TestDestinationOrderLeavesTheRest(t *testing.T) {
	s, _ := multihomed(t, "198.51.100.117 2001:db8:1::2")
	got := []netip.AddrPort{netip.MustParseAddrPort("203.0.113.9:1"), netip.MustParseAddrPort("[2001:db8:9::9]:1"),
		netip.MustParseAddrPort("198.51.100.9:1"), netip.MustParseAddrPort("[2001:db8:9::8]:1"), netip.MustParseAddrPort("203.0.113.8:1")}
	s.interleave(got)
	want := []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:9::9]:1"), netip.MustParseAddrPort("203.0.113.9:1"),
		netip.MustParseAddrPort("[2001:db8:9::8]:1"), netip.MustParseAddrPort("198.51.100.9:1"), netip.MustParseAddrPort("203.0.113.8:1")}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v: families in turn, each in the order of DNS", got, want)
	}
}

func TestPolicyTable(t *testing.T) {
	for a, want := range map[string][2]uint8{
		"::1": {50, 0}, "2001:db8::1": {40, 1}, "198.51.100.1": {35, 4}, "::ffff:198.51.100.1": {35, 4}, "2002::1": {30, 2}, "2001::1": {5, 5},
		"fd00::1": {3, 13}, "::198.51.100.1": {1, 3}, "fec0::1": {1, 11}, "3ffe::1": {1, 12}, "fe80::1": {40, 1},
	} {
		if p := policyOf(netip.MustParseAddr(a)); p.precedence != want[0] || p.label != want[1] {
			t.Errorf("%s: precedence %d, label %d, want %v", a, p.precedence, p.label, want)
		}
	}
}
