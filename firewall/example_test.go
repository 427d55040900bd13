package firewall_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/udp"
)

// A router with a port forward: what becomes of a datagram from outside. The owner of the Firewall is who has a lock, the
// clock and the routes.
func Example() {
	rules, err := firewall.Parse(`
		policy in drop
		policy forward drop
		allow forward on lan via wan
		allow forward state translated
		nat on wan from 192.0.2.0/24
		forward udp 203.0.113.1:53 to 192.0.2.20:5353
	`)
	if err != nil {
		fmt.Println(err)
		return
	}
	f := firewall.New(firewall.Config{Seed: [2]uint64{0x0123456789abcdef, 0xfedcba9876543210}}) // of crypto/rand, in earnest
	if err := f.SetRules(rules); err != nil {
		fmt.Println(err)
		return
	}

	b := make([]byte, ipv4.MinHeaderLen+udp.HeaderLen)
	ip := ipv4.Header{Length: len(b), TTL: 60, Protocol: ipv4.ProtoUDP,
		Src: netip.MustParseAddr("198.51.100.7"), Dst: netip.MustParseAddr("203.0.113.1")}
	header := udp.Header{Src: 5000, Dst: 53, Length: udp.HeaderLen}
	header.Encode(b[ip.Encode(b):])

	now := 3 * time.Second // since a start of the owner's
	var p firewall.Packet
	p.Reset(b)
	p.In = "wan"
	if f.Arrive(now, &p) != firewall.Accept {
		return
	}
	// The destination in b has a route now, by lan.
	p.Direction, p.Out = firewall.Forward, "lan"
	fmt.Println(f.Filter(now, &p), p.State)
	fmt.Println(p.Before())
	fmt.Println(p.After())
	for c := range f.Connections() {
		fmt.Println("answers:", c.Return)
	}
	// Output:
	// accept new,translated
	// udp 198.51.100.7:5000 > 203.0.113.1:53
	// udp 198.51.100.7:5000 > 192.0.2.20:5353
	// answers: udp 192.0.2.20:5353 > 198.51.100.7:5000
}
