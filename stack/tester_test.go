package stack

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// A tester is the other end of the wire: it sends a stack packets made by hand, and looks at each one that comes back.
// It runs in a synctest bubble, so that what the stack has not sent by synctest.Wait it will not send before time passes.
//
// Every packet that comes is held against what any packet of ours must be: headers that decode, checksums that hold,
// options that are well-formed, reserved bits of zero. On Ethernet the tester answers for its own address.
type tester struct {
	*testing.T
	stack *Stack
	ifc   *Interface
	queue link.Queue
	eth   bool
	mac   ethernet.Addr // the tester's
	us    netip.Addr    // the tester
	peer  netip.Addr    // the stack

	narrow bool // packets that are no fragments may have DF clear

	mu   sync.Mutex
	seen []packetSeen // IP packets, but for Neighbor Discovery
	nd   []packetSeen // ARP and Neighbor Discovery
	told []packetSeen // IGMP and MLD
}

// packetSeen is a packet that the stack has sent.
type packetSeen struct {
	eth      ethernet.Header
	arp      ethernet.ARP // meaningful where eth.Type says so
	src, dst netip.Addr
	proto    uint8
	tos      uint8
	hops     uint8
	label    uint32
	packet   []byte // from the IP header on
	text     []byte // behind the IP header
	cut      cut    // of a fragment, whose text is no more than its part
	narrow   bool   // see tester
	alert    bool   // it has the option that asks routers to look inside
	ports    tcp.Ports
	seg      tcp.Segment // meaningful where proto is TCP
}

// The stack's second addresses.
var (
	second4 = netip.MustParsePrefix("198.51.100.130/24")
	second6 = netip.MustParsePrefix("2001:db8:51::130/64")
)

// testerMAC is the tester's station address.
var testerMAC = ethernet.Addr{2, 0, 0x5e, 0x10, 0, 1}

// links runs a test of the stack over a wire without and with Ethernet, each in a bubble of its own, for both families.
func links(t *testing.T, f func(h *tester)) {
	for _, wire := range []link.PipeConfig{{MTU: 1500}, {MTU: 1500, Ethernet: true}} {
		name := "IP"
		if wire.Ethernet {
			name = "Ethernet"
		}
		t.Run(name, func(t *testing.T) { overWire(t, wire, Config{}, f) })
	}
}

// bare is links without Ethernet, for what cannot depend on it.
func bare(t *testing.T, c Config, f func(h *tester)) { overWire(t, link.PipeConfig{MTU: 1500}, c, f) }

// overWire runs a test over one wire, for both families.
func overWire(t *testing.T, wire link.PipeConfig, c Config, f func(h *tester)) {
	families(t, func(t *testing.T, server netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			f(newTester(t, wire, c, server.Addr()))
		})
	})
}

// newTester makes a stack and who tests it, and closes both with the test.
func newTester(t *testing.T, wire link.PipeConfig, c Config, peer netip.Addr) *tester {
	c.NoDAD = true
	a, b := link.Pipe(wire)
	h := &tester{T: t, queue: b.Queues()[0], eth: wire.Ethernet, mac: testerMAC, us: client4.Addr(), peer: peer}
	if peer.Is6() {
		h.us = client6.Addr()
	}
	h.stack = New(c)
	var err error
	if h.ifc, err = h.stack.Attach(a, server4, server6, second4, second6); err != nil {
		t.Fatal(err)
	}
	go h.read()
	t.Cleanup(func() { h.stack.Close(); b.Close() })
	h.idle()
	h.mu.Lock()
	h.nd = nil // what it says of itself when it is attached
	h.mu.Unlock()
	return h
}

// read collects what the stack sends.
func (h *tester) read() {
	in := make([]link.Packet, 16)
	for {
		n, err := h.queue.Read(in)
		for _, p := range in[:n] {
			h.take(slices.Clone(p.Head))
		}
		if err != nil {
			return
		}
	}
}

