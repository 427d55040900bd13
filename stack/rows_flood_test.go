package stack

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/tcp"
)

// These are floods, and peers who hold on to what they have been given. A number such as A1 is that of a row in the
// project's list of attacks.

// neighborAt is another host on the tester's link.
func neighborAt(h *tester, n int) netip.Addr {
	b := h.us.As16()
	b[15] = byte(3 + n%100)
	a := netip.AddrFrom16(b)
	return a.Unmap()
}

// TestA1SYNFlood: strangers send SYNs and never answer. No more than the backlog is remembered of them, no octet of the
// stack's memory is theirs, and an honest peer connects and is served in the midst of it.
func TestA1SYNFlood(t *testing.T) {
	const backlog = 128
	bare(t, Config{Backlog: backlog}, func(h *tester) {
		d := h.answers()
		syn := tcp.Segment{Flags: tcp.SYN, Window: fullWindow, Options: tcp.Options{MSS: 1460}}
		flood := func(from int) {
			for n := from; n < from+5000; n++ {
				syn.Seq = tcp.Seq(n * 64007)
				src := neighborAt(h, n)
				h.mail(letter{src: src, proto: ipv4.ProtoTCP, text: h.tcpText(src, h.peer, tcp.Ports{Src: uint16(1024 + n), Dst: stackPort}, &syn)})
				if n%50 == 0 {
					h.idle()
				}
			}
			answers := h.sent()
			if len(answers) > 5000+backlog {
				t.Errorf("5,000 SYNs are answered by %d packets", len(answers))
			}
			for _, p := range answers {
				if p.seg.Flags != tcp.SYN|tcp.ACK || p.seg.TextLen() > 0 {
					t.Fatalf("a SYN is answered by %v", p)
				}
			}
		}
		flood(0)
		d.open() // by a cookie
		flood(5000)
		d.say(1, 1, tcp.ACK, "hello")
		b := make([]byte, 5)
		if n, err := d.conn.Read(b); n != 5 || err != nil {
			t.Fatalf("in the midst of a flood: %d octets, %v", n, err)
		}
		d.conn.Close()
		h.sent()
		half := 0
		for c := range h.stack.Conns() {
			if c.State == tcp.SynReceived {
				half++
			}
		}
		if st := h.stack.Stats(); half > backlog || st.Memory != 0 || st.Accepted != 1 {
			t.Errorf("%d half-open connections, want at most %d; %d octets of memory, %d accepted", half, backlog, st.Memory, st.Accepted)
		}
		h.pass(63 * time.Second)
		again := 0
		for _, p := range h.sent() {
			if p.ports.Dst != testerPort {
				again++
			}
		}
		if again > 5*backlog {
			t.Errorf("%d SYN-ACKs are sent again, want five for each of %d (A3)", again, backlog)
		}
		for c := range h.stack.Conns() {
			if c.State == tcp.SynReceived {
				t.Errorf("%v is half-open 63 s after the flood", c.Remote)
			}
		}
	})
}

// TestA9A77WindowHolders: peers send a request and close their window for ever, and more connect than are accepted. They
// share what memory may be written to; who asks honestly is heard meanwhile, and once the user has let them go all of it
// comes back, though they answer each probe.
func TestA9A77WindowHolders(t *testing.T) {
	const holders, limit = 200, 8 << 20
	bare(t, Config{Memory: limit, Backlog: holders}, func(h *tester) {
		d := h.answers()
		d.window = 0
		held := map[uint16]tcp.Seq{} // by port: what the stack has sent to it
		for n := range holders {
			d.ports.Src = uint16(10000 + n)
			d.asks()
			d.say(1, 1, tcp.ACK, "GET")
			held[d.ports.Src] = d.iss + 1
			h.idle()
			d.accept()
			c := d.conn
			go func() {
				c.SetWriteDeadline(time.Now().Add(10 * time.Second))
				c.Read(make([]byte, 3))
				c.Write(make([]byte, 128<<10))
				c.Close()
			}()
		}
		h.idle()
		if st := h.stack.Stats(); st.Memory > limit || st.Memory < limit/2 {
			t.Errorf("%d holders take %d octets, the limit is %d", holders, st.Memory, limit)
		}
		h.sent()
		honest := h.stranger()
		honest.listener = d.listener
		honest.open()
		honest.say(1, 1, tcp.ACK, "hello")
		honest.idle()
		if n, err := honest.conn.Read(make([]byte, 5)); n != 5 || err != nil {
			t.Errorf("who asks honestly is not heard: %d octets, %v", n, err)
		}
		for i := 0; h.stack.Stats().Memory > 0; i++ {
			h.pass(30 * time.Second)
			for _, p := range h.sent() {
				if to := p.ports.Dst; held[to] != 0 && !p.seg.Flags.Has(tcp.RST) {
					h.segment(tcp.Ports{Src: to, Dst: stackPort}, tcp.Segment{Seq: p.seg.Ack, Ack: held[to], Flags: tcp.ACK})
					h.idle()
				}
			}
			if i > 40 {
				t.Fatalf("20 minutes later they hold %d octets", h.stack.Stats().Memory)
			}
		}
		if n, err := honest.conn.Write([]byte("welcome")); n != 7 || err != nil {
			t.Errorf("afterwards: wrote %d octets, %v", n, err)
		}
	})
}

