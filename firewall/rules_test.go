package firewall

import (
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/tcp"
)

// The packets of the table below, by name: where they come in, or "" for the router's own, and what they are.
var (
	toRouter  = netip.AddrPortFrom(wan4, 80)
	toRouter6 = netip.AddrPortFrom(wan6, 80)
	packets   = map[string]struct {
		in string
		b  []byte
	}{
		"syn":       {"wan", syn(phone, toRouter)},
		"syn22":     {"wan", syn(phone, wan(22))},
		"syn6":      {"wan", syn(phone6, toRouter6)},
		"synlan":    {"lan", syn(laptop, netip.AddrPortFrom(lan4, 80))},
		"ack":       {"wan", tcpPacket(phone, toRouter, tcp.Segment{Flags: tcp.ACK, Seq: 1, Ack: 1})},
		"rst":       {"wan", tcpPacket(phone, toRouter, tcp.Segment{Flags: tcp.RST, Seq: 1})},
		"synack":    {"wan", tcpPacket(phone, toRouter, tcp.Segment{Flags: tcp.SYN | tcp.ACK, Seq: 1, Ack: 1})},
		"udp":       {"wan", udpPacket(phone, toRouter, "x")},
		"udp6":      {"wan", udpPacket(phone6, toRouter6, "x")},
		"ping":      {"wan", echo(phone, toRouter, false)},
		"pong":      {"wan", echo(phone, toRouter, true)},
		"ping6":     {"wan", echo(phone6, toRouter6, false)},
		"error":     {"wan", unreachable(phone.Addr(), udpPacket(toRouter, phone, "x"))},
		"ns":        {"wan", icmp(phone6.Addr(), wan6, ipv6.NeighborSolicitation, 0, 0, make([]byte, 16))},
		"esp":       {"wan", ip(50, phone.Addr(), wan4, make([]byte, 8))},
		"through":   {"lan", syn(laptop, phone)},
		"through6":  {"lan", syn(laptop6, phone6)},
		"inward":    {"wan", syn(phone, server)},
		"across":    {"lan", syn(laptop, server)},
		"own":       {"", syn(toRouter, phone)},
		"ownping":   {"", echo(toRouter, phone, false)},
		"ownudp":    {"", udpPacket(toRouter, phone, "x")},
		"forwarded": {"wan", syn(phone, wan(8080))},
	}
)

