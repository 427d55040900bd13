package stack

import (
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/seed87e66d9f/waybill/link"
)

// TestC122A30EphemeralPorts: RFC 6056 §3.3.1. Of a thousand connections to one peer, each has a port of its own, and nothing
// of a port follows from the one before it.
func TestC122A30EphemeralPorts(t *testing.T) {
	const conns = 1000
	families(t, func(t *testing.T, to netip.Prefix) {
		client, server := pair(t, link.PipeConfig{}, Config{})
		l, err := server.ListenTCP("tcp", netip.AddrPortFrom(to.Addr(), 80))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, err := l.AcceptTCP(); err != nil {
					return
				}
			}
		}()
		var ports []uint16
		for range conns {
			c, err := client.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, netip.MustParseAddrPort(c.LocalAddr().String()).Port())
		}
		next := 0
		var bins [16]float64
		for i, p := range ports {
			if p < firstEphemeral {
				t.Fatalf("port %d is not ephemeral", p)
			}
			if i > 0 && int(p)-int(ports[i-1]) == 1 {
				next++
			}
			bins[int(p-firstEphemeral)*len(bins)/ephemeralPorts]++
		}
		// by chance there are 1000/28233 of them, and more than 5 once in 10¹¹ runs
		if next > 5 {
			t.Errorf("%d of %d ports follow the one before them", next, conns)
		}
		chi := 0.0
		for _, n := range bins {
			chi += (n - conns/16.0) * (n - conns/16.0) / (conns / 16.0)
		}
		// 15 degrees of freedom: beyond 80 once in 10¹⁰ runs
		if chi > 80 {
			t.Errorf("the ports are not spread over the range: χ² is %.0f with 15 degrees of freedom", chi)
		}
		if bits := math.Log2(ephemeralPorts); bits < 14 {
			t.Errorf("%.1f bits of entropy, want 14", bits)
		}
		slices.Sort(ports)
		if n := len(slices.Compact(ports)); n != conns {
			t.Errorf("%d connections to one peer have %d ports", conns, n)
		}
	})
}
