package stack

import (
	"encoding/binary"
	"io"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// What FuzzInput's octets say of a packet, in front of it, beside its length.
const (
	fuzzFix     = 1 << iota // addresses of ours, and lengths and checksums that hold, so that it gets further up
	fuzzSegment             // and of the sequence numbers of an open connection, which they are relative to
	fuzzPartial             // the device vouches for it
	fuzzGSO                 // and it is a super-segment
	fuzzCut                 // IPv4: it is the fragment that it says, of a small packet
)

// fuzzTarget is a host with a listener, a UDP socket and two connections to a peer, of which a stranger may know all
// there is to know of one. The stranger stands on a wire of its own.
type fuzzTarget struct {
	*testing.T
	stack    *Stack
	ifc      *Interface
	far      link.Device
	open     [2]*TCPConn // ours, and the peer's end of it
	attacked *TCPConn
}

func newFuzzTarget(t *testing.T, eth bool) *fuzzTarget {
	f := &fuzzTarget{T: t}
	c := Config{NoDAD: true, Memory: 4 << 20, Backlog: 16, TCP: tcp.Config{NoTimestamps: true}} // which would refuse what is made up
	peer, s := pair(t, link.PipeConfig{}, c)
	near, far := link.Pipe(link.PipeConfig{Ethernet: eth, GSO: 65535})
	t.Cleanup(func() { far.Close() })
	var err error
	if f.ifc, err = s.Attach(near, netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("2001:db8:113::2/64")); err != nil {
		t.Fatal(err)
	}
	if eth {
		if err := f.ifc.Autoconfigure(AutoConfig{Temporary: true}); err != nil {
			t.Fatal(err)
		}
	}
	f.stack, f.far = s, far
	f.open[1], f.open[0] = connected(t, peer, s, server4)
	l, err := s.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, 80))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := peer.DialTCP(t.Context(), "tcp", netip.AddrPortFrom(client4.Addr(), 4000), netip.AddrPortFrom(server4.Addr(), 80)); err != nil {
		t.Fatal(err)
	}
	if f.attacked, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ListenUDP("udp", netip.AddrPortFrom(netip.Addr{}, 53)); err != nil {
		t.Fatal(err)
	}
	go f.listen()
	return f
}

// listen takes what the host says, so that the wire does not fill.
func (f *fuzzTarget) listen() {
	in := make([]link.Packet, 16)
	for {
		if _, err := f.far.Queues()[0].Read(in); err != nil {
			return
		}
	}
}

// throw sends the packet that the flags and b make.
func (f *fuzzTarget) throw(flags byte, b []byte) {
	ip := b
	if f.ifc.caps.Ethernet {
		if len(b) < ethernet.HeaderLen {
			ip = nil
		} else {
			ip = b[ethernet.HeaderLen:]
		}
		if flags&fuzzFix != 0 && ip != nil {
			copy(b, f.ifc.mac[:])
		}
	}
	if flags&fuzzFix != 0 {
		f.fix(ip, flags)
	}
	p := link.Packet{Head: b}
	p.Offload.Partial = flags&fuzzPartial != 0
	if flags&fuzzGSO != 0 {
		p.Offload.GSO, p.Offload.Size = link.UDP, 100
	}
	f.far.Queues()[0].Write([]link.Packet{p})
	synctest.Wait()
}

// fix makes an IP packet one that is for us.
func (f *fuzzTarget) fix(b []byte, flags byte) {
	switch {
	case len(b) >= ipv4.MinHeaderLen && b[0]>>4 == 4:
		n := max(int(b[0]&15)*4, ipv4.MinHeaderLen)
		if n > len(b) {
			return
		}
		b[0] = 0x40 | byte(n/4)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		if flags&fuzzCut == 0 {
			b[6], b[7] = 0, 0
		} else {
			b[4], b[5], b[6] = 0, b[5]&3, b[6]&0x20
		}
		b[10], b[11] = 0, 0
		copy(b[16:], server4.Addr().AsSlice())
		if b[12] == 0 {
			copy(b[12:], client4.Addr().AsSlice())
		}
		binary.BigEndian.PutUint16(b[10:], ^checksum.Sum(b[:n], 0))
		if b[6] != 0 || b[7] != 0 {
			return
		}
		f.fixText(b[n:], netip.AddrFrom4([4]byte(b[12:])), server4.Addr(), b[9], flags)
	case len(b) >= ipv6.HeaderLen && b[0]>>4 == 6:
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-ipv6.HeaderLen))
		b[7] = ipv6.HopLimitNDP
		if b[24] != 0xff {
			copy(b[24:], server6.Addr().AsSlice())
		}
		if b[8] == 0 && b[9] == 0 {
			copy(b[8:], client6.Addr().AsSlice())
		}
		src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		proto, text := b[6], b[ipv6.HeaderLen:]
		var c ipv6.Chain
		if c.Walk(proto, text) == nil {
			if c.Fragment {
				return
			}
			proto, text = c.Protocol, text[c.Offset:]
		}
		f.fixText(text, src, dst, proto, flags)
	}
}

