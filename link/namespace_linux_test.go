package link

import (
	"net/netip"
	"testing"
)

// The host in the namespace, and the station that the tests play at the other end of the device.
var (
	host4, station4 = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	host6, station6 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

// opened opens a device and configures the host's side of it.
func opened(t *testing.T, open func(TUNConfig) (Device, error), c TUNConfig) Device {
	t.Helper()
	d, err := open(c)
	if err != nil {
		t.Fatalf("open %+v: %v", c, err)
	}
	t.Cleanup(func() { d.Close() })
	addrs := []netip.Prefix{netip.PrefixFrom(host4, 24), netip.PrefixFrom(host6, 64)}
	if err := ConfigureHost(d.Caps().Name, addrs, 0); err != nil {
		t.Fatal(err)
	}
	return d
}

// receiveTransport reads from a TUN device, past what the kernel says unasked (router solicitations, MLD), until a
// packet of protocol proto comes, and returns it and what follows the IP header.
func receiveTransport(t *testing.T, d Device, proto byte) (Packet, []byte) {
	t.Helper()
	skip := 0
	if d.Caps().Ethernet {
		skip = 14
	}
	p := make([]Packet, 1)
	for {
		if n, err := d.Queues()[0].Read(p); n != 1 || err != nil {
			t.Fatalf("Read: %d, %v, want a packet", n, err)
		}
		switch ip := p[0].Head[skip:]; {
		case ip[0] == 0x45 && ip[9] == proto:
			return p[0], ip[20:]
		case ip[0]>>4 == 6 && ip[6] == proto:
			return p[0], ip[40:]
		}
	}
}