func TestRules(t *testing.T) {
	const pf = "\nforward tcp 203.0.113.1:8080 to 192.0.2.20:80"
	for _, c := range []struct {
		rules, packet string
		want          Verdict
	}{
		{"", "syn", Accept}, // no rules, no policy
		{"", "ack", Accept},
		{"policy in drop", "syn", Drop},
		{"policy in reject", "syn", Reject},
		{"policy in drop", "own", Accept},
		{"policy in drop", "through", Accept},
		{"policy out drop", "own", Drop},
		{"policy out drop", "syn", Accept},
		{"policy forward drop", "through", Drop},
		{"policy forward drop", "through6", Drop},
		{"policy forward reject with prohibited", "through", Reject},
		{"policy in drop\nallow in", "syn", Accept}, // order and direction
		{"policy in drop\nallow out", "syn", Drop},
		{"policy in drop\nallow forward", "syn", Drop},
		{"drop in\nallow in", "syn", Drop},
		{"allow in\ndrop in", "syn", Accept},
		{"count in\ndrop in", "syn", Drop},
		{"log in\nallow in\ndrop in", "syn", Accept},
		{"drop in on wan", "syn", Drop}, // interfaces
		{"drop in on lan", "syn", Accept},
		{"drop in on lan", "synlan", Drop},
		{"drop out on wan", "own", Drop},
		{"drop out on lan", "own", Accept},
		{"drop forward on lan via wan", "through", Drop},
		{"drop forward on lan via lan", "through", Accept},
		{"drop forward via lan", "inward", Drop},
		{"drop forward on wan via lan", "across", Accept},
		{"drop in tcp", "syn", Drop}, // protocols
		{"drop in tcp", "udp", Accept},
		{"drop in tcp", "syn6", Drop},
		{"drop in udp", "udp6", Drop},
		{"drop in tcp,udp", "udp", Drop},
		{"drop in icmp", "ping", Drop},
		{"drop in icmp", "ping6", Accept},
		{"drop in icmp6", "ping6", Drop},
		{"drop in 50", "esp", Drop},
		{"drop in 51", "esp", Accept},
		{"drop in any", "esp", Drop},
		{"drop in from 198.51.100.7", "syn", Drop}, // addresses
		{"drop in from 198.51.100.8", "syn", Accept},
		{"drop in from 198.51.100.0/24", "syn", Drop},
		{"drop in from 198.51.100.8,198.51.100.7", "syn", Drop},
		{"drop in from not 198.51.100.7", "syn", Accept},
		{"drop in from not 198.51.100.8", "syn", Drop},
		{"drop in from not 198.51.100.8", "syn6", Drop},
		{"drop in from any to 203.0.113.1", "syn", Drop},
		{"drop in to 203.0.113.2", "syn", Accept},
		{"drop in from 0.0.0.0/0", "syn6", Accept},
		{"drop in from ::/0", "syn6", Drop},
		{"drop in from 2001:db8:f::/48 to 2001:db8:2::1", "syn6", Drop},
		{"drop in tcp to any port 80", "syn", Drop}, // ports
		{"drop in tcp to any port 81", "syn", Accept},
		{"drop in tcp to port 22,80", "syn22", Drop},
		{"drop in tcp to any port 20-25", "syn22", Drop},
		{"drop in tcp to any port 20-25", "syn", Accept},
		{"drop in tcp from any port 5000", "syn", Drop},
		{"drop in tcp from any port 5001 to any port 80", "syn", Accept},
		{"drop in udp to any port 80", "syn", Accept},
		{"drop in tcp,udp to any port 80", "udp", Drop},
		{"drop in icmp type echo-request", "ping", Drop}, // ICMP types
		{"drop in icmp type echo-reply,13", "ping", Accept},
		{"drop in icmp type 0,8", "ping", Drop},
		{"drop in icmp6 type echo-request", "ping6", Drop},
		{"drop in icmp6 type packet-too-big", "ping6", Accept},
		{"drop in state new", "syn", Drop}, // states
		{"drop in state new", "ack", Accept},
		{"drop in state invalid", "ack", Drop},
		{"drop in state invalid", "synack", Drop},
		{"drop in state invalid", "pong", Drop},
		{"drop in state invalid", "error", Drop},
		{"drop in state invalid", "syn", Accept},
		{"drop in", "ack", Accept}, // a rule without states is about what is new
		{"drop in state established,related", "syn", Accept},
		{"policy in drop", "ns", Accept}, // there is no link without
		{"policy out drop\nallow out udp to 198.51.100.0/24", "ownudp", Accept},
		{"policy out drop\nallow out icmp", "ownping", Accept},
		{"reject in tcp", "syn", Reject}, // answers
		{"reject in tcp", "rst", Accept}, // invalid, not new
		{"reject in state invalid", "rst", Reject},
		{"reject forward with prohibited", "through", Reject},
		{"policy forward drop\nallow forward state translated" + pf, "forwarded", Accept}, // translation
		{"policy forward drop\nallow forward state translated" + pf, "inward", Drop},
		{"policy forward drop\nallow forward state new" + pf, "forwarded", Accept},
		{"policy forward drop\nallow forward tcp to 192.0.2.20 port 80" + pf, "forwarded", Accept},
		{"policy forward drop\nallow forward tcp to 203.0.113.1 port 8080" + pf, "forwarded", Drop},
		{"drop in limit 1/second", "syn", Drop}, // a limit is a match
		{"policy in drop\nallow in limit 3/minute burst 2", "syn", Accept},
	} {
		t.Run(c.rules+"/"+c.packet, func(t *testing.T) {
			h := newHome(t, c.rules)
			k := packets[c.packet]
			var got []byte
			if k.in == "" {
				got = h.emit("wan", k.b)
			} else {
				got = h.pass(k.in, k.b)
			}
			v := Accept
			if got == nil {
				v = Drop
				if len(h.last.Reply) > 0 || c.want == Reject && c.packet == "rst" {
					v = Reject
				}
			}
			if v != c.want {
				t.Errorf("%v, want %v (state %v, reason %v)", v, c.want, h.last.State, h.last.Reason)
			}
			if v != Accept && h.last.Reason != Denied {
				t.Errorf("the reason is %v", h.last.Reason)
			}
		})
	}
}