func (f *fuzzTarget) fixText(b []byte, src, dst netip.Addr, proto byte, flags byte) {
	at, pseudo := 0, checksum.Pseudo(src, dst, proto, len(b))
	switch proto {
	case ipv4.ProtoTCP:
		at = 16
		if flags&fuzzSegment != 0 && len(b) >= tcp.HeaderLen {
			i := f.attacked.Info()
			binary.BigEndian.PutUint32(b, 4000<<16|80)
			binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])+uint32(i.RcvNxt))
			binary.BigEndian.PutUint32(b[8:], binary.BigEndian.Uint32(b[8:])+uint32(i.SndUna))
		}
	case ipv4.ProtoUDP:
		if at = 6; len(b) >= udp.HeaderLen {
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
		}
	case ipv4.ProtoICMP:
		at, pseudo = 2, 0
	case ipv6.ProtoICMP:
		at = 2
	}
	if at == 0 || len(b) < at+2 {
		return
	}
	b[at], b[at+1] = 0, 0
	binary.BigEndian.PutUint16(b[at:], ^checksum.Sum(b, pseudo))
}

// bounded fails where the host holds more than it may.
func (f *fuzzTarget) bounded(packets int) {
	st := f.stack.Stats()
	if st.Memory < 0 || st.Memory > 4<<20 {
		f.Errorf("%d octets of chunks", st.Memory)
	}
	if st.Conns > 2+16+1 { // what waits for Accept is bounded by the backlog
		f.Errorf("%d connections", st.Conns)
	}
	n := &f.ifc.neigh
	n.Lock()
	if len(n.parked) > 512 || n.packets > maxWaitingAll {
		f.Errorf("%d neighbours are waited for, by %d packets", len(n.parked), n.packets)
	}
	n.Unlock()
	// No packet is answered by more than one, but that a few connections repeat what is not acknowledged.
	if st.PacketsOut > uint64(2*packets+100) {
		f.Errorf("%d packets sent for %d that came", st.PacketsOut, packets)
	}
}

// works fails where the connection that nobody knows of does not carry text any longer.
func (f *fuzzTarget) works() {
	for k, c := range f.open {
		c.SetDeadline(time.Now().Add(time.Minute))
		f.open[1-k].SetDeadline(time.Now().Add(time.Minute))
		var b [5]byte
		if _, err := c.Write([]byte("still")); err != nil {
			f.Fatal(err)
		}
		if _, err := io.ReadFull(f.open[1-k], b[:]); err != nil || string(b[:]) != "still" {
			f.Fatalf("read %q, %v", b, err)
		}
	}
}

// FuzzInput throws arbitrary octets at a stack, as packets of a device without and with Ethernet. The first octet says
// which; then each packet has an octet of flags and two of length in front.
func FuzzInput(f *testing.F) {
	for _, eth := range []byte{0, 1} {
		f.Add(fuzzSeed(eth))
	}
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 || len(data) > 1<<16 {
			return
		}
		synctest.Test(t, func(t *testing.T) {
			target, packets := newFuzzTarget(t, data[0]&1 != 0), 0
			for b := data[1:]; len(b) >= 3; packets++ {
				n := min(int(binary.BigEndian.Uint16(b[1:])), len(b)-3)
				target.throw(b[0], append([]byte(nil), b[3:3+n]...))
				b = b[3+n:]
			}
			target.bounded(packets)
			time.Sleep(10 * time.Second) // of the bubble: timers run
			target.works()
		})
	})
}

