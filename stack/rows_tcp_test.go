package stack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/checksum"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// These are the rows of RFC 9293 that are about what surrounds a TCB: addresses, checksums, ICMP, IP's fields, sockets.
// A number such as C19 is that of a row in the project's list of what a stack must do.

// TestC2C8TheTesterLooks makes sure that the tester would see what no segment of ours may have.
func TestC2C8TheTesterLooks(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		good := letter{src: h.peer, dst: h.us, proto: ipv4.ProtoTCP, flags: 0x4000}
		for _, x := range []struct {
			name string
			bad  func(b []byte)
		}{
			{"flags", func(b []byte) { b[13] |= 1 }},
			{"reserved bits", func(b []byte) { b[12] |= 1; resum(b, h.peer, h.us) }},
			{"an option that overruns", func(b []byte) { b[21] = 40; resum(b, h.peer, h.us) }},
			{"an option of length 0", func(b []byte) { b[21] = 0; resum(b, h.peer, h.us) }},
			{"padding", func(b []byte) { b[20], b[23] = 0, 1; resum(b, h.peer, h.us) }},
			{"an MSS on an ACK", func(b []byte) { b[13] = byte(tcp.ACK); resum(b, h.peer, h.us) }},
		} {
			seg := tcp.Segment{Flags: tcp.SYN, Options: tcp.Options{MSS: 1460, HasScale: true, SACKPermitted: true}}
			good.text = h.tcpText(h.peer, h.us, tcp.Ports{Src: 80, Dst: 4000}, &seg)
			var p packetSeen
			if err := p.decode(h.build(good), false); err != nil {
				t.Errorf("a good segment: %v", err)
			}
			if x.bad(good.text); p.decode(h.build(good), false) == nil {
				t.Errorf("%s pass", x.name)
			}
		}
	})
}

// resum corrects the checksum of a segment that was changed.
func resum(b []byte, src, dst netip.Addr) {
	b[16], b[17] = 0, 0
	binary.BigEndian.PutUint16(b[16:], ^checksum.Sum(b, checksum.Pseudo(src, dst, ipv4.ProtoTCP, len(b))))
}

// TestC2Checksum: the sums of text of each length, of a SYN-ACK and of resets without a socket hold. The tester looks.
func TestC2Checksum(t *testing.T) {
	links(t, func(h *tester) {
		d := h.shakes()
		for n := range 40 {
			d.conn.Write(make([]byte, n))
			d.conn.Write([]byte{0xff, byte(n)})
		}
		if got := len(d.sent()); got < 79 {
			t.Errorf("%d segments", got)
		}
		h.segment(tcp.Ports{Src: 1, Dst: 2}, tcp.Segment{Seq: 5, Ack: 6, Flags: tcp.ACK})
		h.segment(tcp.Ports{Src: 1, Dst: 2}, tcp.Segment{Seq: 5, Flags: tcp.SYN})
		if got := len(d.sent()); got != 2 {
			t.Errorf("%d resets", got)
		}
	})
}

// TestC3BadChecksum: what is damaged is dropped in silence, whatever it says.
func TestC3BadChecksum(t *testing.T) {
	links(t, func(h *tester) {
		d := h.shakes()
		seg := tcp.Segment{Seq: d.irs + 1, Ack: d.iss + 1, Flags: tcp.ACK, Window: fullWindow, Text: [][]byte{[]byte("abc")}}
		syn := tcp.Segment{Seq: 77, Flags: tcp.SYN, Window: fullWindow}
		rst := tcp.Segment{Seq: d.irs + 1, Flags: tcp.RST}
		n := uint64(0)
		for _, x := range []struct {
			name  string
			ports tcp.Ports
			seg   tcp.Segment
			octet int
		}{
			{"text", d.ports, seg, tcp.HeaderLen + 1},
			{"checksum", d.ports, seg, 16},
			{"text, checksum", d.ports, seg, 17},
			{"reset", d.ports, rst, 17},
			{"SYN to the listener", tcp.Ports{Src: 5000, Dst: stackPort}, syn, 16},
			{"SYN to nobody", tcp.Ports{Src: 5000, Dst: 81}, syn, 16},
		} {
			b := h.tcpText(h.us, h.peer, x.ports, &x.seg)
			b[x.octet] ^= 0x10
			h.mail(letter{proto: ipv4.ProtoTCP, text: b})
			h.pass(time.Second)
			h.silent(x.name)
			if n++; h.drops("bad-tcp-checksum") != n {
				t.Errorf("%s: not counted", x.name)
			}
		}
		h.mail(letter{dst: h.second(), proto: ipv4.ProtoTCP, text: h.tcpText(h.us, h.peer, d.ports, &syn)})
		h.silent("another address in the pseudo-header")
		if d.state() != tcp.Established || d.conn.Info().Unread != 0 {
			t.Error("the connection was changed")
		}
	})
}

