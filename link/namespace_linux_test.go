package link

import (
	"encoding/binary"
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

// sum is the ones'-complement sum of b, added to s (RFC 1071).
func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return s
}

const (
	protoTCP, tcpChecksum = 6, 16
	protoUDP, udpChecksum = 17, 6
)

// ipPacket puts an IP header in front of a TCP segment or UDP datagram and fills in the checksums, the transport's
// only in part if partial.
func ipPacket(src, dst netip.Addr, proto byte, segment []byte, partial bool) []byte {
	at := udpChecksum
	if proto == protoTCP {
		at = tcpChecksum
	}
	pseudo := sum(sum(uint32(proto)+uint32(len(segment)), src.AsSlice()), dst.AsSlice())
	binary.BigEndian.PutUint16(segment[at:], uint16(pseudo))
	if !partial {
		binary.BigEndian.PutUint16(segment[at:], ^uint16(sum(0, segment)))
	}
	var h []byte
	if src.Is4() {
		h = []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, proto, 0, 0}
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(segment)))
		h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], ^uint16(sum(0, h)))
	} else {
		h = []byte{0x60, 0, 0, 0, 0, 0, proto, 64}
		binary.BigEndian.PutUint16(h[4:], uint16(len(segment)))
		h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
	}
	return append(h, segment...)
}

func udpDatagram(src, dst uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return append(append(b, 0, 0), payload...)
}

func tcpSegment(src, dst uint16, seq, ack uint32, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src)
	b = binary.BigEndian.AppendUint16(b, dst)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
	return append(b, payload...)
}