// TestAnswers: what a rejected packet is answered with, from whom to whom.
func TestAnswers(t *testing.T) {
	const pf = "\nforward tcp 203.0.113.1:8080 to 192.0.2.20:80"
	for _, c := range []struct {
		rules, packet string
		kind, code    int // of ICMP; −1: a reset, −2: nothing
	}{
		{"reject in", "syn", -1, 0},
		{"reject in", "syn6", -1, 0},
		{"reject in state invalid", "ack", -1, 0},
		{"reject in state invalid", "rst", -2, 0},
		{"reject in state invalid", "error", -2, 0},
		{"reject in", "udp", int(ipv4.Unreachable), int(ipv4.CodePort)},
		{"reject in", "udp6", int(ipv6.Unreachable), int(ipv6.CodePort)},
		{"reject in with reset", "udp", -2, 0},
		{"reject in with port", "syn", int(ipv4.Unreachable), int(ipv4.CodePort)},
		{"reject in with host", "syn", int(ipv4.Unreachable), int(ipv4.CodeHost)},
		{"reject in with host", "syn6", int(ipv6.Unreachable), int(ipv6.CodeAddress)},
		{"reject in with net", "udp", int(ipv4.Unreachable), int(ipv4.CodeNet)},
		{"reject in with net", "udp6", int(ipv6.Unreachable), int(ipv6.CodeNoRoute)},
		{"reject in with prohibited", "ping", int(ipv4.Unreachable), int(ipv4.CodeProhibited)},
		{"reject in with prohibited", "ping6", int(ipv6.Unreachable), int(ipv6.CodeProhibited)},
		{"reject forward" + pf, "forwarded", -1, 0}, // from the external address and port
		{"reject forward with port" + pf, "forwarded", int(ipv4.Unreachable), int(ipv4.CodePort)},
	} {
		t.Run(c.rules+"/"+c.packet, func(t *testing.T) {
			h := newHome(t, c.rules)
			b := packets[c.packet].b
			if h.pass(packets[c.packet].in, b) != nil {
				t.Fatal("it passes")
			}
			r := h.last.Reply
			if c.kind == -2 {
				if len(r) != 0 {
					t.Errorf("answered: % x", r)
				}
				return
			}
			var in, out Packet
			in.Data, out.Data = b, r
			if in.parse() != 0 || out.parse() != 0 {
				t.Fatalf("the answer is % x", r)
			}
			if out.key.dst != in.key.src || out.key.src != in.key.dst {
				t.Errorf("%v is answered by %v", in.key.flow(), out.key.flow())
			}
			if c.kind >= 0 {
				quote := r[out.l4+8:]
				if int(out.kind) != c.kind || int(out.code) != c.code || string(quote) != string(b[:len(quote)]) {
					t.Errorf("type %d code %d quoting % x, want %d %d % x", out.kind, out.code, quote, c.kind, c.code, b)
				}
				return
			}
			s := out.seg
			want := segment{flags: tcp.RST | tcp.ACK, ack: 101}
			if in.seg.flags&tcp.ACK != 0 {
				want = segment{flags: tcp.RST, seq: in.seg.ack}
			}
			if out.key != in.key.inverse() || s.flags != want.flags || s.seq != want.seq || s.ack != want.ack {
				t.Errorf("the reset is %v %+v, want %+v", out.key.flow(), s, want)
			}
		})
	}
}

// TestStates: what follows on a connection passes without a rule, and not against one that names it.
func TestStates(t *testing.T) {
	h := newHome(t, filter+"allow in tcp to any port 80")
	h.shake2(phone, toRouter)
	h.rules(filter) // connections outlive rules
	data := tcpPacket(phone, toRouter, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Text: [][]byte{[]byte("GET")}})
	if h.pass("wan", data) == nil || h.last.State != StateEstablished {
		t.Fatalf("after a change of rules: %v, %v", h.last.State, h.last.Reason)
	}
	if h.pass("wan", unreachable(other.Addr(), tcpPacket(toRouter, phone, tcp.Segment{Flags: tcp.ACK, Seq: 301, Ack: 101}))) == nil || h.last.State != StateRelated {
		t.Fatalf("an error about it: %v, %v", h.last.State, h.last.Reason)
	}
	h.rules(filter + "drop in from 198.51.100.7 state established")
	if h.pass("wan", data) != nil || h.last.Rule != 0 {
		t.Fatalf("against a rule: %v, rule %d", h.last.State, h.last.Rule)
	}
	h.rules(filter)
	if n := h.f.Forget(func(c Connection) bool { return c.Flow.Src == phone }); n != 1 {
		t.Errorf("%d connections forgotten", n)
	}
	if h.pass("wan", data) != nil || h.last.State != StateInvalid {
		t.Errorf("a forgotten connection: %v, %v", h.last.State, h.last.Reason)
	}
}

// TestLoopback: a packet of the host's own that comes in again is asked about in both directions.
func TestLoopback(t *testing.T) {
	h := newHome(t, "policy in drop")
	if h.emit("lo", syn(wan(5000), toRouter)) == nil {
		t.Fatal(h.last.Reason)
	}
	h.mustNot("lo", syn(wan(5000), toRouter), Denied)
	h.rules("policy in drop\nallow in on lo")
	h.must("lo", syn(wan(5000), toRouter), wan(5000), toRouter)
}

// shake2 is a handshake with the router itself.
func (h *home) shake2(src, dst netip.AddrPort) {
	h.t.Helper()
	if h.pass("wan", syn(src, dst)) == nil || h.last.State != StateNew ||
		h.emit("wan", tcpPacket(dst, src, tcp.Segment{Flags: tcp.SYN | tcp.ACK, Seq: 300, Ack: 101, Window: 64000})) == nil || h.last.State != StateEstablished ||
		h.pass("wan", tcpPacket(src, dst, tcp.Segment{Flags: tcp.ACK, Seq: 101, Ack: 301, Window: 500})) == nil {
		h.t.Fatalf("handshake of %v with %v: %v %v", src, dst, h.last.State, h.last.Reason)
	}
}