// take decodes a packet and holds it against what all packets must be.
func (h *tester) take(b []byte) {
	var p packetSeen
	p.narrow = h.narrow
	err := p.decode(b, h.eth)
	if err != nil {
		h.Errorf("the stack sent % x: %v", b, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.eth.Type == ethernet.TypeARP || p.proto == ipv6.ProtoICMP && len(p.text) > 0 && p.text[0] >= ipv6.RouterSolicitation &&
		p.text[0] <= ipv6.Redirect && p.src.Is6() {
		h.nd = append(h.nd, p)
		h.answer(&p)
		return
	}
	if p.proto == ipv4.ProtoIGMP || p.alert {
		h.told = append(h.told, p)
		return
	}
	h.seen = append(h.seen, p)
}

// answer tells the stack who stands at the tester's address.
func (h *tester) answer(p *packetSeen) {
	if p.eth.Type == ethernet.TypeARP {
		if p.arp.Op == ethernet.OpRequest && p.arp.TargetIP == h.us {
			h.arp(p.eth.Src, ethernet.ARP{Op: ethernet.OpReply, SenderHW: h.mac, SenderIP: h.us, TargetHW: p.arp.SenderHW, TargetIP: p.arp.SenderIP})
		}
		return
	}
	var msg ipv6.ICMP
	var n ipv6.NDP
	if msg.Decode(p.text, p.src, p.dst) != nil || n.Decode(&msg) != nil || n.Type != ipv6.NeighborSolicitation || n.Target != h.us {
		return
	}
	h.ndp(p.eth.Src, h.us, p.src, &ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: h.us, Solicited: true, Override: true,
		TargetLL: h.mac, HasTargetLL: true})
}

func (p *packetSeen) decode(b []byte, eth bool) error {
	if eth {
		n, err := p.eth.Decode(b)
		if err != nil {
			return err
		}
		if b = b[n:]; p.eth.Type == ethernet.TypeARP {
			return p.arp.Decode(b)
		}
	}
	if len(b) == 0 {
		return errors.New("an empty packet")
	}
	p.packet = b
	if b[0]>>4 == 4 {
		var ip ipv4.Header
		n, err := ip.Decode(b)
		switch {
		case err != nil:
			return err
		case ip.Protocol == ipv4.ProtoIGMP && (n != ipv4.MinHeaderLen+4 || !ip.RouterAlert() || ip.TTL != 1 || ip.TOS != 0xc0):
			return errors.New("not as RFC 9776 §4 has it")
		case ip.Length != len(b) || n != ipv4.MinHeaderLen && ip.Protocol != ipv4.ProtoIGMP || ip.IsFragment() && ip.DF || !ip.IsFragment() && !ip.DF && !p.narrow:
			return errors.New("not a whole datagram without options, nor a fragment")
		case b[6]&0x80 != 0:
			return errors.New("IPv4's reserved bit is set")
		}
		p.src, p.dst, p.proto, p.tos, p.hops, p.text = ip.Src, ip.Dst, ip.Protocol, ip.TOS, ip.TTL, b[n:]
		p.cut = cut{is: ip.IsFragment(), more: ip.MF, offset: ip.Offset, id: uint32(ip.ID)}
	} else {
		var ip ipv6.Header
		if err := ip.Decode(b); err != nil {
			return err
		}
		if ip.PayloadLength != len(b)-ipv6.HeaderLen {
			return errors.New("the payload length is wrong")
		}
		p.src, p.dst, p.proto, p.tos, p.hops, p.label = ip.Src, ip.Dst, ip.NextHeader, ip.TrafficClass, ip.HopLimit, ip.FlowLabel
		p.text = b[ipv6.HeaderLen:]
		if alert := ipv6.RouterAlertMLD(); p.proto == ipv6.ProtoHopByHop && bytes.HasPrefix(p.text, alert[:]) && ip.HopLimit == 1 {
			p.alert, p.proto, p.text = true, ipv6.ProtoICMP, p.text[len(alert):]
		}
		if p.proto == ipv6.ProtoFragment {
			var c ipv6.Chain
			if err := c.Walk(p.proto, p.text); err != nil || !c.Fragment || p.text[1] != 0 || p.text[3]&6 != 0 {
				return errors.New("an odd Fragment header")
			}
			p.cut = cut{is: true, more: c.More, offset: c.FragOffset, id: c.FragID}
			p.proto, p.text = c.Protocol, p.text[c.Offset:]
		}
	}
	if p.hops == 0 {
		return errors.New("a hop limit of 0") // RFC 1122 §3.2.1.7
	}
	if p.cut.is {
		if p.cut.more && len(p.text)%8 != 0 {
			return errors.New("a fragment whose length is not a multiple of 8")
		}
		return nil
	}
	return p.decodeTransport()
}

func (p *packetSeen) decodeTransport() (err error) {
	pseudo := checksum.Pseudo(p.src, p.dst, p.proto, len(p.text))
	switch p.proto {
	case ipv4.ProtoICMP, ipv4.ProtoIGMP:
		pseudo = 0
	case ipv4.ProtoTCP:
		if p.ports, err = p.seg.Decode(p.text); err == nil {
			err = strict(p.text, p.seg.Flags)
		}
		p.seg.Text = slices.Clone(p.seg.Text)
	}
	if err == nil && checksum.Sum(p.text, pseudo) != 0xffff {
		err = errors.New("the checksum does not hold") // MUST-2
	}
	return err
}

// strict is how a segment of ours must be written: options that are whole and stand once (MUST-68), zeros behind their
// end (MUST-69), an MSS on SYNs alone (MUST-65), reserved bits of zero.
func strict(b []byte, flags tcp.Flags) error {
	if b[12]&0x0f != 0 {
		return errors.New("reserved bits are set")
	}
	had := [256]bool{}
	for o := b[tcp.HeaderLen : int(b[12]>>4)*4]; len(o) > 0; {
		switch {
		case o[0] == 0:
			if strings.Trim(string(o), "\x00") != "" {
				return errors.New("the padding is not zero")
			}
			return nil
		case o[0] == 1:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return errors.New("an option's length is wrong")
		case had[o[0]]:
			return errors.New("an option stands twice")
		case o[0] == 2 && !flags.Has(tcp.SYN):
			return errors.New("an MSS outside of a SYN")
		}
		had[o[0]] = true
		o = o[o[1]:]
	}
	return nil
}

// idle waits until the stack has nothing left to do but wait for time to pass.
func (h *tester) idle() { synctest.Wait() }

// pass lets time pass.
func (h *tester) pass(d time.Duration) {
	time.Sleep(d) // in a bubble
	h.idle()
}

// sent returns the IP packets that the stack has sent since the last look.
func (h *tester) sent() []packetSeen {
	h.idle()
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen
	h.seen = nil
	return seen
}

// neighbor returns the messages of ARP and Neighbor Discovery since the last look.
func (h *tester) neighbor() []packetSeen {
	h.idle()
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.nd
	h.nd = nil
	return seen
}

// silent fails the test if the stack has sent anything.
func (h *tester) silent(why string) {
	h.Helper()
	for _, p := range h.sent() {
		h.Errorf("%s: answered by %s", why, p)
	}
}

// one returns the single packet that the stack has sent.
func (h *tester) one(why string) packetSeen {
	h.Helper()
	seen := h.sent()
	if len(seen) != 1 {
		h.Fatalf("%s: answered by %d packets, want one: %v", why, len(seen), seen)
	}
	return seen[0]
}

func (p packetSeen) String() string {
	if p.proto == ipv4.ProtoTCP {
		return p.src.String() + ">" + p.dst.String() + " " + p.seg.String()
	}
	return p.src.String() + ">" + p.dst.String() + " protocol " + string('0'+rune(p.proto/10)) + string('0'+rune(p.proto%10))
}

// letter is a packet to send. What is zero is as any host would have it.
type letter struct {
	src, dst netip.Addr
	proto    uint8
	tos      uint8
	hops     uint8 // 0: 64
	zeroHops bool
	options  []byte // IPv4
	flags    uint16 // IPv4: DF, MF and offset as on the wire
	next     uint8  // IPv6: a header in front of the transport header
	text     []byte
	mac      ethernet.Addr // 0: the stack's
	bad      func(b []byte) []byte
}

// mail sends a packet.
func (h *tester) mail(l letter) {
	h.Helper()
	h.frame(l.mac, h.build(l))
}

// build writes the IP packet.
func (h *tester) build(l letter) []byte {
	h.Helper()
	if !l.src.IsValid() {
		l.src = h.us
	}
	if !l.dst.IsValid() {
		l.dst = h.peer
	}
	if l.hops == 0 && !l.zeroHops {
		l.hops = 64
	}
	var b []byte
	if l.dst.Is4() {
		ip := ipv4.Header{TOS: l.tos, Length: ipv4.MinHeaderLen + len(l.options) + len(l.text), TTL: l.hops, Protocol: l.proto,
			Src: l.src, Dst: l.dst, Options: l.options}
		b = make([]byte, ip.Len(), ip.Length)
		ip.Encode(b)
		if l.flags != 0 {
			binary.BigEndian.PutUint16(b[6:], l.flags)
			b[10], b[11] = 0, 0
			binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b, 0))
		}
	} else {
		ip := ipv6.Header{TrafficClass: l.tos, PayloadLength: len(l.text), NextHeader: l.proto, HopLimit: l.hops, Src: l.src, Dst: l.dst}
		if l.next != 0 {
			ip.NextHeader = l.next
		}
		b = make([]byte, ipv6.HeaderLen)
		ip.Encode(b)
	}
	b = append(b, l.text...)
	if l.bad != nil {
		b = l.bad(b)
	}
	return b
}

