package main

import (
	"encoding/binary"

	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/internal/checksum"
)

const (
	ethernetLen = 14 // RFC 894
	arpLen      = 28 // RFC 826, of IPv4 on Ethernet
	ipLen       = 20 // RFC 791 §3.1, without options
	tcpLen      = 20 // RFC 9293 §3.1, without options
	maxPacket   = 1<<16 - 1
	mss         = 1500 - ipLen - tcpLen // of the MTU that "ip tuntap add" gives a device
	protoTCP    = 6
	hopLimit    = 64
	ackEvery    = 16 // ordinary segments
	typeIPv4    = 0x0800
	typeARP     = 0x0806
)

// The control bits of RFC 9293 §3.1 that the stub knows.
const (
	fin = 1
	syn = 2
	rst = 4
	psh = 8
	ack = 16
)

// synOptions are the MSS, a NOP, and a window scale of 8, with which the window of 65,535 that every segment announces
// is 16 MB: it never fills.
var synOptions = []byte{2, 4, mss >> 8, mss & 0xff, 1, 3, 3, 8}

// smallOptions announce 256 KB, of which four connections overflow no queue of a TAP, 1,000 packets, when each packet is
// one: the stub has no place for what follows one that is lost.
var smallOptions = []byte{2, 4, mss >> 8, mss & 0xff, 1, 3, 3, 2}

var be = binary.BigEndian

// station is our station address on a TAP, locally administered.
var station = [6]byte{2, 0, 0, 0, 0, 2}

// frame is how long the headers are in front of an IP packet, 0 for those that the device does not have.
type frame struct{ virtio, ethernet int }

func (f frame) len() int { return f.virtio + f.ethernet }

// maxText is the longest text of a segment: that of one packet, unless the device takes super-segments.
func (f frame) maxText() int {
	if f.virtio == 0 {
		return mss
	}
	return (maxPacket - ipLen - tcpLen) / mss * mss
}

// segment is what the stub reads of a packet.
type segment struct {
	src      [4]byte
	from, to uint16
	seq, ack uint32
	flags    uint8
	window   uint16
	options  []byte
	text     []byte
}

// parse takes a TCP segment apart. It looks at lengths only as far as not to panic.
func parse(b []byte) (p segment, ok bool) {
	if len(b) < ipLen+tcpLen || b[0] != 4<<4|ipLen/4 || b[9] != protoTCP {
		return p, false
	}
	end := min(int(be.Uint16(b[2:])), len(b))
	t := b[ipLen:]
	head := int(t[12]>>4) * 4
	if head < tcpLen || ipLen+head > end {
		return p, false
	}
	return segment{
		src: [4]byte(b[12:16]), from: be.Uint16(t), to: be.Uint16(t[2:]), seq: be.Uint32(t[4:]), ack: be.Uint32(t[8:]),
		flags: t[13], window: be.Uint16(t[14:]), options: t[tcpLen:head], text: b[ipLen+head : end],
	}, true
}

// windowScale finds the option of RFC 7323 §2.2 in a SYN.
func windowScale(o []byte) uint8 {
	for len(o) >= 2 {
		switch {
		case o[0] == 0:
			return 0
		case o[0] == 1:
			o = o[1:]
			continue
		case o[0] == 3 && len(o) >= 3:
			return min(o[2], 14)
		}
		o = o[min(max(int(o[1]), 2), len(o)):]
	}
	return 0
}

// answer writes the answer to an ARP request for our address, and returns its length, 0 to anything else. What a request
// says of its sender comes back as the target's.
func (f frame) answer(b, request []byte) int {
	ours := service.Addr4.Addr().As4()
	if len(request) < ethernetLen+arpLen || [4]byte(request[38:]) != ours || request[21] != 1 {
		return 0
	}
	clear(b[:f.virtio])
	b = b[f.virtio:]
	copy(b, request[6:12])
	copy(b[6:], station[:])
	copy(b[12:], request[12:20]) // the types of frame and addresses, and their lengths
	be.PutUint16(b[20:], 2)      // reply
	copy(b[22:], station[:])
	copy(b[28:], ours[:])
	copy(b[32:], request[22:32])
	return f.virtio + ethernetLen + arpLen
}

// build writes the headers of a packet in front of the payload that stands in b. With the virtio header the checksum is
// the kernel's to complete.
func (f frame) build(b []byte, c *conn, flags uint8, options []byte) {
	p := b[f.len():]
	head := tcpLen + len(options)
	text := len(p) - ipLen - head
	if f.virtio > 0 {
		v := b[:f.virtio]
		clear(v)
		v[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
		binary.NativeEndian.PutUint16(v[6:], uint16(f.ethernet+ipLen))
		binary.NativeEndian.PutUint16(v[8:], 16) // where the checksum stands in a TCP header
		if text > mss {
			v[1] = 1 // VIRTIO_NET_HDR_GSO_TCPV4
			binary.NativeEndian.PutUint16(v[2:], uint16(f.ethernet+ipLen+head))
			binary.NativeEndian.PutUint16(v[4:], mss)
		}
	}
	if f.ethernet > 0 {
		h := b[f.virtio:]
		copy(h, c.station[:])
		copy(h[6:], station[:])
		be.PutUint16(h[12:], typeIPv4)
	}
	t := p[ipLen:]
	clear(p[:ipLen])
	p[0], p[6], p[8], p[9] = 4<<4|ipLen/4, 1<<6, hopLimit, protoTCP // DF
	be.PutUint16(p[2:], uint16(len(p)))
	ours := service.Addr4.Addr().As4()
	copy(p[12:], ours[:])
	copy(p[16:], c.peer[:])
	be.PutUint16(p[10:], ^checksum.Sum(p[:ipLen], 0))
	be.PutUint16(t, c.ours)
	be.PutUint16(t[2:], c.port)
	be.PutUint32(t[4:], c.nxt)
	be.PutUint32(t[8:], c.rcv)
	t[12], t[13] = uint8(head/4)<<4, flags
	be.PutUint16(t[14:], 1<<16-1)
	copy(t[tcpLen:], options)
	be.PutUint16(t[16:], checksum.Combine(checksum.Sum(p[12:20], 0), checksum.Combine(protoTCP, uint16(head+text))))
	be.PutUint16(t[18:], 0)
	if f.virtio == 0 {
		be.PutUint16(t[16:], ^checksum.Sum(t, 0))
	}
}
