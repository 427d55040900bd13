package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"
)

// ack is an acknowledgement with more options.
func ack(options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, YourIPAddr: toIP(poolFirst), Options: dhcpv4.Options{}}
	for _, o := range append([]dhcpv4.Option{dhcpv4.OptMessageType(dhcpv4.MessageTypeAck), dhcpv4.OptServerIdentifier(toIP(serverAddr.Addr())),
		dhcpv4.OptIPAddressLeaseTime(time.Hour), dhcpv4.OptSubnetMask(net.CIDRMask(24, 32))}, options...) {
		m.UpdateOption(o)
	}
	return m
}

func TestReadLease(t *testing.T) {
	start := time.Unix(1000, 0)
	plain := func(change func(*Lease)) *Lease {
		l := &Lease{Addr: netip.PrefixFrom(poolFirst, 24), Server: serverAddr.Addr(), Renew: start.Add(30 * time.Minute),
			Rebind: start.Add(52*time.Minute + 30*time.Second), Expires: start.Add(time.Hour)}
		change(l)
		return l
	}
	same := func(*Lease) {}
	via := serverAddr.Addr()
	gateway := dhcpv4.OptRouter(toIP(via), toIP(otherAddr.Addr()))
	generic := func(code dhcpv4.OptionCode, b ...byte) dhcpv4.Option { return dhcpv4.OptGeneric(code, b) }
	for _, c := range []struct {
		name string
		m    *dhcpv4.DHCPv4
		want *Lease
	}{
		{"RFC 2131 §4.4.5: T1 and T2 by default", ack(), plain(same)},
		{"T1 and T2 as told", ack(dhcpv4.OptRenewTimeValue(time.Minute), dhcpv4.OptRebindingTimeValue(2*time.Minute)),
			plain(func(l *Lease) { l.Renew, l.Rebind = start.Add(time.Minute), start.Add(2*time.Minute) })},
		{"T1 after T2", ack(dhcpv4.OptRenewTimeValue(3*time.Minute), dhcpv4.OptRebindingTimeValue(2*time.Minute)), plain(same)},
		{"T2 after the end", ack(dhcpv4.OptRebindingTimeValue(2 * time.Hour)), plain(same)},
		{"RFC 2132 §3.5: the first router is the best", ack(gateway), plain(func(l *Lease) { l.Routes = []Route{{defaultRoute, via}} })},
		{"RFC 3442: static routes instead of the router", ack(gateway, generic(dhcpv4.OptionClasslessStaticRoute, 25, 203, 0, 113, 0, 198, 51, 100, 2)),
			plain(func(l *Lease) { l.Routes = []Route{{elsewhere, otherAddr.Addr()}} })},
		{"RFC 3442: a route on the link", ack(generic(dhcpv4.OptionClasslessStaticRoute, 25, 203, 0, 113, 0, 0, 0, 0, 0)),
			plain(func(l *Lease) { l.Routes = []Route{{Dst: elsewhere}} })},
		{"static routes that are cut off", ack(gateway, generic(dhcpv4.OptionClasslessStaticRoute, 25, 203, 0)),
			plain(func(l *Lease) { l.Routes = []Route{{defaultRoute, via}} })},
		{"a route of 33 bits", ack(generic(dhcpv4.OptionClasslessStaticRoute, 33, 1, 2, 3, 4, 5, 6, 7, 8, 9)), plain(same)},
		{"name servers that can be none", ack(dhcpv4.OptDNS(net.IPv4zero, net.IPv4allsys, toIP(dnsAddr), toIP(dnsAddr))),
			plain(func(l *Lease) { l.DNS = []netip.Addr{dnsAddr} })},
		{"a domain", ack(dhcpv4.OptDomainName("a.example")), plain(func(l *Lease) { l.Search = []string{"a.example"} })},
		{"RFC 3397: a search list instead of the domain", ack(dhcpv4.OptDomainName("a.example"),
			dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: []string{"b.example", "c.example"}})),
			plain(func(l *Lease) { l.Search = []string{"b.example", "c.example"} })},
		{"an MTU", ack(generic(dhcpv4.OptionInterfaceMTU, 5, 120)), plain(func(l *Lease) { l.MTU = 1400 })},
		{"an MTU that serves nobody", ack(generic(dhcpv4.OptionInterfaceMTU, 0, 68)), plain(same)},
		{"no mask", ack(dhcpv4.OptSubnetMask(nil)), plain(func(l *Lease) { l.Addr = netip.PrefixFrom(poolFirst, 32) })},
		{"a mask with holes", ack(dhcpv4.OptSubnetMask(net.IPMask{255, 0, 255, 0})), plain(func(l *Lease) { l.Addr = netip.PrefixFrom(poolFirst, 32) })},
		{"no time", ack(dhcpv4.OptIPAddressLeaseTime(0)), nil},
		{"no server", ack(dhcpv4.OptServerIdentifier(nil)), nil},
		{"a server's name of three octets", ack(generic(dhcpv4.OptionServerIdentifier, 1, 2, 3)), nil},
	} {
		got, err := readLease(c.m, start)
		if fmt.Sprint(got) != fmt.Sprint(c.want) || (err == nil) != (c.want != nil) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, err, c.want)
		}
	}
}

