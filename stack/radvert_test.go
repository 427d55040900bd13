package stack

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
)

// A host that knows nothing finds its address, its router and its name server, speaks through the router, and hears when that
// ends.
func TestAdvertise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n0, n1 := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
		f0, f1 := link.Pipe(link.PipeConfig{MTU: 1500})
		router := host(t, n1, Config{NoDAD: true, Forwarding: Forwarding{Enabled: true}}, server6)
		if _, err := router.Attach(f0, far6); err != nil {
			t.Fatal(err)
		}
		b := host(t, f1, Config{NoDAD: true}, farHost6)
		if err := b.AddRoute(everywhere6, far6.Addr(), nil); err != nil {
			t.Fatal(err)
		}
		lan := router.view.Load().ifaces[1]
		dns := netip.MustParseAddr("2001:db8:51::53")
		if err := lan.Advertise(&AdvertConfig{DNS: []netip.Addr{dns}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // the advertisements of the beginning are over: the host has to ask
		a := New(Config{})
		t.Cleanup(func() { a.Close() })
		i, err := a.Attach(n0)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Autoconfigure(AutoConfig{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		if r, err := a.Ping(t.Context(), farHost6.Addr(), PingConfig{}); err != nil || r.HopLimit != 63 {
			t.Errorf("ping through the router: %d, %v; addresses %v, router's drops %v", r.HopLimit, err, i.Addrs(), router.Stats().Drops)
		}
		if got := slices.Collect(a.NameServers()); len(got) != 1 || got[0].Addr() != dns {
			t.Errorf("name servers %v, want %v", got, dns)
		}
		if err := lan.Advertise(nil); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if n := len(slices.Collect(a.Routers())); n != 0 {
			t.Errorf("%d routers after the only one has said that it ends", n)
		}
	})
}
