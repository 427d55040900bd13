package stack

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// These are rows about the neighbour cache in a stack; internal/neighbor has those about the cache alone.

// onEthernet runs a test over Ethernet, for both families.
func onEthernet(t *testing.T, f func(h *tester)) {
	overWire(t, link.PipeConfig{MTU: 1500, Ethernet: true}, Config{}, f)
}

// stranger's n-th address and station, on the stack's link.
func someone(h *tester, n int) (netip.Addr, ethernet.Addr) {
	var hw ethernet.Addr
	hw[0] = 2
	binary.BigEndian.PutUint32(hw[2:], uint32(n)+1)
	if h.us.Is4() { // 203.0.113.0/24 is too small for a flood, and the address is never on a wire
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], 10<<24|uint32(n)+1)
		return netip.AddrFrom4(b), hw
	}
	b := h.us.As16()
	binary.BigEndian.PutUint32(b[8:], uint32(n)+1)
	return netip.AddrFrom16(b), hw
}

// asks sends the stack a request for its address, by ARP or NS, from ip at hw.
func (h *tester) asks(ip netip.Addr, hw ethernet.Addr) {
	if h.us.Is4() {
		h.arp(ethernet.Broadcast, ethernet.ARP{Op: ethernet.OpRequest, SenderHW: hw, SenderIP: ip, TargetIP: h.peer})
		return
	}
	dst := ipv6.SolicitedNode(h.peer)
	h.ndp(ethernet.Multicast(dst), ip, dst, &ipv6.NDP{Type: ipv6.NeighborSolicitation, Target: h.peer, SourceLL: hw, HasSourceLL: true})
}

// claims says, unasked, that ip is at hw.
func (h *tester) claims(ip netip.Addr, hw ethernet.Addr) {
	if h.us.Is4() {
		h.arp(h.ifc.mac, ethernet.ARP{Op: ethernet.OpReply, SenderHW: hw, SenderIP: ip, TargetHW: h.ifc.mac, TargetIP: h.peer})
		return
	}
	h.ndp(h.ifc.mac, ip, h.peer, &ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: ip, Override: true, TargetLL: hw, HasTargetLL: true})
}

// witness sends a datagram to the tester, and returns the station that it went to.
func (h *tester) witness(u *UDPConn) (to ethernet.Addr) {
	h.Helper()
	h.sent()
	if _, err := u.WriteToUDPAddrPort([]byte("w"), netip.AddrPortFrom(h.us, 5000)); err != nil {
		h.Fatalf("the witness: %v", err)
	}
	h.idle()
	for _, p := range h.sent() {
		if p.dst == h.us {
			return p.eth.Dst
		}
	}
	return to
}

// A50, A52: strangers ask for us, and we are made to look for hosts that are not there; who is in use stays in the cache, which
// does not grow, and what waits is bounded.
func TestA50A52NeighborFlood(t *testing.T) {
	const size = 1024
	strangers := *floodOf
	onEthernet(t, func(h *tester) {
		if err := h.stack.AddRoute(netip.MustParsePrefix("10.0.0.0/8"), netip.Addr{}, h.ifc); err != nil {
			t.Fatal(err)
		}
		u := h.bind(6000)
		h.witness(u)
		full := 0
		for n := range strangers {
			ip, hw := someone(h, n)
			h.asks(ip, hw)
			away, _ := someone(h, strangers+n)
			if _, err := u.WriteToUDPAddrPort(make([]byte, 100), netip.AddrPortFrom(away, 9)); err != nil {
				if !errors.Is(err, syscall.EHOSTUNREACH) {
					t.Fatalf("a datagram to nobody: %v", err)
				}
				full++
			}
			if n%500 == 0 {
				h.pass(100 * time.Millisecond)
				if to := h.witness(u); to != h.mac {
					t.Fatalf("after %d strangers the witness is at %v", n, to)
				}
				h.neighbor()
			}
		}
		i := &h.ifc.neigh
		i.Lock()
		if i.cache.Len() > size || i.packets > maxWaitingAll || len(i.parked) > size/2 {
			t.Errorf("%d neighbours, %d packets waiting for %d of them; want at most %d, %d, %d", i.cache.Len(), i.packets, len(i.parked), size, maxWaitingAll, size/2)
		}
		i.Unlock()
		if full == 0 {
			t.Error("there was room to look for everybody")
		}
		h.pass(10 * time.Second)
		i.Lock()
		if i.packets != 0 || len(i.parked) != 0 {
			t.Errorf("%d packets still wait for %d neighbours", i.packets, len(i.parked))
		}
		i.Unlock()
		if to := h.witness(u); to != h.mac {
			t.Errorf("after the flood the witness is at %v", to)
		}
	})
}

