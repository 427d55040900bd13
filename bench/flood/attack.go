package main

import (
	"encoding/binary"
	"net/netip"

	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
)

// Where the attacker is.
const (
	guest   = "a wire of its own" // to the router, from inside
	outside = "another outside"   // likewise, from outside
	lan     = "the client's LAN"  // a switch: its packets wait in one queue with the client's
	wan     = "the server's WAN"  // a switch: its packets wait in one queue with the server's
)

// attack is what an attacker sends: one packet, again and again, with a number in it that counts.
type attack struct {
	where, name string
	busy        bool // sends nothing, and keeps a core busy
	proto       uint8
	src, dst    string
	port        uint16
	count       []int // where in the packet the number's lower half stands, and then its upper half, if a second place is named
	against     []int // where the lower half's complement stands, so that sums stay as they are
}

// Places of 16 bits in an IPv4 packet with a header of 20 octets.
const (
	id      = 4
	srcHigh = 12
	srcLow  = 14
	dstLow  = 18
	sport   = 20
	dport   = 22
	seq     = 26 // TCP, the lower half
	echoID  = 24
	echoSeq = 26
)

// attacks are what is measured.
var attacks = []attack{
	{where: guest, name: "a busy core", busy: true},
	{guest, "SYN to the open port behind", false, ipv4.ProtoTCP, guestHost, serverAddr, 80, []int{sport}, []int{seq}},
	{guest, "SYN to nobody behind", false, ipv4.ProtoTCP, guestHost, "203.0.113.77", 80, []int{sport}, []int{seq}},
	{guest, "SYN to the router", false, ipv4.ProtoTCP, guestHost, guestAddr, 80, []int{sport}, []int{seq}},
	{guest, "UDP to ever new places", false, ipv4.ProtoUDP, guestHost, "100.64.0.0", 257, []int{dstLow, sport}, []int{id}},
	{guest, "echo to the router", false, ipv4.ProtoICMP, guestHost, guestAddr, 0, []int{echoID}, []int{echoSeq}},
	{guest, "made-up sources that cannot be", false, ipv4.ProtoUDP, "8.8.0.0", serverAddr, 257, []int{srcLow}, []int{id}},
	{outside, "SYN to closed ports", false, ipv4.ProtoTCP, outsideHost, outsideAddr, 0, []int{dport}, []int{seq}},
	{lan, "SYN to the open port behind", false, ipv4.ProtoTCP, lanHost, serverAddr, 80, []int{sport}, []int{seq}},
	{lan, "UDP to ever new places", false, ipv4.ProtoUDP, lanHost, "100.64.0.0", 257, []int{dstLow, sport}, []int{id}},
	{wan, "SYN to closed ports", false, ipv4.ProtoTCP, wanHost, wanAddr, 0, []int{dport}, []int{seq}},
	{wan, "SYN to a forwarded port", false, ipv4.ProtoTCP, wanHost, wanAddr, 8080, []int{sport}, []int{seq}},
	{wan, "the same from made-up sources", false, ipv4.ProtoTCP, "100.64.0.0", wanAddr, 8080, []int{srcLow}, []int{id, seq}},
}

// packet is the attack's packet with the number 0, behind room for a frame's header.
func (a *attack) packet(room int) []byte {
	size := 60
	if a.proto == ipv4.ProtoTCP {
		size = 40
	}
	b := make([]byte, room+size)
	p := b[room:]
	h := ipv4.Header{Length: size, TTL: 64, Protocol: a.proto, Src: netip.MustParseAddr(a.src), Dst: netip.MustParseAddr(a.dst)}
	h.Encode(p)
	text := p[ipv4.MinHeaderLen:]
	pseudo := checksum.Pseudo(h.Src, h.Dst, a.proto, len(text))
	binary.BigEndian.PutUint16(p[dport:], a.port)
	at := 0
	switch a.proto {
	case ipv4.ProtoTCP:
		text[12], text[13], text[14], at = 0x50, 2, 0x40, 16 // SYN, a window of 16,384
	case ipv4.ProtoUDP:
		text[5] = byte(len(text)) // without a checksum
	case ipv4.ProtoICMP:
		text[0], pseudo, at = ipv4.Echo, 0, 2
	}
	a.number(p, 0)
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^checksum.Sum(p[:ipv4.MinHeaderLen], 0))
	if at > 0 {
		binary.BigEndian.PutUint16(text[at:], ^checksum.Sum(text, pseudo))
	}
	return b
}

// number writes the number n into the packet.
func (a *attack) number(p []byte, n uint32) {
	for i, at := range a.count {
		binary.BigEndian.PutUint16(p[at:], uint16(n>>(16*i)))
	}
	for _, at := range a.against {
		binary.BigEndian.PutUint16(p[at:], ^uint16(n))
	}
}
