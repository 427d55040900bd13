package stack

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// TestAdvertisesValidAddress: neighbours who remember another station for an address, as that of a program that was restarted
// on the same device, are told of the new one (RFC 4861 §7.2.6), and not before it is sure of the address (RFC 4429 §3.3).
func TestAdvertisesValidAddress(t *testing.T) {
	for _, c := range []struct {
		name  string
		noDAD bool
		after time.Duration
	}{{"after duplicate address detection", false, dadWait}, {"at once, without", true, 0}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := link.Pipe(link.PipeConfig{MTU: 1500, Ethernet: true})
				s := New(Config{NoDAD: c.noDAD})
				defer s.Close()
				defer b.Close()
				i, err := s.Attach(a, server6)
				if err != nil {
					t.Fatal(err)
				}
				far := &tester{T: t, queue: b.Queues()[0], eth: true, mac: testerMAC, peer: server6.Addr(), us: client6.Addr(), ifc: i, stack: s}
				go far.read()
				advertised := func() (n int) {
					for _, p := range far.neighbor() {
						var m ipv6.ICMP
						var nd ipv6.NDP
						if p.src != far.peer || m.Decode(p.text, p.src, p.dst) != nil || nd.Decode(&m) != nil || nd.Type != ipv6.NeighborAdvertisement {
							continue
						}
						n++
						want := ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: far.peer, Override: true, TargetLL: i.mac, HasTargetLL: true}
						if nd != want || p.dst != allNodes || p.eth.Dst != ethernet.Multicast(allNodes) || p.hops != ipv6.HopLimitNDP {
							t.Errorf("it is advertised to %v, %v by %+v, want %+v to all nodes", p.dst, p.eth.Dst, nd, want)
						}
					}
					return n
				}
				if c.after > 0 {
					far.pass(c.after - 1)
					if n := advertised(); n != 0 {
						t.Errorf("%d advertisements while the address is optimistic", n)
					}
					far.pass(1)
				}
				if n := advertised(); n != 1 {
					t.Errorf("%d advertisements once the address is valid, want 1", n)
				}
			})
		})
	}
}