// optioned is a segment whose options are the given octets, padded to a word with zeros.
func (d *dialog) optioned(seq, ack int, flags tcp.Flags, options []byte, text string) {
	s := tcp.Segment{Seq: d.irs + tcp.Seq(seq), Flags: flags, Window: d.window}
	if ack >= 0 {
		s.Ack = d.iss + tcp.Seq(ack)
	}
	head := d.tcpText(d.us, d.peer, d.ports, &s)
	for len(options)%4 != 0 {
		options = append(options, 0)
	}
	b := slices.Concat(head, options, []byte(text))
	b[12] = byte((tcp.HeaderLen+len(options))/4) << 4
	resum(b, d.us, d.peer)
	d.mail(letter{proto: ipv4.ProtoTCP, text: b})
}

// TestC4C5C6C7Options: options in any segment; what makes no sense, or is unknown, harms nothing.
func TestC4C5C6C7Options(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.answers()
		for i, o := range [][]byte{
			{253, 10, 1, 2, 3, 4, 5, 6, 7, 8},                                                                                                      // C5: unknown
			{2, 0}, {2, 1}, {253, 255}, {2, 3, 5}, {8, 9, 1, 2, 3, 4, 5, 6, 7}, {3, 4, 7, 7}, {5, 3, 1}, {5, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {253}, // C6
			{1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 2, 4, 5, 180, 3, 3, 7, 4, 2}, // C7: not aligned
		} {
			d.ports.Src = uint16(6000 + i)
			d.optioned(0, -1, tcp.SYN, o, "")
			p := d.one(fmt.Sprintf("SYN with % x", o))
			d.iss = p.seg.Seq
			if got := d.relative(&p); got != "<SEQ=0><ACK=1><CTL=SYN,ACK>" {
				t.Errorf("% x: answered by %s", o, got)
			}
			if i == 0 && strings.Contains(string(p.text), "\x01\x02\x03\x04\x05\x06\x07\x08") {
				t.Error("the unknown option is echoed")
			}
			if opt := p.seg.Options; o[0] == 1 && (opt.TSEcr != 9 || !opt.HasScale || !opt.SACKPermitted) {
				t.Errorf("% x: not understood: %+v", o, opt)
			}
		}

		d = h.stranger()
		d.ports.Src, d.listener = 7000, nil
		l, _ := h.stack.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, 90))
		d.listener, d.ports.Dst = l, 90
		d.optioned(0, -1, tcp.SYN, []byte{1, 1, 2, 4, 2, 188, 0, 3, 3, 3, 9, 9}, "") // C4: an MSS of 700, the end, and junk
		p := d.one("SYN with junk behind its options")
		if d.iss = p.seg.Seq; p.seg.Options.HasScale {
			t.Error("what stands behind the end of the options is read")
		}
		d.say(1, 1, tcp.ACK)
		d.accept()
		d.conn.Write(make([]byte, 3000))
		for _, p := range d.sent() {
			if n := p.seg.TextLen(); n > 700 {
				t.Errorf("%d octets in a segment", n)
			}
		}
		d.optioned(1, 1, tcp.ACK, []byte{1, 1, 253, 2, 254, 6, 1, 1, 1, 1}, "abc") // MUST-5: in any segment
		d.pass(50 * time.Millisecond)
		if got := d.conn.Info().Unread; got != 3 {
			t.Errorf("%d octets of a segment with options arrive", got)
		}
	})
}

// TestC9MSSOption: both SYNs say what the link's MTU leaves for text.
func TestC9MSSOption(t *testing.T) {
	for _, mtu := range []int{1280, 1500, 9000, 65535} {
		overWire(t, link.PipeConfig{MTU: mtu}, Config{}, func(h *tester) {
			want := uint16(mtu - h.headerLen() - tcp.HeaderLen)
			d := h.answers()
			p := d.asks()
			if got := p.seg.Options.MSS; got != min(want, 65495) {
				t.Errorf("MTU %d: the SYN-ACK says %d, want %d", mtu, got, want)
			}
			go h.stack.Dial("tcp", netip.AddrPortFrom(h.us, 9).String())
			p = d.one("Dial")
			if got := p.seg.Options.MSS; got != min(want, 65495) {
				t.Errorf("MTU %d: the SYN says %d, want %d", mtu, got, want)
			}
		})
	}
}