// What a pool gives to whom (RFC 2131 §4.3.1).
func TestPool(t *testing.T) {
	now := time.Unix(1000, 0)
	a := []netip.Addr{poolFirst, poolFirst.Next(), poolFirst.Next().Next()}
	reserved := netip.MustParseAddr("198.51.100.7")
	p := newPool(a[0], a[2], a[1], map[string]netip.Addr{"static": reserved}) // a[1] is the server's own
	pick := func(key, hw string, want, expect netip.Addr) {
		t.Helper()
		got, ok := p.pick(now, key, hw, want)
		if got != expect && (ok || expect.IsValid()) {
			t.Errorf("%s is offered %v (%v), want %v", key, got, ok, expect)
		}
		if ok {
			p.bind(key, Binding{Addr: got, HW: hw, Until: now.Add(time.Hour), State: Leased})
		}
	}
	none := netip.Addr{}
	pick("one", "h1", none, a[0])
	pick("one", "h1", a[2], a[0]) // its current one, whatever it asks for
	pick("two", "h2", a[0], a[2]) // what it asks for is another's
	pick("three", "h3", none, none)
	pick("four", "static", a[0], reserved)
	pick("three", "h3", reserved, none)
	p.release(now, "one", a[0])
	pick("one", "h1", none, a[0]) // its previous one
	p.release(now, "two", a[0])   // not its own
	pick("three", "h3", none, none)
	p.release(now, "one", a[0])
	pick("three", "h3", none, a[0]) // there is no other
	pick("one", "h1", a[0], none)
	p.decline(now, "three", a[0])
	pick("three", "h3", a[0], none)
	now = now.Add(declineTime)
	pick("three", "h3", none, a[0])
	now = now.Add(2 * time.Hour)
	pick("one", "h1", a[2], a[2]) // all have ended
	if n := len(p.byAddr); n != len(p.byKey) || n != 3 {
		t.Errorf("%d addresses are bound to %d clients: %v", n, len(p.byKey), p.all())
	}
}

// A flood of clients takes offers for two minutes, and no more memory than there are addresses.
func TestPoolIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	p := newPool(poolFirst, poolLast, serverAddr.Addr(), nil)
	offered := 0
	for n := range 1000 {
		key := string(rune(n))
		if a, ok := p.pick(now, key, key, netip.Addr{}); ok {
			p.bind(key, Binding{Addr: a, Until: now.Add(offerTime), State: Offered})
			offered++
		}
	}
	if offered != 100 || len(p.byAddr) != 100 || len(p.byKey) != 100 {
		t.Errorf("%d offers, %d addresses, %d clients; want 100 of each", offered, len(p.byAddr), len(p.byKey))
	}
	if _, ok := p.pick(now.Add(offerTime), "honest", "honest", netip.Addr{}); !ok {
		t.Error("nothing is left when the offers have ended")
	}
}

// No message of a client or a server is more than what it says: nothing panics, and an answer is one.
func FuzzMessages(f *testing.F) {
	f.Add(ack().ToBytes())
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeInform} {
		m := (&session{Client: &Client{Hostname: "x"}, hw: net.HardwareAddr{2, 0, 0, 0, 0, 1}}).message(kind)
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(toIP(poolFirst)))
		f.Add(m.ToBytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		if l, err := readLease(m, time.Time{}); err == nil && (!l.Addr.IsValid() || l.Renew.After(l.Rebind) || l.Rebind.After(l.Expires)) {
			t.Errorf("a lease of %+v", l)
		}
		s := &Server{Lease: time.Hour, own: serverAddr, log: quiet, pool: newPool(poolFirst, poolLast, serverAddr.Addr(), nil)}
		reply, to := s.answer(time.Unix(1000, 0), m)
		if reply == nil {
			return
		}
		again, err := dhcpv4.FromBytes(reply.ToBytes())
		if err != nil || to != broadcast && !serverAddr.Contains(to) {
			t.Fatalf("it answers %v: %v", to, err)
		}
		kinds := []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak}
		if a := toAddr(again.YourIPAddr); !slices.Contains(kinds, again.MessageType()) || !a.IsUnspecified() && (a.Less(poolFirst) || poolLast.Less(a)) {
			t.Errorf("it answers %v", again.Summary())
		}
	})
}
