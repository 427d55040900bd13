package narrate

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// play joins two hosts by a switch, has them do something, and returns what is told of each conversation.
func play(t *testing.T, addrs [2]string, rules string, act func(a, b *stack.Stack)) (told []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := New()
		sw := link.NewSwitch(link.SwitchConfig{Trace: n.Switch("switch")})
		defer sw.Close()
		var hosts [2]*stack.Stack
		for i, name := range []string{"a", "b"} {
			hosts[i] = stack.New(n.Stack(name, stack.Config{NoDAD: true}))
			defer hosts[i].Close()
			d, err := sw.Port(link.PipeConfig{MTU: 1500, Delay: time.Duration(i+1) * time.Millisecond}, link.PortConfig{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hosts[i].Attach(d, netip.MustParsePrefix(addrs[i])); err != nil {
				t.Fatal(err)
			}
		}
		if rules != "" {
			r, err := firewall.Parse(rules)
			if err == nil {
				err = hosts[1].SetFirewall(r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		n.Forget()
		act(hosts[0], hosts[1])
		time.Sleep(time.Second)
		for _, c := range n.Conversations() {
			var b bytes.Buffer
			if err := n.Tell(&b, c); err != nil {
				t.Error(err)
			}
			told = append(told, b.String())
		}
	})
	return told
}

var (
	v4 = [2]string{"198.51.100.1/24", "198.51.100.2/24"}
	v6 = [2]string{"2001:db8::1/64", "2001:db8::2/64"}
)

// dial opens a connection from a to a port of b, and closes it again.
func dial(addr string) func(a, b *stack.Stack) {
	return func(a, b *stack.Stack) {
		l, err := b.Listen("tcp", ":80")
		if err != nil {
			return
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				io.Copy(c, c)
				c.Close()
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		if c, err := a.DialContext(ctx, "tcp", addr); err == nil {
			time.Sleep(10 * time.Millisecond)
			c.Write([]byte("good day\nto you"))
			c.Read(make([]byte, 100))
			c.Close()
		}
		l.Close()
	}
}

func TestTell(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		addrs       [2]string
		act         func(a, b *stack.Stack)
		want        []string // in this order
		not         string
	}{
		{"TCP over IPv4", "", v4, dial("198.51.100.2:80"), []string{
			"The handshake", "a\n", "the program opens a connection: CLOSED becomes SYN-SENT", "sends <SEQ=0><CTL=SYN>",
			"route: 198.51.100.0/24 is on the link", "the station of 198.51.100.2 is not known; the packet waits", "ARP: who has 198.51.100.2?",
			"the frame is for all", "ARP: 198.51.100.2 is at", "the packet that waited goes on", "TCP takes it: LISTEN becomes SYN-RECEIVED",
			"SYN-SENT becomes ESTABLISHED", "The request", `<DATA=15><CTL=PSH,ACK> | "good day"`, "The reply", "The close", "CTL=FIN,ACK",
			"there  a ", "there  switch", "there  b ", "back   b", "back   switch", "back   a"}, "firewall"},
		{"TCP over IPv6", "", v6, dial("[2001:db8::2]:80"), []string{
			"The handshake", "NDP: who has 2001:db8::2?", "NDP: 2001:db8::2 is at", "hop limit 64", "The request", "The close"}, "firewall"},
		{"a port where nobody listens", "", v4, dial("198.51.100.2:81"), []string{
			"The handshake", "TCP refuses it", "The reset", "SYN-SENT becomes CLOSED"}, "The request"},
		{"a packet that the policy drops", "policy in drop", v4, dial("198.51.100.2:80"), []string{
			"the packet begins a connection", `firewall, in: no rule matches, and the policy "in drop" drops it`, "the packet goes no further: firewall"}, "SYN-RECEIVED"},
		{"a packet that a rule rejects", "allow in udp\nreject in tcp to any port 80", v4, dial("198.51.100.2:80"), []string{
			`rule 2, "reject in tcp to any port 80", rejects it`, "The reset", "CTL=RST,ACK", "TCP takes it: SYN-SENT becomes CLOSED"}, "LISTEN"},
		{"echo", "", v4, func(a, b *stack.Stack) {
			a.Ping(context.Background(), netip.MustParseAddr("198.51.100.2"), stack.PingConfig{})
		}, []string{"The request", "ICMP, echo request", "The reply", "ICMP, echo reply", "there  a       ICMP"}, "198.51.100.2:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			told := play(t, c.addrs, c.rules, c.act)
			if len(told) == 0 {
				t.Fatal("no conversation is known")
			}
			rest := told[0]
			for _, w := range c.want {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Fatalf("no %q, in its place, in\n%s", w, told[0])
				}
				rest = after
			}
			if strings.Contains(told[0], c.not) {
				t.Errorf("%q appears in\n%s", c.not, told[0])
			}
			if len(told) > 1 {
				t.Errorf("there is another conversation:\n%s", told[1])
			}
		})
	}
}

func TestTellNothing(t *testing.T) {
	n := New()
	end := netip.MustParseAddrPort("198.51.100.1:1")
	if err := n.Tell(io.Discard, firewall.Flow{Protocol: protoTCP, Src: end, Dst: end}); err == nil {
		t.Error("a conversation that nobody has reported is told without an error")
	}
}

// TestStepsAreBounded: what is reported beyond maxSteps takes no memory, and it is said that there was more.
func TestStepsAreBounded(t *testing.T) {
	n := New()
	trace := n.Stack("a", stack.Config{}).TracePacket
	for i := range maxSteps + 10 {
		trace(&stack.PacketEvent{Step: stack.PacketWaits, Number: uint64(i + 1), Next: netip.MustParseAddr("198.51.100.2")})
	}
	if len(n.steps) != maxSteps || len(n.open) > maxSteps+1 || !n.full.Load() {
		t.Errorf("%d steps, %d open, full: %v, want %d steps", len(n.steps), len(n.open), n.full.Load(), maxSteps)
	}
	n.Forget()
	if len(n.steps)+len(n.open) != 0 || n.full.Load() {
		t.Errorf("Forget leaves %d steps, %d open, full: %v", len(n.steps), len(n.open), n.full.Load())
	}
}

// FuzzView: whatever passes, it is told in words.
func FuzzView(f *testing.F) {
	for _, s := range []string{
		"", "ffffffffffff020000000009080600010800060400010200000000091111111111110000000000001111",
		"0200000000090200000000010800450000280001000040060000c6336401c6336402c35000500000000100000000500200000000",
		"4500002c000100004011000000000000000000000035003500180000000001000001000000000000",
		"6000000000083a40fe800000000000000000000000000001fe800000000000000000000000000002870000000000000000",
	} {
		b, _ := hex.DecodeString(s)
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, isEthernet bool) {
		tell := newTelling(nil, firewall.Flow{})
		for at := 0; at <= len(b); at += max(len(b)/3, 1) {
			v := newView(&link.Packet{Head: b[:at], Text: [][]byte{b[at:]}}, isEthernet)
			if text := tell.frame(v); strings.ContainsAny(text, "\n\x1b") || v.size < 0 {
				t.Errorf("%q, %d octets of text", text, v.size)
			}
		}
	})
}
