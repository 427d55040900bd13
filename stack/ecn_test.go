package stack

import (
	"io"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TestC55C118DSCPAndECN: the user's DSCP and TCP's ECN bits share an octet of the IP header, and neither changes the other: new
// text is ECT(0), and nothing else is.
func TestC55C118DSCPAndECN(t *testing.T) {
	bare(t, Config{}, func(h *tester) {
		d := h.answers()
		syn := tcp.Segment{Seq: d.irs, Flags: tcp.SYN | tcp.ECE | tcp.CWR, Window: 65535, Options: d.options}
		h.segment(d.ports, syn)
		synack := h.one("an ECN-setup SYN")
		if d.iss = synack.seg.Seq; synack.seg.Flags != tcp.SYN|tcp.ACK|tcp.ECE || synack.tos != 0 {
			h.Fatalf("%v, TOS %#x; want an ECN-setup SYN-ACK", synack, synack.tos)
		}
		d.say(1, 1, tcp.ACK)
		d.accept()
		look := func(what string, tos uint8, flags tcp.Flags) {
			h.Helper()
			if p := h.one(what); p.tos != tos || p.seg.Flags != flags {
				h.Errorf("%s: %v, TOS %#x; want %v and %#x", what, p, p.tos, flags, tos)
			}
		}
		d.conn.Write([]byte("one"))
		look("text", 2, tcp.ACK|tcp.PSH)
		d.conn.SetTOS(0xb8 | 1)
		d.conn.Write([]byte("two"))
		look("text with a DSCP", 0xb8|2, tcp.ACK|tcp.PSH)
		h.pass(1100 * time.Millisecond)
		for _, p := range h.sent() {
			if p.tos != 0xb8 {
				h.Errorf("sent again: %v, TOS %#x; want %#x", p, p.tos, 0xb8)
			}
		}
		d.say(1, 7, tcp.ACK|tcp.ECE)
		marked := tcp.Segment{Seq: d.irs + 1, Ack: d.iss + 7, Flags: tcp.ACK, Window: 65535, Text: [][]byte{[]byte("x")}}
		h.mail(letter{proto: ipv4.ProtoTCP, tos: 0x28 | tcp.CE, text: h.tcpText(h.us, h.peer, d.ports, &marked)})
		h.idle()
		look("an acknowledgement of what was marked", 0xb8, tcp.ACK|tcp.ECE)
		d.conn.CloseWrite()
		look("a FIN", 0xb8, tcp.ACK|tcp.FIN|tcp.ECE)
	})
}

// marker is a device whose outgoing super-segments with CWR are counted, and which marks what it is told to.
type marker struct {
	link.Device
	queues []link.Queue
}

type markQueue struct {
	link.Queue
	every     int64 // a packet in so many is marked
	n         atomic.Int64
	told      atomic.Int64 // super-segments with CWR whose Offload says so
	untold    atomic.Int64 // or does not
	congested atomic.Int64
}

func (m *marker) Queues() []link.Queue { return m.queues }

func (q *markQueue) Write(p []link.Packet) (int, error) {
	for i := range p {
		b := p[i].Head
		if len(b) < 40 || b[0]>>4 != 4 || b[9] != ipv4.ProtoTCP {
			continue
		}
		if p[i].Offload.GSO != link.None {
			switch cwr := b[33]&byte(tcp.CWR) != 0; {
			case cwr && p[i].Offload.ECN:
				q.told.Add(1)
			case cwr != p[i].Offload.ECN:
				q.untold.Add(1)
			}
		}
		if b[1]&3 == tcp.ECT0 && q.n.Add(1)%q.every == 0 {
			sum := uint32(b[10])<<8 | uint32(b[11])
			sum += 0xffff &^ 1 // RFC 1624: the word grows by one
			b[10], b[11] = byte((sum+sum>>16)>>8), byte(sum+sum>>16)
			b[1] |= 3
			q.congested.Add(1)
		}
	}
	return q.Queue.Write(p)
}

// TestC116SuperSegmentsAndCWR: over a device that marks and cuts super-segments itself, Offload.ECN stands exactly on those with
// CWR, and nothing is sent again.
func TestC116SuperSegmentsAndCWR(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := link.Pipe(link.PipeConfig{MTU: 1500, GSO: 1 << 16, Delay: 5 * time.Millisecond})
		q := &markQueue{Queue: a.Queues()[0], every: 40}
		client := host(t, &marker{a, []link.Queue{q}}, Config{TCP: tcp.Config{ECN: tcp.ECNActive}}, client4)
		server := host(t, b, Config{}, server4)
		l, err := server.ListenTCP("tcp", netip.AddrPortFrom(server4.Addr(), 0))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := client.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		const size = 20_000_000
		go func() {
			conn.Write(make([]byte, size))
			conn.(*TCPConn).CloseWrite()
		}()
		c, err := l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Fatalf("%d octets, %v; want %d", n, err, size)
		}
		info := conn.(*TCPConn).Info()
		if q.told.Load() == 0 || q.untold.Load() > 0 || q.congested.Load() == 0 || info.Retransmits > 0 {
			t.Errorf("%d super-segments with CWR and Offload.ECN, %d with one of them; %d marked, %d sent again",
				q.told.Load(), q.untold.Load(), q.congested.Load(), info.Retransmits)
		}
		t.Logf("%d marked, %d with CWR, window %d", q.congested.Load(), q.told.Load(), info.Cwnd)
		conn.Close()
		c.Close()
	})
}

// TestC125NoSourceQuench: RFC 6633: whatever floods a host, it never sends a Source Quench.
func TestC125NoSourceQuench(t *testing.T) {
	bare(t, Config{Memory: 1 << 16}, func(h *tester) {
		if !h.us.Is4() {
			return
		}
		h.answers()
		for i := range uint16(2000) {
			h.segment(tcp.Ports{Src: 1000 + i, Dst: stackPort}, tcp.Segment{Seq: 1, Flags: tcp.SYN, Window: 65535})
			h.segment(tcp.Ports{Src: 1000 + i, Dst: stackPort + 1}, tcp.Segment{Seq: 1, Flags: tcp.SYN, Window: 65535})
			h.idle()
		}
		for _, p := range h.sent() {
			if p.proto == ipv4.ProtoICMP && p.text[0] == ipv4.SourceQuench {
				h.Fatalf("a Source Quench: %v", p)
			}
		}
	})
}
