package stack

import (
	"bytes"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// narrow is a router between two stacks, whose second link carries less than the first: what is longer it drops, and says so
// or does not.
type narrow struct {
	mtu     atomic.Int32
	tells   bool
	dropped atomic.Int32
	passed  atomic.Int32 // the longest packet that did
}

// joined makes two stacks with a router between them, which delays packets by 5 ms.
func (r *narrow) joined(t *testing.T, wire link.PipeConfig, c Config) (client, server *Stack) {
	t.Helper()
	wire.Delay = 5 * time.Millisecond
	a, left := link.Pipe(wire)
	wire.Delay = 0
	right, b := link.Pipe(wire)
	go r.carry(left.Queues()[0], right.Queues()[0])
	go r.carry(right.Queues()[0], left.Queues()[0])
	t.Cleanup(func() { left.Close(); right.Close() })
	return host(t, a, c, client4, client6), host(t, b, c, server4, server6)
}

// carry takes packets from one link to the other.
func (r *narrow) carry(from, to link.Queue) {
	in := make([]link.Packet, 16)
	for {
		n, err := from.Read(in)
		for _, p := range in[:n] {
			b := slices.Clone(p.Head)
			if len(b) <= int(r.mtu.Load()) {
				r.passed.Store(max(r.passed.Load(), int32(len(b))))
				to.Write([]link.Packet{{Head: b}})
				continue
			}
			r.dropped.Add(1)
			if r.tells {
				from.Write([]link.Packet{{Head: tooLong(b, int(r.mtu.Load()))}})
			}
		}
		if err != nil {
			return
		}
	}
}

// tooLong is a router's answer to a packet. It comes from the packet's destination, which is a host as good as any.
func tooLong(b []byte, mtu int) []byte {
	if b[0]>>4 == 4 {
		var h ipv4.Header
		h.Decode(b)
		text := icmp4(ipv4.ICMP{Type: ipv4.Unreachable, Code: ipv4.CodeFragNeeded, Seq: uint16(mtu), Body: b[:28]})
		ip := ipv4.Header{Length: ipv4.MinHeaderLen + len(text), TTL: 64, Protocol: ipv4.ProtoICMP, Src: h.Dst, Dst: h.Src}
		out := make([]byte, ipv4.MinHeaderLen)
		ip.Encode(out)
		return append(out, text...)
	}
	var h ipv6.Header
	h.Decode(b)
	text := icmp6(h.Dst, h.Src, ipv6.ICMP{Type: ipv6.PacketTooBig, Rest: uint32(mtu), Body: b[:ipv6.MinMTU-ipv6.HeaderLen-ipv6.ICMPLen]})
	ip := ipv6.Header{PayloadLength: len(text), NextHeader: ipv6.ProtoICMP, HopLimit: 64, Src: h.Dst, Dst: h.Src}
	out := make([]byte, ipv6.HeaderLen)
	ip.Encode(out)
	return append(out, text...)
}

// carried sends data one way and returns how long it took.
func carried(t *testing.T, client, server *Stack, to netip.Prefix, data []byte) time.Duration {
	t.Helper()
	c, s := connected(t, client, server, to)
	defer s.Close()
	start := time.Now()
	go func() { c.Write(data); c.CloseWrite() }()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d octets of %d, %v", len(got), len(data), err)
	}
	c.Close()
	return time.Since(start)
}

// TestC126C131NarrowPath: transfers of 4 MB over a router with an MTU of 1280 finish, whether it says what is wrong or not,
// in either direction and over both families; and over one that grows narrow in the midst of a transfer.
func TestC126C131NarrowPath(t *testing.T) {
	for _, x := range []struct {
		name   string
		tells  bool
		mtu    int32
		later  int32 // the MTU after 100 ms; 0: the same
		within time.Duration
	}{
		{"packet too big", true, 1280, 0, time.Second},
		{"packet too big, later", true, 1500, 1280, time.Second},
		{"black hole", false, 1280, 0, 4 * time.Second},
		{"black hole, later", false, 1500, 1280, 4 * time.Second},
		{"no hole at all", false, 1500, 0, time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, to netip.Prefix) {
				r := &narrow{tells: x.tells}
				r.mtu.Store(x.mtu)
				client, server := r.joined(t, link.PipeConfig{MTU: 1500}, Config{})
				if x.later != 0 {
					time.AfterFunc(100*time.Millisecond, func() { r.mtu.Store(x.later) })
				}
				data := random(4<<20, 7)
				down := carried(t, client, server, to, data)
				back := client4
				if to.Addr().Is6() {
					back = client6
				}
				up := carried(t, server, client, back, data)
				t.Logf("4 MB in %v and back in %v, %d packets dropped, packets of up to %d octets", down, up, r.dropped.Load(), r.passed.Load())
				if down > x.within || up > x.within {
					t.Errorf("it took %v and %v, want %v at most", down, up, x.within)
				}
				if want := min(x.mtu, 1280) - 16; r.passed.Load() < want {
					t.Errorf("the longest packet has %d octets, want at least %d", r.passed.Load(), want)
				}
			})
		})
	}
}