// TestC11C12SegmentSize: the smaller of what the peer and the link take, less the options that are really there.
func TestC11C12SegmentSize(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		link, least := 1500-h.headerLen()-tcp.HeaderLen, 536
		if h.us.Is6() {
			least = 1220
		}
		for i, x := range []struct {
			name    string
			options tcp.Options
			want    int
		}{
			{"no MSS", tcp.Options{}, least}, // MUST-15
			{"as large as the link's", tcp.Options{MSS: uint16(link), SACKPermitted: true}, link},
			{"larger", tcp.Options{MSS: 9000}, link},
			{"smaller", tcp.Options{MSS: 1000}, 1000},
			{"timestamps", tcp.Options{MSS: uint16(link), HasTimestamps: true, TSVal: 1}, link - 12},
		} {
			l, err := h.stack.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, uint16(100+i)))
			if err != nil {
				t.Fatal(err)
			}
			d := h.stranger()
			d.listener, d.ports.Dst, d.options = l, uint16(100+i), x.options
			p := d.asks()
			ack := tcp.Segment{Seq: d.irs + 1, Ack: p.seg.Seq + 1, Flags: tcp.ACK, Window: fullWindow}
			if x.options.HasTimestamps {
				ack.Options = tcp.Options{HasTimestamps: true, TSVal: 1, TSEcr: p.seg.Options.TSVal}
			}
			d.segment(d.ports, ack)
			d.idle()
			d.accept()
			d.conn.Write(make([]byte, 5000))
			seen := d.sent()
			for k, p := range seen {
				if n := p.seg.TextLen(); n != x.want && (k < len(seen)-1 || n > x.want) {
					t.Errorf("%s: %d octets in a segment, want %d", x.name, n, x.want)
				}
			}
			if len(seen) != (5000+x.want-1)/x.want {
				t.Errorf("%s: %d segments", x.name, len(seen))
			}
		}
	})
}

// TestC13C121ISN: RFC 6528, and A29. The numbers of one flow rise with the clock; those of many flows are spread evenly; another key
// gives others.
func TestC13C121ISN(t *testing.T) {
	var a, b secrets
	fill := byte(0)
	source := func(p []byte) error {
		fill++
		for i := range p {
			p[i] = byte(i) * fill
		}
		return nil
	}
	a.init(source)
	b.init(source)
	flow := tcp.Flow{Local: server4.Addr().As16(), Remote: client4.Addr().As16(), LocalPort: 1, RemotePort: 80}
	first, off := a.iss(time.Second, &flow)
	later, again := a.iss(2*time.Second, &flow)
	if got := later - first; got != 250000 || off != again {
		t.Errorf("in a second the number rises by %d, want 250000 (MUST-8); timestamp offsets %d, %d", got, off, again)
	}
	if other, _ := b.iss(time.Second, &flow); other == first {
		t.Error("two keys give the same number")
	}
	var bins [4][256]float64
	const flows = 10000
	for n := range flows {
		flow.LocalPort, flow.Remote[15] = uint16(n), byte(n>>8)
		iss, _ := a.iss(time.Second, &flow)
		for k := range bins {
			bins[k][byte(iss>>(8*k))]++
		}
	}
	for k, bin := range bins {
		chi := 0.0
		for _, n := range bin {
			chi += (n - flows/256.0) * (n - flows/256.0) / (flows / 256.0)
		}
		// 255 degrees of freedom: a mean of 255 and a standard deviation of 22.6
		if chi < 255-5*22.6 || chi > 255+5*22.6 {
			t.Errorf("octet %d of the numbers is not evenly spread: χ² = %.0f", k, chi)
		}
	}
}

// TestC16ListenIsApart: half-open connections and an active OPEN from the same port leave the listener alone.
func TestC16ListenIsApart(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.answers()
		for port := range uint16(3) {
			d.ports.Src = 5000 + port
			d.asks()
		}
		go h.stack.DialTCP(context.Background(), "tcp", netip.AddrPortFrom(h.peer, stackPort), netip.AddrPortFrom(h.us, 6000)) // MUST-42
		if p := h.one("an active OPEN from the port of a listener"); p.seg.Flags != tcp.SYN || p.ports != (tcp.Ports{Src: stackPort, Dst: 6000}) {
			t.Errorf("%v %v", p, p.ports)
		}
		d.ports.Src = 5003
		d.open()
	})
}

