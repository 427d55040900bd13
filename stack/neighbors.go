package stack

import (
	"fmt"
	"iter"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/neighbor"
)

// Neighbor is a station on an interface's link.
type Neighbor struct {
	Interface *Interface
	IP        netip.Addr
	HW        net.HardwareAddr // nil where it is not known
	State     string           // as RFC 4861 §7.3.2 calls it, such as "REACHABLE"; "PERMANENT" is SetNeighbor's
	Router    bool             // it advertised itself as one
}

// Neighbors lists the neighbours of all interfaces: the ARP and the NDP cache.
func (s *Stack) Neighbors() iter.Seq[Neighbor] {
	return func(yield func(Neighbor) bool) {
		for _, i := range s.view.Load().ifaces {
			for _, e := range i.neigh.entries() {
				n := Neighbor{Interface: i, IP: e.IP, State: e.State.String(), Router: e.Router}
				if !e.HW.IsZero() {
					n.HW = net.HardwareAddr(e.HW[:])
				}
				if !yield(n) {
					return
				}
			}
		}
	}
}

func (n *neighbors) entries() []neighbor.Entry {
	n.Lock()
	defer n.Unlock()
	if n.cache == nil {
		return nil
	}
	return slices.Collect(n.cache.All())
}

// SetNeighbor says which station on the link has an address, whatever that station or another says of it: no ARP packet and no
// Neighbor Advertisement changes the entry, and it does not count against the size of the cache. The error wraps EINVAL
// where the link is not Ethernet, or one of the addresses can be no neighbour's.
func (i *Interface) SetNeighbor(ip netip.Addr, hw net.HardwareAddr) error {
	ip = ip.WithZone("")
	var a ethernet.Addr
	if copy(a[:], hw) != len(a) || len(hw) != len(a) || a.IsMulticast() || a.IsZero() || !i.caps.Ethernet ||
		!ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip.IsLoopback() || ip.Is4In6() || i.broadcast(ip) {
		return fmt.Errorf("stack: %s: neighbour %v at %v: %w", i.name, ip, hw, syscall.EINVAL)
	}
	n := &i.neigh
	n.Lock()
	if n.parked == nil {
		n.Unlock()
		return fmt.Errorf("stack: %s: neighbour %v: %w", i.name, ip, net.ErrClosed)
	}
	n.cache.Set(ip, a)
	w := n.take(ip)
	n.Unlock()
	n.release(i.stack.now(), w, a)
	return nil
}

// DeleteNeighbor forgets what is known of an address on the link, by SetNeighbor or otherwise. The next packet that goes there
// asks. The error wraps ENOENT where nothing is known.
func (i *Interface) DeleteNeighbor(ip netip.Addr) error {
	n := &i.neigh
	n.Lock()
	defer n.Unlock()
	if n.parked == nil || !n.cache.Delete(ip.WithZone("")) {
		return fmt.Errorf("stack: %s: neighbour %v: %w", i.name, ip, syscall.ENOENT)
	}
	if at, ok := n.cache.Deadline(); ok {
		n.alarm.set(at)
	}
	return nil
}