// TestA10SlowPeers: peers who send an octet each ten seconds, and take as little, cost what waits for them and no more: a
// chunk each.
func TestA10SlowPeers(t *testing.T) {
	const peers = 100
	bare(t, Config{Backlog: peers}, func(h *tester) {
		d := h.answers()
		type peer struct {
			dialog
			at int
		}
		var all []*peer
		for n := range peers {
			p := &peer{dialog: *d}
			p.ports.Src = uint16(10000 + n)
			p.open()
			all = append(all, p)
		}
		if st := h.stack.Stats(); st.Memory != 0 {
			t.Errorf("idle, they hold %d octets", st.Memory)
		}
		for range 20 {
			for _, p := range all {
				p.at++
				p.say(p.at, 1, tcp.ACK, "x")
			}
			h.pass(10 * time.Second)
		}
		h.sent()
		if st := h.stack.Stats(); st.Memory > peers*tcp.SmallChunk {
			t.Errorf("%d peers who have sent 20 octets hold %d octets, want at most a chunk each: %d", peers, st.Memory, peers*tcp.SmallChunk)
		}
		for _, p := range all {
			p.conn.Close()
		}
		h.idle()
		if st := h.stack.Stats(); st.Memory != 0 {
			t.Errorf("closed, they hold %d octets", st.Memory)
		}
	})
}

// TestA13LAND: packets from the stack to itself that come from outside, with equal ports or not, are dropped: nothing is
// answered, nothing connects, and no packet goes in a circle.
func TestA13LAND(t *testing.T) {
	links(t, func(h *tester) {
		h.answers()
		h.bind(6000)
		from := []netip.Addr{h.peer, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.1.2.3")}
		if h.us.Is6() {
			from = []netip.Addr{h.peer, netip.IPv6Loopback()}
		}
		n := uint64(0)
		for _, src := range from {
			for _, port := range []uint16{stackPort, 81} {
				for _, flags := range []tcp.Flags{tcp.SYN, tcp.SYN | tcp.ACK, tcp.ACK, tcp.RST, tcp.FIN | tcp.ACK} {
					s := tcp.Segment{Flags: flags, Window: fullWindow}
					h.mail(letter{src: src, proto: ipv4.ProtoTCP, text: h.tcpText(src, h.peer, tcp.Ports{Src: port, Dst: port}, &s)})
					n++
				}
			}
			u := h.datagram(6000, "x")
			u.src = src
			h.mail(u)
			e := h.echo(src, h.peer, "ping")
			h.mail(e)
			n += 2
		}
		h.silent("LAND")
		if got := h.drops("bad-source"); got != n {
			t.Errorf("%d packets are counted as from a bad source, want %d", got, n)
		}
	})
}

// TestA4CollidingFlows: CVE-2023-1206: where a flow stands in the table depends on a key that no two stacks share, so
// that nobody can look for flows that meet.
func TestA4CollidingFlows(t *testing.T) {
	a, b := New(Config{}), New(Config{})
	defer a.Close()
	defer b.Close()
	const flows = 64 * numShards
	var f tcp.Flow
	met, same := [numShards]int{}, 0
	for n := range flows {
		f.RemotePort = uint16(n)
		binary.BigEndian.PutUint16(f.Remote[14:], uint16(n*7))
		if a.shard(&f) == &a.shards[0] && b.shard(&f) == &b.shards[0] {
			same++
		}
		for i := range met {
			if a.shard(&f) == &a.shards[i] {
				met[i]++
			}
		}
	}
	for i, n := range met {
		if n > 64*2 || n < 64/2 {
			t.Errorf("shard %d has %d of %d flows, want about %d", i, n, flows, flows/numShards)
		}
	}
	if same > 64/2 {
		t.Errorf("of the flows in the first shard of one stack, %d stand in that of another", same)
	}
}
