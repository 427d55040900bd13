package autoconf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv6"
)

func TestC192StableIdentifiers(t *testing.T) {
	make := func(key byte, name string, p netip.Prefix) netip.Addr {
		h := host(func(c *Config) { c.Key[0], c.Name = key, name })
		h.Advertised(0, router1, ra(prefix(p, 1000, 1000)))
		return h.from(p)[0].Prefix.Addr()
	}
	id := func(a netip.Addr) [8]byte { b := a.As16(); return [8]byte(b[8:]) }
	a := make(1, "eth0", net1)
	if again := make(1, "eth0", net1); again != a {
		t.Errorf("%v, then %v: not stable", a, again)
	}
	for name, b := range map[string]netip.Addr{"prefix": make(1, "eth0", net2), "key": make(2, "eth0", net1), "interface": make(1, "eth1", net1)} {
		if id(b) == id(a) {
			t.Errorf("another %s makes the same identifier: %v, %v", name, a, b)
		}
	}
	if b := id(a); b[3] == 0xff && b[4] == 0xfe {
		t.Errorf("%v looks like EUI-64", a)
	}
	if got := host().Addrs(); len(got) != 1 || !linkLocal.Contains(got[0].Prefix.Addr()) || id(got[0].Prefix.Addr()) == id(a) {
		t.Errorf("the link-local address: %+v", got)
	}
	for _, r := range []uint64{0, 0xfdffffffffffff80, 0xfdffffffffffffff, 0x02005efffe000000, 0x02005efffe005213, 0x02005efffeffffff} {
		if !reserved(r) {
			t.Errorf("RFC 5453: %x is not reserved", r)
		}
	}
	if reserved(binary.BigEndian.Uint64([]byte{0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})) || reserved(0x02005efffd000000) {
		t.Error("more is reserved than RFC 5453 says")
	}
}

func TestC192A54Duplicates(t *testing.T) {
	h := host()
	now := time.Duration(0)
	h.Advertised(now, router1, ra(prefix(net1, ipv6.Infinite, ipv6.Infinite)))
	var had []netip.Addr
	for k := range 4 {
		got := h.from(net1)
		if len(got) != 1 || slices.Contains(had, got[0].Prefix.Addr()) {
			t.Fatalf("attempt %d: %+v, want an address that is not one of %v", k, got, had)
		}
		had = append(had, got[0].Prefix.Addr())
		known, last := h.Duplicate(now, had[k])
		if !known || last != (k == 3) || !h.Changed() || len(h.from(net1)) != 0 {
			t.Errorf("attempt %d: known %v, last %v, addresses %+v", k, known, last, h.from(net1))
		}
		if k < 3 {
			if at, ok := h.Deadline(); !ok || at != now+time.Second && at > now+time.Second {
				t.Errorf("RFC 7217 §6: the next attempt at %v, want IDGEN_DELAY after %v", at, now)
			}
			now += time.Second
			h.Expire(now)
		}
	}
	h.Advertised(now, router1, ra(prefix(net1, ipv6.Infinite, ipv6.Infinite)))
	h.Expire(now + time.Hour)
	if got := h.from(net1); len(got) != 0 {
		t.Errorf("it goes on for ever: %+v", got)
	}
	if known, _ := h.Duplicate(now, had[0]); known {
		t.Error("an address that is not ours is known")
	}
	if known, last := h.Duplicate(now, h.Addrs()[0].Prefix.Addr()); !known || last {
		t.Error("the link-local address has no second try")
	}
}