// TestC17LocalAddress: a SYN leaves from the address that was asked for, else from the one that fits; who is called at an
// address answers from it.
func TestC17LocalAddress(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		remote := netip.AddrPortFrom(h.us, 9)
		go h.stack.DialTCP(context.Background(), "tcp", netip.AddrPortFrom(h.second(), 0), remote)
		if p := h.one("a bound OPEN"); p.src != h.second() {
			t.Errorf("bound to %v, and sent from %v", h.second(), p.src) // MUST-43
		}
		go h.stack.DialTCP(context.Background(), "tcp", netip.AddrPort{}, remote)
		if p := h.one("an OPEN"); p.src != h.peer { // MUST-44: of equals, the first that was configured
			t.Errorf("sent from %v, want %v", p.src, h.peer)
		}
		h.answers()
		syn := tcp.Segment{Flags: tcp.SYN, Window: fullWindow}
		p := tcp.Ports{Src: 5000, Dst: stackPort}
		h.mail(letter{dst: h.second(), proto: ipv4.ProtoTCP, text: h.tcpText(h.us, h.second(), p, &syn)})
		if p := h.one("a SYN"); p.src != h.second() {
			t.Errorf("a SYN to %v is answered from %v", h.second(), p.src) // MUST-45
		}
		p.Dst = 81
		h.mail(letter{dst: h.second(), proto: ipv4.ProtoTCP, text: h.tcpText(h.us, h.second(), p, &syn)})
		if p := h.one("a SYN to nobody"); p.src != h.second() {
			t.Errorf("a SYN to %v is refused from %v", h.second(), p.src)
		}
	})
}

// TestC18OpenToGroup: MUST-46.
func TestC18OpenToGroup(t *testing.T) {
	links(t, func(h *tester) {
		for _, a := range []string{"255.255.255.255", "198.51.100.255", "224.0.0.1", "ff02::1", "ff05::2"} {
			if c, err := h.stack.Dial("tcp", net.JoinHostPort(a, "80")); err == nil || !errors.Is(err, syscall.ENETUNREACH) {
				t.Errorf("Dial %s: %v, %v, want ENETUNREACH", a, c, err)
			}
		}
		h.silent("OPENs to groups")
		if nd := h.neighbor(); len(nd) > 0 {
			t.Errorf("OPENs to groups ask for neighbours: %v", nd)
		}
	})
}

// TestC19SegmentToGroup: MUST-57, and RFC 1122 §3.3.6.
func TestC19SegmentToGroup(t *testing.T) {
	links(t, func(h *tester) {
		d := h.answers()
		groups := []string{"255.255.255.255", "198.51.100.255", "224.0.0.1"}
		if h.us.Is6() {
			groups = []string{"ff02::1", ipv6.SolicitedNode(h.peer).String()}
		}
		for _, g := range groups {
			to := netip.MustParseAddr(g)
			for _, port := range []uint16{stackPort, 81} {
				for _, flags := range []tcp.Flags{tcp.SYN, tcp.ACK, tcp.FIN} {
					s := tcp.Segment{Flags: flags, Window: fullWindow}
					mac := ethernet.Broadcast
					if to.IsMulticast() {
						mac = ethernet.Multicast(to)
					}
					h.mail(letter{dst: to, proto: ipv4.ProtoTCP, mac: mac, text: h.tcpText(h.us, to, tcp.Ports{Src: 5000, Dst: port}, &s)})
					h.silent(fmt.Sprintf("%v to %v", flags, g))
				}
			}
		}
		if d.state() != tcp.Listen {
			t.Errorf("the listener is in %v", d.state())
		}
		if h.eth {
			s := tcp.Segment{Flags: tcp.SYN, Window: fullWindow}
			for _, mac := range []ethernet.Addr{ethernet.Broadcast, ethernet.Multicast(netip.MustParseAddr("224.0.0.1"))} {
				h.mail(letter{proto: ipv4.ProtoTCP, mac: mac, text: h.tcpText(h.us, h.peer, d.ports, &s)})
				h.silent("a SYN to one host in a frame to many")
			}
		}
	})
}

