package stack

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/autoconf"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// dad is duplicate address detection, optimistic (RFC 4862 §5.4, RFC 4429): an address is in use from the start, and
// withdrawn should somebody answer for it.
type dad struct {
	sync.Mutex
	detector autoconf.Detector
	hasNonce bool // it was drawn: one for all addresses of an attachment
	alarm    alarm
}

// dadWait is RetransTimer times DupAddrDetectTransmits (RFC 4862 §5.1, RFC 4861 §10), where no router says otherwise.
const dadWait = time.Second

// startDAD announces the interface's addresses: an ARP announcement for IPv4 (RFC 5227 §2.3), a question for IPv6. When
// the link has returned, doubt makes the addresses optimistic again; else it is nil. The nonce stays the same, since copies
// of the questions before may still come back. Without any addrs, it is about all that the interface has.
func (i *Interface) startDAD(doubt func(), addrs ...Addr) {
	if !i.caps.Ethernet {
		return
	}
	all := len(addrs) == 0
	if all {
		addrs = *i.addrs.Load()
	}
	now := i.stack.now()
	i.dad.Lock()
	if !i.dad.hasNonce {
		b := binary.NativeEndian.AppendUint64(nil, i.stack.secret.random())
		i.dad.detector.Nonce, i.dad.hasNonce = [6]byte(b), true
	}
	for _, a := range addrs { // those that are in doubt from here on are asked for anew, whatever was asked before
		if addr := a.Prefix.Addr(); a.State == AddrOptimistic || doubt != nil && addr.Is6() && !i.stack.config.NoDAD {
			i.dad.detector.Begin(now, i.dadDelay(&a), addr)
		}
	}
	i.dad.Unlock()
	if doubt != nil {
		doubt()
	}
	if all {
		addrs = *i.addrs.Load()
	}
	for _, a := range addrs {
		switch addr := a.Prefix.Addr(); {
		case addr.Is4():
			i.announce(now, addr)
		case a.State != AddrOptimistic:
			i.advertise(addr)
		}
	}
	i.askDAD(now)
}

// dadDelay is how long to wait before an address is asked for. RFC 4862 §5.4.2: where it follows from an advertisement that
// all hosts of the link have heard, "the node SHOULD delay joining the solicited-node multicast address by a random delay
// between 0 and MAX_RTR_SOLICITATION_DELAY". We join at once, as the address is in use already, and delay the question.
func (i *Interface) dadDelay(a *Addr) time.Duration {
	if !a.Router.IsValid() {
		return 0
	}
	return time.Duration(i.stack.secret.random() % uint64(time.Second))
}

// askDAD sends the questions that are due, and sets the alarm for what comes next.
func (i *Interface) askDAD(now time.Duration) {
	var ask []netip.Addr
	i.dad.Lock()
	for {
		a, ok := i.dad.detector.Next(now)
		if !ok {
			break
		}
		ask = append(ask, a)
	}
	nonce := i.dad.detector.Nonce
	if at, ok := i.dad.detector.Deadline(); ok {
		i.dad.alarm.set(at)
	}
	i.dad.Unlock()
	for _, a := range ask {
		dst := ipv6.SolicitedNode(a)
		n := ipv6.NDP{Type: ipv6.NeighborSolicitation, Target: a, Nonce: nonce, HasNonce: true}
		i.sendNDP(ethernet.Multicast(dst), netip.IPv6Unspecified(), dst, &n)
	}
}

// advertise tells everybody on the link where an address of ours is, if it is valid. RFC 4861 §7.2.6: "In some cases a node
// may be able to determine that its link-layer address has changed [...] and may wish to inform its neighbors of the new
// link-layer address quickly": a stack that is started anew is another station, and neighbours remember the one before.
func (i *Interface) advertise(addr netip.Addr) {
	if i.stateOf(addr) == AddrValid {
		i.sendNDP(ethernet.Multicast(allNodes), addr, allNodes, &ipv6.NDP{Type: ipv6.NeighborAdvertisement, Target: addr,
			Override: true, TargetLL: i.mac, HasTargetLL: true})
	}
}

// ours reports whether a question for an address is our own, come back (RFC 7527 §4.2).
func (d *dad) ours(a netip.Addr, nonce [6]byte) bool {
	d.Lock()
	defer d.Unlock()
	return d.detector.Heard(a, nonce)
}

// tickDAD ends the wait for addresses that nobody has answered for, and sends what else is due.
func (i *Interface) tickDAD(now time.Duration) {
	i.dad.Lock()
	if !i.dad.alarm.fired() {
		i.dad.Unlock()
		return
	}
	var sure []netip.Addr
	for {
		a, ok := i.dad.detector.Sure(now)
		if !ok {
			break
		}
		sure = append(sure, a)
	}
	i.dad.Unlock()
	for _, a := range sure {
		i.setState(a, AddrValid)
		i.advertise(a)
		if a.IsLinkLocalUnicast() {
			i.announceGroups(true)
		}
	}
	i.askDAD(now)
}