// fuzzSeed is a packet of each kind that the stack knows.
func fuzzSeed(eth byte) []byte {
	all := []byte{eth}
	add := func(flags byte, kind ethernet.EtherType, b []byte) {
		if eth != 0 {
			e := ethernet.Header{Src: testerMAC, Type: kind}
			head := make([]byte, e.Len())
			e.Encode(head)
			b = append(head, b...)
		}
		all = append(all, flags, byte(len(b)>>8), byte(len(b)))
		all = append(all, b...)
	}
	segment := func(s tcp.Segment) []byte {
		b := make([]byte, tcp.MaxHeaderLen)
		return append(b[:s.Encode(b, tcp.Ports{Src: 4001, Dst: 80})], "text"...)
	}
	syn := tcp.Segment{Flags: tcp.SYN, Window: 1000}
	syn.Options.MSS, syn.Options.HasScale, syn.Options.SACKPermitted = 1000, true, true
	quoted4 := datagram4(netip.AddrPortFrom(server4.Addr(), 53), netip.AddrPortFrom(client4.Addr(), 7), []byte("datagram"))
	texts := []struct {
		flags byte
		proto uint8
		text  []byte
	}{
		{fuzzFix, ipv4.ProtoTCP, segment(syn)},
		{fuzzFix | fuzzSegment, ipv4.ProtoTCP, segment(tcp.Segment{Flags: tcp.ACK, Window: 100})},
		{fuzzFix | fuzzSegment, ipv4.ProtoTCP, segment(tcp.Segment{Seq: 10, Flags: tcp.ACK | tcp.FIN, Window: 100})},
		{fuzzFix | fuzzSegment, ipv4.ProtoTCP, segment(tcp.Segment{Flags: tcp.RST})},
		{fuzzFix, ipv4.ProtoUDP, []byte("\x00\x07\x00\x35\x00\x0c\x00\x00text")},
		{fuzzFix | fuzzPartial | fuzzGSO, ipv4.ProtoUDP, append([]byte("\x00\x07\x00\x35\x00\x0c\x00\x00"), make([]byte, 300)...)},
		{fuzzFix, ipv4.ProtoUDP, []byte("\x00\x07\x00\x36\x00\x0c\x00\x00text")},
		{fuzzFix, ipv4.ProtoICMP, icmp4(ipv4.ICMP{Type: ipv4.Echo, Body: []byte("echo")})},
		{fuzzFix, ipv4.ProtoICMP, icmp4(ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeFragNeeded, Body: quoted4})},
		{fuzzFix, 132, []byte("unknown")},
	}
	for _, x := range texts {
		b := datagram4(netip.AddrPortFrom(client4.Addr(), 0), netip.AddrPortFrom(server4.Addr(), 0), nil)[:ipv4.MinHeaderLen]
		b[9] = x.proto
		add(x.flags, ethernet.TypeIPv4, append(b, x.text...))
		if x.proto != ipv4.ProtoICMP {
			add(x.flags, ethernet.TypeIPv6, datagram6(client6.Addr(), server6.Addr(), x.proto, x.text))
		}
	}
	src, dst := netip.MustParseAddr("2001:db8:113::1"), netip.MustParseAddr("2001:db8:113::2")
	ns := ipv6.NDP{Type: ipv6.NeighborSolicitation, Target: dst, SourceLL: testerMAC, HasSourceLL: true}
	solicit := ns.Encode(make([]byte, 64))
	for _, m := range []ipv6.ICMP{{Type: ipv6.Echo, Body: []byte("echo")}, solicit,
		{Type: ipv6.PacketTooBig, Rest: 1280, Body: datagram6(server6.Addr(), client6.Addr(), ipv6.ProtoUDP, make([]byte, 20))}} {
		add(fuzzFix, ethernet.TypeIPv6, datagram6(src, dst, ipv6.ProtoICMP, icmp6(src, dst, m)))
		add(fuzzFix, ethernet.TypeIPv6, datagram6(src, allNodes, ipv6.ProtoICMP, icmp6(src, allNodes, m)))
	}
	add(fuzzFix, ethernet.TypeIPv6, datagram6(src, dst, ipv6.ProtoHopByHop, []byte{ipv6.ProtoDestOpts, 0, 1, 4, 0, 0, 0, 0, ipv6.ProtoNoNext, 0, 0x80, 4, 0, 0, 0, 0}))
	ra := advertises(lanNet)
	ra.NumRoutes, ra.NumServers, ra.NumSearch, ra.Search[0].Lifetime = 1, 1, 1, 60
	ra.Routes[0] = ipv6.Route{Prefix: newNet, Lifetime: 60}
	ra.Servers[0] = ipv6.Server{Addr: routerA, Lifetime: 60}
	ra.Search[0].Add("example")
	for _, n := range []*ipv6.NDP{ra, {Type: ipv6.Redirect, Target: routerB, Dest: farAddr.Addr()}} {
		m := icmp6(routerA, allNodes, n.Encode(make([]byte, n.Len())))
		add(fuzzFix, ethernet.TypeIPv6, datagram6(routerA, allNodes, ipv6.ProtoICMP, m))
	}
	for _, at := range []byte{2, 0, 1} { // a datagram in three fragments
		more := byte(1)
		if at == 2 {
			more = 0
		}
		text := []string{"\x00\x07\x00\x35\x00\x18\x00\x00", "12345678", "the end"}[at]
		b := datagram4(netip.AddrPortFrom(client4.Addr(), 0), netip.AddrPortFrom(server4.Addr(), 0), nil)[:ipv4.MinHeaderLen]
		b[6], b[7], b[9] = more<<5, at, ipv4.ProtoUDP
		add(fuzzFix|fuzzCut, ethernet.TypeIPv4, append(b, text...))
		add(fuzzFix, ethernet.TypeIPv6, datagram6(src, dst, ipv6.ProtoFragment, append([]byte{ipv6.ProtoUDP, 0, 0, at<<3 | more, 0, 0, 0, 1}, text...)))
	}
	arp := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: testerMAC, SenderIP: netip.MustParseAddr("203.0.113.1"), TargetIP: netip.MustParseAddr("203.0.113.2")}
	var b [ethernet.ARPLen]byte
	arp.Encode(b[:])
	add(fuzzFix, ethernet.TypeARP, b[:])
	return all
}