// TestC20InvalidSource: MUST-63.
func TestC20InvalidSource(t *testing.T) {
	links(t, func(h *tester) {
		h.answers()
		from := []string{"0.0.0.0", "0.1.2.3", "255.255.255.255", "198.51.100.255", "224.0.0.1", "239.1.2.3", "240.0.0.1", "127.0.0.1", "198.51.100.2", "198.51.100.130"}
		if h.us.Is6() {
			from = []string{"::", "ff02::1", "ff0e::1", "::1", "::ffff:198.51.100.1", "2001:db8:51::2", "2001:db8:51::130"}
		}
		for i, a := range from {
			src := netip.MustParseAddr(a)
			s := tcp.Segment{Flags: tcp.SYN, Window: fullWindow}
			for _, port := range []uint16{stackPort, 81} {
				h.mail(letter{src: src, proto: ipv4.ProtoTCP, text: h.tcpText(src, h.peer, tcp.Ports{Src: 5000, Dst: port}, &s)})
			}
			h.silent("a SYN from " + a)
			if got := h.drops("bad-source"); got != uint64(2*i+2) {
				t.Errorf("from %s: %d packets counted as such, want %d", a, got, 2*i+2)
			}
		}
	})
}

// TestC21HowItEnded: the application learns of a FIN, a reset and a timeout apart.
func TestC21HowItEnded(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		b := make([]byte, 10)
		d := h.shakes()
		d.say(1, 1, tcp.FIN|tcp.ACK)
		d.idle()
		if _, err := d.conn.Read(b); err != io.EOF {
			t.Errorf("FIN: %v", err)
		}
	})
	bare(t, Config{}, func(h *tester) {
		b := make([]byte, 10)
		d := h.shakes()
		d.say(1, 1, tcp.RST)
		d.idle()
		if _, err := d.conn.Read(b); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("RST: %v", err)
		}
	})
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		d.conn.Write([]byte("x"))
		start := time.Now()
		_, err := d.conn.Read(make([]byte, 10))
		if !errors.Is(err, syscall.ETIMEDOUT) || time.Since(start) < 100*time.Second {
			t.Errorf("silence: %v after %v", err, time.Since(start))
		}
	})
}

// TestC22TextAfterClose: SHLD-3.
func TestC22TextAfterClose(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		d.say(1, 1, tcp.ACK, "abc")
		d.pass(50 * time.Millisecond)
		d.conn.Close()
		d.want("<SEQ=1><ACK=4><CTL=ACK>", "<SEQ=1><ACK=4><CTL=RST,ACK>")
	})
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		d.conn.Close()
		d.say(1, 2, tcp.ACK)
		d.want("<SEQ=1><ACK=1><CTL=FIN,ACK>")
		d.say(1, 2, tcp.ACK, "abc")
		d.want("<SEQ=2><ACK=1><CTL=RST,ACK>")
	})
}

// TestC23TimeWait: each FIN is acknowledged and starts the time again, and our side may not use the four numbers until it
// is over.
func TestC23TimeWait(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		d.conn.Close()
		d.say(1, 2, tcp.FIN|tcp.ACK)
		d.want("<SEQ=1><ACK=1><CTL=FIN,ACK>", "<SEQ=2><ACK=2><CTL=ACK>")
		for range 3 {
			d.pass(50 * time.Second)
			d.say(1, 2, tcp.FIN|tcp.ACK)
			d.want("<SEQ=2><ACK=2><CTL=ACK>")
		}
		again := func() error {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			_, err := h.stack.DialTCP(ctx, "tcp", netip.AddrPortFrom(h.peer, stackPort), netip.AddrPortFrom(h.us, testerPort))
			return err
		}
		d.pass(59 * time.Second)
		if err := again(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("the same four numbers in TIME-WAIT: %v, want EADDRINUSE", err)
		}
		d.pass(time.Second)
		if err := again(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the same four numbers after TIME-WAIT: %v, want a timeout", err)
		}
	})
}

// TestC50OneACKForABatch: MUST-58 and MUST-59.
func TestC50OneACKForABatch(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		var batch []link.Packet
		text := make([]byte, 1000)
		for n := range 32 {
			s := tcp.Segment{Seq: d.irs + 1 + tcp.Seq(n*len(text)), Ack: d.iss + 1, Flags: tcp.ACK, Window: fullWindow, Text: [][]byte{text}}
			batch = append(batch, link.Packet{Head: h.build(letter{proto: ipv4.ProtoTCP, text: h.tcpText(h.us, h.peer, d.ports, &s)})})
		}
		h.queue.Write(batch)
		got := d.said()
		if len(got) == 0 || len(got) > 8 || got[len(got)-1] != "<SEQ=1><ACK=32001><CTL=ACK>" {
			t.Errorf("32 segments at once are acknowledged by %v", got)
		}
	})
}

