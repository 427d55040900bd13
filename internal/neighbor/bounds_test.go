package neighbor

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// witnesses puts n neighbours into the cache that answer and are in use.
func witnesses(t *testing.T, c *Cache, n int) (ips []netip.Addr) {
	t.Helper()
	for i := range n {
		ip := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		c.Resolve(0, ip)
		c.Update(0, Message{IP: ip, HW: hw1, HasHW: true, Kind: ARPReply})
		ips = append(ips, ip)
	}
	return ips
}

func TestA50A52StrangersSpeak(t *testing.T) {
	for _, kind := range []Kind{ARPRequest, NS} {
		t.Run(fmt.Sprintf("%s kind %d", [...]string{ARPRequest: "A50", NS: "A52"}[kind], kind), func(t *testing.T) {
			c := New(Config{Size: 64})
			c.Set(ip6, hw2)
			ips := witnesses(t, c, 10)
			old := host(1 << 20) // resolved, then not used for longer than the flood
			c.Resolve(0, old)
			c.Update(0, Message{IP: old, HW: hw1, HasHW: true, Kind: NA, Solicited: true})
			for i := range 100_000 {
				now := time.Duration(i) * time.Millisecond
				c.Update(now, Message{IP: host(i), HW: hw2, HasHW: true, Kind: kind})
				if i%1000 == 0 {
					for _, ip := range ips {
						if hw, r := c.Resolve(now, ip); hw != hw1 || r != Resolved {
							t.Fatalf("after %d strangers the witness %v is %v", i, ip, r)
						}
						c.Confirm(now, ip)
					}
				}
			}
			if c.Len() != 65 {
				t.Errorf("%d entries, want 64 and a static one", c.Len())
			}
			if e := find(c, ip6); e.State != Permanent || e.HW != hw2 {
				t.Errorf("the static entry is %+v", e)
			}
			if find(c, old).IP != old {
				t.Error("an old acquaintance had to go for strangers, who take each other's place")
			}
		})
	}
}

// A52, RFC 6583: we are made to send to a million addresses that nobody has.
func TestA52WeScan(t *testing.T) {
	c := New(Config{Size: 64})
	ips := witnesses(t, c, 10)
	asked := map[netip.Addr]time.Duration{}
	perSecond := map[time.Duration]int{}
	pending, failed := 0, 0
	for i := range 200_000 {
		now := time.Duration(i) * 50 * time.Microsecond
		if _, r := c.Resolve(now, host(i%20_000)); r == Pending {
			pending++
		}
		failed += len(c.Expire(now))
		for s, ok := c.Next(now); ok; s, ok = c.Next(now) {
			if last, again := asked[s.IP]; again && now-last < second {
				t.Fatalf("C154: %v asked for at %v and at %v", s.IP, last, now)
			}
			asked[s.IP] = now
			perSecond[now/second]++
		}
		if i%1000 == 0 {
			for _, ip := range ips {
				if _, r := c.Resolve(now, ip); r != Resolved {
					t.Fatalf("%v: the witness %v is %v", now, ip, r)
				}
				c.Confirm(now, ip)
			}
		}
		if c.Len() > 64 || c.resolving > 32 {
			t.Fatalf("%d entries, %d being resolved; want at most 64 and 32", c.Len(), c.resolving)
		}
	}
	for at, n := range perSecond {
		if n > 32+1 {
			t.Errorf("second %d: %d solicitations, want at most one for each of 32", at, n)
		}
	}
	if len(asked) < 8*32 {
		t.Errorf("only %d addresses asked for in 10 s: under pressure one try each second must do", len(asked))
	}
	if failed < len(asked)-32 {
		t.Errorf("%d asked for, %d given up: somebody waits for ever", len(asked), failed)
	}
}

