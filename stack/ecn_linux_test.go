package stack

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TestC115C116C117KernelECN: a transfer with the kernel in either direction agrees on ECN where we ask, and where the kernel does;
// of what is ECN-capable on its way nft marks one packet in fifty, super-segments whole, and what is marked is echoed, answered
// with CWR, and nothing is sent again.
func TestC115C116C117KernelECN(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	var in, out [2]atomic.Int64 // segments with ECE, with CWR
	count := func(n *[2]atomic.Int64, f tcp.Flags) {
		for k, bit := range [...]tcp.Flags{tcp.ECE, tcp.CWR} {
			if f.Has(bit) && !f.Has(tcp.SYN) {
				n[k].Add(1)
			}
		}
	}
	s := kernelPeer(t, Config{TCP: tcp.Config{ECN: tcp.ECNActive}, Trace: func(e *TraceEvent) {
		switch e.Kind {
		case SegmentIn:
			count(&in, e.Segment.Flags)
		case SegmentOut:
			count(&out, e.Segment.Flags)
		}
	}}, map[string]string{"tcp_ecn": "1"})
	nft := exec.Command("nft", `add table inet t
		add chain inet t in { type filter hook input priority 0; }
		add chain inet t out { type filter hook output priority 0; }
		add rule inet t in ip ecn ect0 numgen random mod 50 == 0 ip ecn set ce
		add rule inet t in ip6 ecn ect0 numgen random mod 50 == 0 ip6 ecn set ce
		add rule inet t out ip ecn ect0 numgen random mod 50 == 0 ip ecn set ce
		add rule inet t out ip6 ecn ect0 numgen random mod 50 == 0 ip6 ecn set ce`)
	if errors.Is(nft.Err, exec.ErrNotFound) && os.Getenv("CI") == "" {
		t.Skip(nft.Err)
	}
	if b, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, b)
	}
	const size = 50_000_000
	for _, x := range []struct {
		name string
		from func() (net.Conn, net.Conn)
	}{
		{name: "waybill to kernel, IPv4", from: dialing(t, s.Dial, net.Listen, client4)},
		{name: "waybill to kernel, IPv6", from: dialing(t, s.Dial, net.Listen, client6)},
		{name: "kernel to waybill, IPv4", from: dialing(t, net.Dial, s.Listen, server4)},
		{name: "kernel to waybill, IPv6", from: dialing(t, net.Dial, s.Listen, server6)},
	} {
		t.Run(x.name, func(t *testing.T) {
			for k := range in {
				in[k].Store(0)
				out[k].Store(0)
			}
			again := netstat(t, "TCPFastRetrans")
			from, to := x.from()
			go func() {
				from.Write(make([]byte, size))
				from.(interface{ CloseWrite() error }).CloseWrite()
			}()
			if n, err := io.Copy(io.Discard, to); n != size || err != nil {
				t.Errorf("%d octets, %v; want %d", n, err, size)
			}
			c, ours := from.(*TCPConn)
			echoes, answers := &in[0], &out[1]
			if !ours {
				c, echoes, answers = to.(*TCPConn), &out[0], &in[1]
			}
			if !c.Info().ECN || echoes.Load() == 0 || answers.Load() == 0 {
				t.Errorf("agreed on: %v; %d segments with ECE, %d with CWR back", c.Info().ECN, echoes.Load(), answers.Load())
			}
			// Where this machine is busy a probe may go out for nothing, but a mark is no loss.
			if n := int64(c.Info().Retransmits); ours && n > int64(echoes.Load()) {
				t.Errorf("%d segments were sent again for %d marks", n, echoes.Load())
			}
			if n := int64(netstat(t, "TCPFastRetrans") - again); !ours && n > int64(echoes.Load()) {
				t.Errorf("the kernel has sent %d segments again for %d marks", n, echoes.Load())
			}
			t.Logf("%d with ECE, %d with CWR", echoes.Load(), answers.Load())
			from.Close()
			to.Close()
		})
	}
}

// dialing makes connections between two stacks, of which one may be the kernel.
func dialing(t *testing.T, dial func(network, address string) (net.Conn, error),
	listen func(network, address string) (net.Listener, error), at netip.Prefix) func() (from, to net.Conn) {
	return func() (from, to net.Conn) {
		t.Helper()
		l, err := listen("tcp", netip.AddrPortFrom(at.Addr(), 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if from, err = dial("tcp", l.Addr().String()); err != nil {
			t.Fatal(err)
		}
		if to, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		return from, to
	}
}