// TestC52C53Push: PSH stands on the last segment of a write, and all but it are full.
func TestC52C53Push(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		mss := min(1460, 1500-h.headerLen()-tcp.HeaderLen)
		d.conn.Write(make([]byte, 4000))
		d.want(fmt.Sprintf("<SEQ=1><ACK=1><DATA=%d><CTL=ACK>", mss), fmt.Sprintf("<SEQ=%d><ACK=1><DATA=%d><CTL=ACK>", 1+mss, mss),
			fmt.Sprintf("<SEQ=%d><ACK=1><DATA=%d><CTL=PSH,ACK>", 1+2*mss, 4000-2*mss))
	})
}

// TestC55C56TOSAndHopLimit: MUST-48, SHLD-22, MUST-49: the application chooses both, and they stand on all that follows.
func TestC55C56TOSAndHopLimit(t *testing.T) {
	bare(t, Config{HopLimit: 33}, func(h *tester) {
		if p := h.answers().asks(); p.hops != 33 || p.tos != 0 {
			t.Errorf("SYN-ACK: TTL %d, TOS %#x", p.hops, p.tos)
		}
	})
	bare(t, Config{}, func(h *tester) {
		d := h.shakes()
		d.conn.Write([]byte("x"))
		if p := d.one("a write"); p.hops != 64 || p.tos != 0 {
			t.Errorf("TTL %d, TOS %#x", p.hops, p.tos)
		}
		d.conn.SetTOS(0xb8 | 3) // the two lowest bits are ECN's
		d.conn.SetHopLimit(7)
		d.conn.Write([]byte("y"))
		d.say(1, 3, tcp.ACK, "abc")
		d.pass(50 * time.Millisecond)
		d.conn.SetLinger(0)
		d.conn.Close()
		seen := d.sent()
		if len(seen) != 3 || seen[2].seg.Flags&tcp.RST == 0 {
			t.Fatalf("%v", seen)
		}
		for _, p := range seen {
			if p.hops != 7 || p.tos != 0xb8 {
				t.Errorf("%v: TTL %d, TOS %#x", p, p.hops, p.tos)
			}
		}
	})
}

// TestC57C58IPOptions: MUST-50; MUST-51 to MUST-53 are not done, and a source route drops the packet (RFC 7126 §4.3).
func TestC57C58IPOptions(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		if h.us.Is6() {
			return
		}
		d := h.answers()
		for i, x := range []struct {
			name    string
			options []byte
			drop    string
		}{
			{"record route", []byte{7, 7, 4, 0, 0, 0, 0, 0}, ""},
			{"timestamp", []byte{68, 8, 5, 0, 0, 0, 0, 0}, ""},
			{"unknown", []byte{200, 4, 1, 1}, ""},
			{"no operation", []byte{1, 1, 1, 0}, ""},
			{"loose source route", []byte{131, 7, 8, 198, 51, 100, 7, 0}, "source-route"},
			{"strict source route", []byte{1, 137, 7, 4, 198, 51, 100, 7}, "source-route"},
		} {
			d.ports.Src = uint16(5000 + i)
			s := tcp.Segment{Flags: tcp.SYN, Window: fullWindow}
			h.mail(letter{proto: ipv4.ProtoTCP, options: x.options, text: h.tcpText(h.us, h.peer, d.ports, &s)})
			if x.drop == "" {
				if p := h.one(x.name); p.seg.Flags != tcp.SYN|tcp.ACK {
					t.Errorf("%s: answered by %v", x.name, p)
				}
				continue
			}
			before := h.drops(x.drop)
			h.silent(x.name)
			if before == 0 {
				t.Errorf("%s: not counted", x.name)
			}
		}
	})
}

// badNews is an ICMP error of each family that means the same.
type badNews struct {
	name   string
	t4, c4 uint8
	t6, c6 uint8
	errno  syscall.Errno // what an opening fails with over IPv4, as on Linux
	errno6 syscall.Errno // and over IPv6, where that is another
	soft   tcp.Reason    // what an open connection notes
}