// What goes first when there is no room.
func TestEvictionOrder(t *testing.T) {
	// One entry of each sort, oldest use first.
	gone, stranger, old, young := host(1), host(2), host(3), host(4)
	fill := func() *Cache {
		c := New(Config{Size: 4})
		c.Resolve(0, old)
		c.Update(0, Message{IP: old, HW: hw1, HasHW: true, Kind: NA, Solicited: true})
		c.Resolve(36*second, gone)
		c.Resolve(0, young)
		c.Update(0, Message{IP: young, HW: hw1, HasHW: true, Kind: NA, Solicited: true})
		for at := 36 * second; at < 40*second; at += second {
			c.Expire(at)
			c.Next(at)
		}
		c.Resolve(39*second, young)
		c.Update(39*second, Message{IP: stranger, HW: hw1, HasHW: true, Kind: NS})
		return c
	}
	c := fill()
	for i, victim := range []netip.Addr{gone, stranger, old} {
		if find(c, victim).IP != victim {
			t.Fatalf("%v went too early", victim)
		}
		if i < 2 {
			c.Resolve(39*second, host(100+i)) // two may be resolved at a time
		} else {
			c.Update(39*second, Message{IP: host(102), HW: hw1, HasHW: true, Kind: NS})
		}
		if find(c, victim).IP == victim {
			t.Fatalf("%v is still there; entries %v", victim, slices.Collect(c.All()))
		}
	}
	if _, r := c.Resolve(39*second, host(103)); r != Full {
		t.Errorf("a third to be resolved: %v, want Full", r)
	}
	if _, r := c.Resolve(39*second, young); r != Resolved {
		t.Errorf("the one in use: %v, want Resolved", r)
	}
	// Nothing but neighbours in use: no room, for anybody.
	c = New(Config{Size: 2})
	witnesses(t, c, 2)
	if _, r := c.Resolve(second, host(1)); r != Full {
		t.Errorf("all in use: %v, want Full", r)
	}
	if change := c.Update(second, Message{IP: host(1), HW: hw1, HasHW: true, Kind: NS}); change != (Change{}) {
		t.Errorf("all in use: a stranger made %+v", change)
	}
	ips := []netip.Addr{find(c, netip.MustParseAddr("198.51.100.0")).IP, find(c, netip.MustParseAddr("198.51.100.1")).IP}
	c.Resolve(29*second, ips[0])
	if _, r := c.Resolve(31*second, host(1)); r != Pending {
		t.Errorf("one is unused for 30 s: %v, want Pending", r)
	}
	if find(c, ips[0]).IP != ips[0] || find(c, ips[1]).IP == ips[1] {
		t.Errorf("%v should have gone, unused for 31 s; entries %v", ips[1], slices.Collect(c.All()))
	}
}

func TestAdministration(t *testing.T) {
	c := New(Config{Size: 1})
	for i := range 3 { // static entries are not counted
		c.Set(host(i), hw1)
	}
	c.Set(host(1), hw2)
	c.Resolve(0, ip6)
	if hw, r := c.Resolve(time.Hour, host(1)); hw != hw2 || r != Resolved || c.Len() != 4 {
		t.Errorf("static entry: %v %v, %d entries; want %v, Resolved, 4", hw, r, c.Len(), hw2)
	}
	var got []netip.Addr
	for e := range c.All() {
		got = append(got, e.IP)
	}
	if want := []netip.Addr{ip6, host(0), host(1), host(2)}; !slices.Equal(got, want) {
		t.Errorf("All = %v, want %v", got, want)
	}
	c.Flush()
	if c.Len() != 3 || find(c, ip6).IP == ip6 {
		t.Errorf("after Flush: %v", slices.Collect(c.All()))
	}
	if at, ok := c.Deadline(); !ok || at > 0 {
		t.Errorf("Deadline after Flush = %v, %v: who waits for %v must hear of it", at, ok, ip6)
	}
	if failed := c.Expire(0); !slices.Equal(failed, []netip.Addr{ip6}) {
		t.Errorf("Expire after Flush = %v, want %v", failed, ip6)
	}
	if !c.Delete(host(1)) || c.Delete(host(1)) || c.Len() != 2 {
		t.Error("Delete of a static entry")
	}
	c.Resolve(0, ip6)
	c.Set(ip6, hw1)
	if s, ok := c.Next(0); ok {
		t.Errorf("Set, and still asked for: %+v", s)
	}
	c.Delete(ip6)
	if _, r := c.Resolve(0, ip4); r != Pending {
		t.Errorf("after Set of what was being resolved: %v, want Pending: it counts no more", r)
	}
}