func TestC192TemporaryAddresses(t *testing.T) {
	h := host(func(c *Config) { c.Temporary = true })
	day := 24 * time.Hour
	var all []Addr
	for now := time.Duration(0); now < 30*day; {
		h.Advertised(now, router1, ra(prefix(net1, 30*86400, 7*86400)))
		next := now + 10*time.Minute
		for at, ok := h.Deadline(); ok && at < next; at, ok = h.Deadline() {
			h.Expire(at)
			for _, ok := h.Next(at); ok; _, ok = h.Next(at) {
			}
		}
		preferred := 0
		for _, a := range h.from(net1) {
			if !a.Temporary {
				continue
			}
			if !a.Deprecated {
				preferred++
			}
			k := slices.IndexFunc(all, func(b Addr) bool { return b.Prefix == a.Prefix })
			if k < 0 {
				all = append(all, a)
				if a.Valid > next+2*day || a.Preferred > next+day || a.Preferred < now+day-maxDesync-10*time.Minute {
					t.Fatalf("at %v one with lifetimes %v, %v", now, a.Preferred-now, a.Valid-now)
				}
			} else if a.Valid != all[k].Valid || a.Preferred != all[k].Preferred {
				t.Fatalf("RFC 8981 §3.4: %+v has become %+v, longer than its own lifetime", all[k], a)
			}
		}
		if n := len(h.from(net1)); preferred < 1 || preferred > 2 || n > 1+maxTemps {
			t.Fatalf("at %v: %d of %d addresses are temporary and preferred: %+v", now, preferred, n, h.from(net1))
		}
		now = next
	}
	if len(all) < 30 || len(all) > 52 {
		t.Errorf("%d temporary addresses in 30 days", len(all))
	}
	h = host(func(c *Config) { c.Temporary = true })
	h.Advertised(0, router1, ra(prefix(net1, 100, 5)))
	if n := len(h.from(net1)); n != 1 {
		t.Errorf("RFC 8981 §3.4: %d addresses of a prefix that is preferred for no longer than REGEN_ADVANCE, want 1", n)
	}
	h.Advertised(0, router1, ra(prefix(net1, 1000, 500)))
	for k := range 5 {
		got := h.from(net1)
		if want := 2 - k/4; len(got) != want {
			t.Fatalf("A54: %d addresses after %d duplicates, want %d", len(got), k, want)
		} else if want == 2 {
			if known, last := h.Duplicate(0, got[1].Prefix.Addr()); !known || last != (k == 3) {
				t.Errorf("A54: duplicate %d: known %v, last %v", k, known, last)
			}
		}
	}
}

func TestRFC8106Names(t *testing.T) {
	h := host()
	dns := func(lifetime uint32, servers ...string) *ipv6.NDP {
		n := ra()
		for _, s := range servers {
			n.Servers[n.NumServers] = ipv6.Server{Addr: netip.MustParseAddr(s), Lifetime: lifetime}
			n.NumServers++
		}
		n.Search[0].Lifetime, n.NumSearch = lifetime, 1
		n.Search[0].Add("example.com")
		return n
	}
	h.Advertised(0, router1, dns(100, "2001:db8::53", "fe80::53", "::1", "ff02::1", "::", "2001:db8::53"))
	if got := h.Servers(); len(got) != 2 || got[0].Addr != netip.MustParseAddr("2001:db8::53") || got[1].Until != 100*time.Second {
		t.Errorf("servers: %+v", got)
	}
	if got := h.Domains(); len(got) != 1 || got[0] != (Domain{"example.com", 100 * time.Second}) {
		t.Errorf("domains: %+v", got)
	}
	h.Advertised(50*time.Second, router1, dns(100, "2001:db8::53"))
	h.Expire(100 * time.Second)
	if got := h.Servers(); len(got) != 1 || len(h.Domains()) != 1 {
		t.Errorf("after the first lifetime: %+v", got)
	}
	h.Advertised(100*time.Second, router1, dns(0, "2001:db8::53"))
	if got := h.Servers(); len(got) != 0 || len(h.Domains()) != 0 {
		t.Errorf("lifetime 0 ends nothing: %+v", got)
	}
}