var news = []badNews{
	{"C60 net unreachable", 3, 0, 1, 0, syscall.ENETUNREACH, 0, tcp.NetUnreachable},
	{"C60 host unreachable", 3, 1, 1, 3, syscall.EHOSTUNREACH, 0, tcp.HostUnreachable},
	{"C60 source route failed", 3, 5, 1, 2, syscall.EOPNOTSUPP, syscall.EHOSTUNREACH, tcp.HostUnreachable},
	{"C60 time exceeded", 11, 0, 3, 0, syscall.EHOSTUNREACH, 0, tcp.HostUnreachable},
	{"C60 parameter problem", 12, 0, 4, 0, syscall.EPROTO, 0, tcp.HostUnreachable},
	{"C61 protocol unreachable", 3, 2, 4, 1, syscall.ENOPROTOOPT, syscall.EPROTO, tcp.NoProtocol},
	{"C61 port unreachable", 3, 3, 1, 4, syscall.ECONNREFUSED, 0, tcp.Refused},
	{"C61 prohibited", 3, 13, 1, 1, syscall.EHOSTUNREACH, syscall.EACCES, tcp.Prohibited},
	{"C61 network prohibited", 3, 9, 1, 5, syscall.ENETUNREACH, syscall.EACCES, tcp.Prohibited},
}

// quoting sends an error about a packet of the stack's.
func (n *badNews) quoting(h *tester, packet []byte) {
	h.Helper()
	quote := packet[:min(len(packet), h.headerLen()+8)]
	h.icmp(ipv4.ICMP{Type: n.t4, Code: n.c4, Body: quote}, ipv6.ICMP{Type: n.t6, Code: n.c6, Body: quote})
}

// TestC59C60C61Unreachable: an error about our SYN ends the opening; later it is noted, and the connection goes on.
func TestC59C60C61Unreachable(t *testing.T) {
	for _, n := range news {
		t.Run(n.name, func(t *testing.T) {
			bare(t, Config{}, func(h *tester) {
				d := h.stranger()
				errs := make(chan error, 1)
				go func() {
					_, err := h.stack.Dial("tcp", netip.AddrPortFrom(h.us, 9).String())
					errs <- err
				}()
				syn := d.one("Dial")
				// C59: neither another connection's nor one about what was never sent
				stray := slices.Clone(syn.packet)
				stray[h.headerLen()+1]++
				n.quoting(h, stray)
				stray = slices.Clone(syn.packet)
				stray[h.headerLen()+7]++
				n.quoting(h, stray)
				h.idle()
				if len(errs) > 0 {
					t.Fatalf("an error about nothing of ours ends the opening: %v", <-errs)
				}
				if h.drops("stray-icmp") != 1 || h.drops("tcp-notice") != 1 {
					t.Errorf("drops: %v", h.stack.Stats().Drops)
				}
				n.quoting(h, syn.packet)
				h.idle()
				if len(errs) == 0 {
					t.Fatal("the opening goes on")
				}
				want := n.errno
				if h.us.Is6() && n.errno6 != 0 {
					want = n.errno6
				}
				if err := <-errs; !errors.Is(err, want) {
					t.Errorf("%v, want %v", err, want)
				}
				d.silent("an error")
			})
			bare(t, Config{}, func(h *tester) {
				d := h.shakes()
				d.conn.Write([]byte("abc"))
				p := d.one("a write")
				n.quoting(h, p.packet)
				h.idle()
				if i := d.conn.Info(); i.State != tcp.Established || i.SoftErr != n.soft { // MUST-47, MUST-56
					t.Errorf("in %v with %v noted, want %v", i.State, i.SoftErr, n.soft)
				}
				d.say(1, 4, tcp.ACK)
				d.conn.Write([]byte("def"))
				d.want("<SEQ=4><ACK=1><DATA=3><CTL=PSH,ACK>")
			})
		})
	}
}

// TestC62SourceQuench: MUST-55, RFC 6633.
func TestC62SourceQuench(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		if h.us.Is6() {
			return
		}
		d := h.shakes()
		d.conn.Write(make([]byte, 3000))
		p := d.sent()[0]
		before := d.conn.Info()
		quench := badNews{t4: ipv4.SourceQuench}
		quench.quoting(h, p.packet)
		h.idle()
		if after := d.conn.Info(); after != before {
			t.Errorf("before: %+v\nafter: %+v", before, after)
		}
	})
}