// frame puts bytes on the wire, behind an Ethernet header where there is one.
func (h *tester) frame(to ethernet.Addr, b []byte) {
	h.Helper()
	if h.eth {
		if to.IsZero() {
			to = h.ifc.mac
		}
		e := ethernet.Header{Dst: to, Src: h.mac, Type: ethernet.TypeIPv4}
		if b[0]>>4 == 6 {
			e.Type = ethernet.TypeIPv6
		}
		head := make([]byte, e.Len(), e.Len()+len(b))
		e.Encode(head)
		b = append(head, b...)
	}
	h.raw(b)
}

// raw puts bytes on the wire as they are.
func (h *tester) raw(b []byte) {
	if n, err := h.queue.Write([]link.Packet{{Head: b}}); n != 1 {
		h.Errorf("the wire refuses a packet: %v", err)
	}
}

// arp sends an ARP packet.
func (h *tester) arp(to ethernet.Addr, a ethernet.ARP) {
	var b [ethernet.HeaderLen + ethernet.ARPLen]byte
	e := ethernet.Header{Dst: to, Src: a.SenderHW, Type: ethernet.TypeARP}
	a.Encode(b[e.Encode(b[:]):])
	h.raw(b[:])
}

// ndp sends a message of Neighbor Discovery.
func (h *tester) ndp(to ethernet.Addr, src, dst netip.Addr, n *ipv6.NDP) {
	h.mail(letter{src: src, dst: dst, proto: ipv6.ProtoICMP, hops: ipv6.HopLimitNDP, text: icmp6(src, dst, n.Encode(make([]byte, n.Len()))), mac: to})
}