// TestA55Flood: advertisements without end, of ever new things. What is in use stays, all is bounded, and little changes.
func TestA55Flood(t *testing.T) {
	honest := netip.MustParsePrefix("2001:db8:abcd::/64")
	h := host(func(c *Config) {
		c.Temporary = true
		c.Used = func(p netip.Prefix) bool { return p.Overlaps(honest) }
	})
	good := ra(prefix(honest, ipv6.Infinite, ipv6.Infinite))
	good.Servers[0], good.NumServers = ipv6.Server{Addr: netip.MustParseAddr("2001:db8::53"), Lifetime: ipv6.Infinite}, 1
	h.Advertised(0, router1, good)
	ours := h.from(honest)[0].Prefix
	changes, now := 0, time.Duration(0)
	const n = 30000
	for k := range uint64(n) {
		now += 100 * time.Microsecond
		from := netip.AddrFrom16([16]byte{0xfe, 0x80, 15: 9, 8: byte(k >> 16), 9: byte(k >> 8), 10: byte(k)})
		bad := ra()
		bad.Preference = 0
		for j := range ipv6.MaxPrefixes {
			p := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(k >> 16), byte(k >> 8), byte(k), byte(j)})
			bad.Prefixes[j] = prefix(netip.PrefixFrom(p, 64), ipv6.Infinite, ipv6.Infinite)
			bad.NumPrefixes++
		}
		for j := range ipv6.MaxRoutes {
			p := netip.AddrFrom16([16]byte{0x30, 1, byte(k >> 16), byte(k >> 8), byte(k), byte(j)})
			bad.Routes[j] = ipv6.Route{Prefix: netip.PrefixFrom(p, 48), Lifetime: ipv6.Infinite, Preference: ipv6.High}
			bad.NumRoutes++
			bad.Servers[j] = ipv6.Server{Addr: p, Lifetime: ipv6.Infinite}
			bad.NumServers++
		}
		bad.Search[0].Add(fmt.Sprintf("d%d.example", k))
		bad.Search[0].Lifetime, bad.NumSearch = ipv6.Infinite, 1
		h.Advertised(now, from, bad)
		h.Unreachable(now, from)
		h.Redirected(now, router1, router1, &ipv6.NDP{Dest: netip.AddrFrom16([16]byte{0x30, 2, byte(k >> 16), byte(k >> 8), byte(k)}), Target: from})
		if h.Changed() {
			changes++
		}
		h.bounded(t)
	}
	if got := h.from(honest); len(got) == 0 || got[0].Prefix != ours {
		t.Errorf("the address in use is gone: %+v", got)
	}
	if got, _ := h.best(); got != router1 {
		t.Errorf("the router in use is %v, want %v", got, router1)
	}
	if got := h.Servers(); got[0].Addr != netip.MustParseAddr("2001:db8::53") {
		t.Errorf("the name server in use is gone: %+v", got)
	}
	// all lists fill once, and then something is replaced once a second
	if limit := 200 + 3*int(now/evictEvery); changes > limit {
		t.Errorf("%d changes in %v of a flood, want %d at most", changes, now, limit)
	}
	// The flood over, a new router is heard within a second or two.
	now += 2 * time.Second
	h.Advertised(now, router2, ra(prefix(net1, 1000, 1000)))
	now += 2 * time.Second
	h.Advertised(now, router2, ra(prefix(net1, 1000, 1000)))
	if !slices.ContainsFunc(h.Routers(), func(r Router) bool { return r.Addr == router2 }) {
		t.Error("no honest router gets in any more")
	}
}

// bounded checks the bounds.
func (h *Host) bounded(t testing.TB) {
	if len(h.routers) > MaxRouters || len(h.prefixes) > MaxPrefixes || h.count() > MaxAddrs || len(h.Addrs()) > MaxAddrs || len(h.routes) > MaxRoutes ||
		len(h.redirects) > MaxRedirects || len(h.servers) > MaxServers || len(h.domains) > MaxDomains || len(h.down) > MaxRouters+MaxRoutes {
		t.Fatalf("over the bounds: %+v", h)
	}
}

// FuzzHost: whatever arrives, and whenever, nothing grows over its bounds, time goes on, and what is due does not stay due.
func FuzzHost(f *testing.F) {
	whole := ra(prefix(net1, 1000, 500), prefix(net2, ipv6.Infinite, 3))
	whole.MTU, whole.NumRoutes, whole.NumServers = 1400, 1, 1
	whole.Routes[0] = ipv6.Route{Prefix: net2, Lifetime: 3}
	whole.Servers[0] = ipv6.Server{Addr: router1, Lifetime: 2}
	m := whole.Encode(make([]byte, whole.Len()))
	f.Add(m.Rest, m.Body, uint16(300), uint8(1), false)
	f.Add(m.Rest, m.Body, uint16(60000), uint8(7), true)
	f.Fuzz(func(t *testing.T, rest uint32, body []byte, step uint16, what uint8, temporary bool) {
		var n ipv6.NDP
		if n.Decode(&ipv6.ICMP{Type: ipv6.RouterAdvertisement, Rest: rest, Body: body}) != nil {
			return
		}
		h := host(func(c *Config) { c.Temporary = temporary })
		h.Start(0)
		now := time.Duration(0)
		for k := range 40 {
			h.Advertised(now, []netip.Addr{router1, router2, router3}[k%3], &n)
			now += time.Duration(step) * time.Second
			switch addrs := h.Addrs(); (int(what) + k) % 5 {
			case 0:
				h.Unreachable(now, router1)
			case 1:
				h.Duplicate(now, addrs[len(addrs)-1].Prefix.Addr())
			case 2:
				h.NotRouter(router2)
			case 3:
				h.Redirected(now, router1, router1, &ipv6.NDP{Target: router2, Dest: n.Prefixes[0].Prefix.Addr()})
			}
			h.Expire(now)
			for k := 0; ; k++ {
				if _, ok := h.Next(now); !ok {
					break
				} else if k > 100 {
					t.Fatal("there is always something to send")
				}
			}
			if at, ok := h.Deadline(); ok && at <= now {
				t.Fatalf("at %v something is due at %v still: %+v", now, at, h)
			}
			h.Routes()
			h.bounded(t)
			if len(h.Addrs()) == 0 {
				return // all attempts at a link-local address are used up
			}
		}
	})
}