// TestLimit: a rule with a limit matches as often as that, and counts what it matches.
func TestLimit(t *testing.T) {
	h := newHome(t, "policy in drop\nallow in icmp limit 2/second burst 3\ncount in icmp")
	id := uint16(0)
	ping := func() bool { // each from another identifier, so each new
		id++
		return h.pass("wan", echo(netip.AddrPortFrom(phone.Addr(), id), toRouter, false)) != nil
	}
	for i, want := range []bool{true, true, true, false, false} {
		if ping() != want {
			t.Errorf("ping %d: passes %v", i, !want)
		}
	}
	h.now += time.Second / 2
	if !ping() || ping() {
		t.Error("half a second later not one and only one passes")
	}
	want := []uint64{4, 3}
	for r, c := range h.f.Counters() {
		if c.Packets != want[0] || c.Octets != c.Packets*41 {
			t.Errorf("%v: %+v, want %d packets", r, c, want[0])
		}
		want = want[1:]
	}
}

func TestLog(t *testing.T) {
	var got []Entry
	h := newHome(t, "log in tcp\ndrop log in from 198.51.100.7", func(c *Config) { c.Log = func(e Entry) { got = append(got, e) } })
	h.pass("wan", syn(phone, toRouter))
	flow := Flow{protoTCP, phone, toRouter}
	want := []Entry{{h.now, 0, Note, In, "wan", "", StateNew, flow, 48}, {h.now, 1, Deny, In, "wan", "", StateNew, flow, 48}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("logged %+v, want %+v", got, want)
	}
}

// TestClamp: both sides' SYNs announce no more than the clamp.
func TestClamp(t *testing.T) {
	for _, c := range []struct {
		rules     string
		mtu, want int
	}{{"clamp mss 1400 on wan", 0, 1400}, {"clamp mss on wan", 1300, 1260}, {"clamp mss on wan", 0, 1460}, {"clamp mss 1400 on dmz", 0, 1460},
		{"clamp mss 1461 on wan", 0, 1460}} {
		for _, odd := range []bool{false, true} {
			h := newHome(t, c.rules)
			b := syn(laptop, phone)
			if odd { // MSS behind a no-operation: at an odd offset.
				o := append([]byte{1}, b[40:47]...)
				copy(b[40:], o)
				b = tcpOctets(b)
			}
			p := &h.last
			p.Reset(b)
			p.In, p.Out, p.MTU, p.Direction = "lan", "wan", c.mtu, Forward
			if h.f.Arrive(h.now, p) != Accept || h.f.Filter(h.now, p) != Accept || !sound(p.Data) {
				t.Fatalf("%s, odd %v: reason %v, sound %v", c.rules, odd, p.Reason, sound(p.Data))
			}
			var s tcp.Segment
			s.Decode(p.Data[20:])
			if int(s.Options.MSS) != c.want {
				t.Errorf("%s, MTU %d, odd %v: MSS %d, want %d", c.rules, c.mtu, odd, s.Options.MSS, c.want)
			}
		}
	}
}

func TestRulesRefused(t *testing.T) {
	bad := func(change func(*Rules)) {
		t.Helper()
		r := &Rules{}
		change(r)
		f := New(Config{})
		before := f.Rules()
		if err := f.SetRules(r); err == nil || f.Rules() != before {
			t.Errorf("taken: %v", r)
		}
	}
	bad(func(r *Rules) { r.Policies[In].Action = Count })
	bad(func(r *Rules) { r.Filter = []Rule{{Direction: numDirections}} })
	bad(func(r *Rules) { r.Filter = []Rule{{To: Endpoint{Ports: []Ports{{80, 80}}}}} })
	bad(func(r *Rules) { r.Filter = []Rule{{Limit: Limit{N: 1, Per: time.Millisecond}}} })
	bad(func(r *Rules) { r.Filter = []Rule{{Comment: "two\nlines"}} })
	bad(func(r *Rules) { r.Filter = []Rule{{From: Endpoint{Prefixes: []netip.Prefix{{}}}}} })
	bad(func(r *Rules) { r.Masquerades = []Masquerade{{}} })
	bad(func(r *Rules) {
		r.Forwards = []PortForward{{Protocols: []uint8{protoTCP}, External: wan4, Port: 80, To: server6}}
	})
	bad(func(r *Rules) { r.Maps = []Map{{External: wan4, Internal: lan6}} })
	bad(func(r *Rules) { r.Clamps = []Clamp{{On: "wan", MSS: 70000}} })
}
