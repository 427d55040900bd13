package link

import (
	"encoding/binary"
	"net/netip"
)

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