// TestC63Closed: RFC 9293 §3.10.7.1.
func TestC63Closed(t *testing.T) {
	links(t, func(h *tester) {
		for _, x := range []struct {
			flags tcp.Flags
			text  string
			want  string
		}{
			{tcp.SYN, "", "<SEQ=0><ACK=501><CTL=RST,ACK>"},
			{tcp.SYN, "abc", "<SEQ=0><ACK=504><CTL=RST,ACK>"},
			{tcp.FIN, "abc", "<SEQ=0><ACK=504><CTL=RST,ACK>"},
			{0, "abc", "<SEQ=0><ACK=503><CTL=RST,ACK>"},
			{0, "", "<SEQ=0><ACK=500><CTL=RST,ACK>"},
			{tcp.ACK, "abc", "<SEQ=700><CTL=RST>"},
			{tcp.SYN | tcp.ACK, "", "<SEQ=700><CTL=RST>"},
			{tcp.RST, "", ""},
			{tcp.RST | tcp.ACK, "abc", ""},
		} {
			h.segment(tcp.Ports{Src: 5000, Dst: 81}, tcp.Segment{Seq: 500, Ack: 700, Flags: x.flags, Text: [][]byte{[]byte(x.text)}})
			got := ""
			for _, p := range h.sent() {
				got += p.seg.String()
				if p.ports != (tcp.Ports{Src: 81, Dst: 5000}) || p.src != h.peer || p.dst != h.us {
					t.Errorf("%v goes astray", p)
				}
			}
			if got != x.want {
				t.Errorf("%v with %q is answered by %q, want %q", x.flags, x.text, got, x.want)
			}
		}
	})
}

// TestC65SynSentRefused: a reset that acknowledges our SYN refuses it; one that does not, or text, changes nothing.
func TestC65SynSentRefused(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.calls()
		d.say(0, 0, tcp.RST|tcp.ACK)
		d.say(0, 2, tcp.RST|tcp.ACK)
		d.say(0, -1, tcp.RST)
		d.want()
		if d.state() != tcp.SynSent {
			t.Fatalf("in %v", d.state())
		}
		d.say(0, 1, tcp.RST|tcp.ACK)
		if err := <-d.dialed; !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v, want ECONNREFUSED", err)
		}
		d.want()
	})
}

// TestC14C15SimultaneousOpen: two SYNs cross, and text goes both ways; a reset in between refuses.
func TestC14C15SimultaneousOpen(t *testing.T) {
	links(t, func(h *tester) {
		d := h.calls()
		d.say(0, -1, tcp.SYN)
		d.want("<SEQ=0><ACK=1><CTL=SYN,ACK>")
		d.say(0, 1, tcp.SYN|tcp.ACK)
		if err := <-d.dialed; err != nil {
			t.Fatal(err)
		}
		d.sent() // an acknowledgement, perhaps
		d.conn.Write([]byte("abc"))
		d.want("<SEQ=1><ACK=1><DATA=3><CTL=PSH,ACK>")
		d.say(1, 4, tcp.ACK, "xyz")
		b := make([]byte, 10)
		if n, err := d.conn.Read(b); err != nil || string(b[:n]) != "xyz" {
			t.Errorf("read %q, %v", b[:n], err)
		}
	})
	bare(t, Config{}, func(h *tester) {
		d := h.calls()
		d.say(0, -1, tcp.SYN)
		d.want("<SEQ=0><ACK=1><CTL=SYN,ACK>")
		d.say(1, -1, tcp.RST)
		if err := <-d.dialed; !errors.Is(err, syscall.ECONNREFUSED) { // MUST-11
			t.Errorf("%v, want ECONNREFUSED", err)
		}
	})
}

// TestC74Header: a data offset that makes no sense drops the segment, reserved bits do not.
func TestC74Header(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.answers()
		for i, x := range []struct {
			octet byte
			ok    bool
		}{{0x40, false}, {0x00, false}, {0x60, false}, {0xf0, false}, {0x5f, true}, {0x51, true}} {
			s := tcp.Segment{Flags: tcp.SYN, Window: fullWindow}
			d.ports.Src = uint16(5000 + i)
			b := h.tcpText(h.us, h.peer, d.ports, &s)
			b[12] = x.octet
			resum(b, h.us, h.peer)
			h.mail(letter{proto: ipv4.ProtoTCP, text: b})
			if got := len(h.sent()) == 1; got != x.ok {
				t.Errorf("data offset and reserved bits %#x: answered %v, want %v", x.octet, got, x.ok)
			}
		}
		for n := range tcp.HeaderLen {
			h.mail(letter{proto: ipv4.ProtoTCP, text: make([]byte, n)})
		}
		h.silent("segments cut short")
	})
}