// FuzzCache makes arbitrary calls and looks at the cache's own books after each.
func FuzzCache(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03\x10\x11\x12\x20\x21\x22\x30\x40\x41\x50\x60\x70"))
	for seed := range uint64(100) {
		r, calls := rand.New(rand.NewPCG(seed, 9)), make([]byte, 2000)
		for i := range calls {
			calls[i] = byte(r.Uint32())
		}
		f.Add(calls)
	}
	f.Fuzz(func(t *testing.T, calls []byte) {
		c := New(Config{Size: 4})
		now := time.Duration(0)
		for len(calls) >= 2 {
			op, arg := calls[0], calls[1]
			calls = calls[2:]
			ip := host(int(arg % 8))
			switch op % 10 {
			case 0, 1:
				if _, r := c.Resolve(now, ip); r == Pending && find(c, ip).State != Incomplete {
					t.Fatalf("Pending, but %v", find(c, ip).State)
				}
			case 2, 3:
				hw := hw1
				hw[5] = arg >> 3
				c.Update(now, Message{ip, hw, arg&64 != 0, Kind(op/10) % 6, arg&128 != 0, op&128 != 0, op&64 != 0})
			case 4:
				c.Confirm(now, ip)
			case 5:
				c.Next(now)
			case 6:
				c.Expire(now)
			case 7:
				now += time.Duration(arg) * 100 * time.Millisecond
			case 8:
				c.Set(ip, hw1)
			case 9:
				c.Delete(ip)
			}
			audit(t, c)
		}
	})
}

func audit(t *testing.T, c *Cache) {
	t.Helper()
	members := map[*entry]int{}
	for _, l := range []*list{&c.ready, &c.asked, &c.delay, &c.failed, &c.idle, &c.used} {
		var prev *entry
		for e := l.front; e != nil; prev, e = e, e.links[l.by].next {
			if e.links[l.by].in != l || e.links[l.by].prev != prev {
				t.Fatalf("%v: broken link", e.ip)
			}
			if prev != nil && l.by == byTime && prev.due > e.due {
				t.Fatalf("%v is due at %v, behind %v", e.ip, e.due, prev.due)
			}
			members[e] += 1 + l.by
		}
		if l.back != prev {
			t.Fatal("broken back")
		}
	}
	permanent, resolving := 0, 0
	for ip, e := range c.entries {
		// 1: waits; 2: can be evicted by use; 3: both
		want := map[State]int{Incomplete: 1, Reachable: 2, Stale: 2, Delay: 3, Probe: 3, Permanent: 0}[e.state]
		if got := members[e]; e.ip != ip || got != want && e.state != Unreachable {
			t.Fatalf("%v %v is in lists %d, want %d", ip, e.state, got, want)
		}
		switch e.state {
		case Permanent:
			permanent++
		case Incomplete:
			resolving++
		}
		if known := e.state != Incomplete && e.state != Unreachable; known == e.hw.IsZero() {
			t.Fatalf("%v %v has address %v", ip, e.state, e.hw)
		}
	}
	if permanent != c.permanent || resolving != c.resolving || len(c.entries)-permanent > 4 || len(members) > len(c.entries) {
		t.Fatalf("books: %d static (%d), %d resolving (%d), %d entries, %d in lists",
			c.permanent, permanent, c.resolving, resolving, len(c.entries), len(members))
	}
}

func ExampleCache() {
	c := New(Config{})
	_, r := c.Resolve(0, ip4)
	s, _ := c.Next(0)
	fmt.Println(r == Pending, "who has", s.IP)
	change := c.Update(time.Millisecond, Message{IP: ip4, HW: hw1, HasHW: true, Kind: ARPReply})
	hw, _ := c.Resolve(time.Millisecond, ip4)
	fmt.Println(change.Resolved, hw)
	// Output:
	// true who has 198.51.100.7
	// true 02:00:00:00:00:01
}