func icmp6(src, dst netip.Addr, m ipv6.ICMP) []byte {
	b := make([]byte, ipv6.ICMPLen+len(m.Body))
	return b[:m.Encode(b, src, dst)]
}

func icmp4(m ipv4.ICMP) []byte {
	b := make([]byte, ipv4.ICMPLen+len(m.Body))
	return b[:m.Encode(b)]
}

// icmp sends an ICMP message of the family that the test is about.
func (h *tester) icmp(m4 ipv4.ICMP, m6 ipv6.ICMP) {
	h.Helper()
	if h.us.Is4() {
		h.mail(letter{proto: ipv4.ProtoICMP, text: icmp4(m4)})
	} else {
		h.mail(letter{proto: ipv6.ProtoICMP, text: icmp6(h.us, h.peer, m6)})
	}
}

// tcpText is a segment with its checksum.
func (h *tester) tcpText(src, dst netip.Addr, p tcp.Ports, s *tcp.Segment) []byte {
	b := make([]byte, tcp.MaxHeaderLen)
	b = b[:s.Encode(b, p)]
	for _, t := range s.Text {
		b = append(b, t...)
	}
	binary.BigEndian.PutUint16(b[16:], ^checksum.Sum(b, checksum.Pseudo(src, dst, ipv4.ProtoTCP, len(b))))
	return b
}

// segment sends a segment from the tester to the stack.
func (h *tester) segment(p tcp.Ports, s tcp.Segment) {
	h.Helper()
	h.mail(letter{proto: ipv4.ProtoTCP, text: h.tcpText(h.us, h.peer, p, &s)})
}

// second is the stack's other address of the family.
func (h *tester) second() netip.Addr {
	if h.us.Is4() {
		return second4.Addr()
	}
	return second6.Addr()
}

// drops is how often the stack has dropped something for the reason.
func (h *tester) drops(reason string) uint64 {
	h.idle()
	return h.stack.Stats().Drops[reason]
}

// headerLen is the length of the family's IP header.
func (h *tester) headerLen() int {
	if h.us.Is4() {
		return ipv4.MinHeaderLen
	}
	return ipv6.HeaderLen
}