// A51, A53: what nobody asked for makes no entry, and changes what is there, as RFC 826 and RFC 4861 §7.2.5 say: until
// the station that answers no probe is found out (A61, C153).
func TestA51A53A61C153PoisoningHeals(t *testing.T) {
	onEthernet(t, func(h *tester) {
		u := h.bind(6000)
		liar := ethernet.Addr{2, 6, 6, 6, 6, 6}
		ip, _ := someone(h, 1)
		h.claims(ip, liar)
		h.idle()
		if slices.ContainsFunc(h.ifc.neigh.entriesOf(), func(a netip.Addr) bool { return a == ip }) {
			t.Error("a claim that nobody asked for made an entry")
		}
		if to := h.witness(u); to != h.mac {
			t.Fatalf("the witness is at %v", to)
		}
		h.claims(h.us, liar)
		if to := h.witness(u); to != liar {
			t.Errorf("after the claim packets go to %v, want %v as RFC 4861 §7.2.5 has it", to, liar)
		}
		// The liar does not answer when it is asked: after 5 s of DELAY and 3 probes a second apart everybody is.
		for range 12 {
			h.pass(time.Second)
			h.witness(u)
		}
		if to := h.witness(u); to != h.mac {
			t.Errorf("12 s later packets still go to %v", to)
		}
	})
}

// A53: an entry that was set by hand is nobody's to change, and a flood does not evict it.
func TestA53StaticNeighborsWin(t *testing.T) {
	onEthernet(t, func(h *tester) {
		u := h.bind(6000)
		set := ethernet.Addr{2, 0, 0, 0, 0, 9}
		if err := h.ifc.SetNeighbor(h.us, net.HardwareAddr(set[:])); err != nil {
			t.Fatal(err)
		}
		h.claims(h.us, ethernet.Addr{2, 6, 6, 6, 6, 6})
		h.asks(h.us, ethernet.Addr{2, 6, 6, 6, 6, 6})
		for n := range 3000 {
			h.asks(someone(h, n))
			if n%50 == 0 {
				h.idle()
			}
		}
		h.pass(time.Minute)
		if to := h.witness(u); to != set {
			t.Errorf("packets go to %v, want %v", to, set)
		}
		if err := h.ifc.DeleteNeighbor(h.us); err != nil {
			t.Error(err)
		}
		if err := h.ifc.DeleteNeighbor(h.us); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("deleted twice: %v", err)
		}
		if to := h.witness(u); to != h.mac {
			t.Errorf("packets go to %v, want to who answers", to)
		}
	})
}

// What waits for an answer leaves when SetNeighbor gives it.
func TestSetNeighborLetsGo(t *testing.T) {
	onEthernet(t, func(h *tester) {
		u := h.bind(6000)
		ip := h.us
		for range 5 {
			ip = ip.Next()
		}
		u.WriteToUDPAddrPort([]byte("early"), netip.AddrPortFrom(ip, 5000))
		h.idle()
		h.silent("the neighbour does not answer")
		if err := h.ifc.SetNeighbor(ip, net.HardwareAddr{2, 0, 0, 0, 0, 9}); err != nil {
			t.Fatal(err)
		}
		if p := h.one("SetNeighbor"); p.dst != ip || p.eth.Dst != (ethernet.Addr{2, 0, 0, 0, 0, 9}) {
			t.Errorf("a packet to %v at %v", p.dst, p.eth.Dst)
		}
		for _, bad := range []struct {
			ip netip.Addr
			hw net.HardwareAddr
		}{{netip.Addr{}, net.HardwareAddr{2, 0, 0, 0, 0, 9}}, {ip, nil}, {ip, net.HardwareAddr{3, 0, 0, 0, 0, 9}}, {ip, make(net.HardwareAddr, 6)},
			{ip, make(net.HardwareAddr, 8)}, {netip.MustParseAddr("224.0.0.1"), net.HardwareAddr{2, 0, 0, 0, 0, 9}}} {
			if err := h.ifc.SetNeighbor(bad.ip, bad.hw); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("SetNeighbor(%v, %v): %v", bad.ip, bad.hw, err)
			}
		}
	})
}

func (n *neighbors) entriesOf() (all []netip.Addr) {
	for _, e := range n.entries() {
		all = append(all, e.IP)
	}
	return all
}
