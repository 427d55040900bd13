package dhcp

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

// Binding is an address of a server's, and who has it.
type Binding struct {
	Addr     netip.Addr
	HW       string // the client's hardware address, as net.HardwareAddr prints it
	Hostname string // as the client calls itself; empty: it does not say
	Until    time.Time
	State    BindingState
}

// BindingState says how an address is bound.
type BindingState uint8

// The states of bindings.
const (
	Offered  BindingState = iota + 1 // and not asked for yet
	Leased                           // until the lease ends
	Free                             // it was leased, and is kept for its client as long as there are others
	Declined                         // a client says that another host has it
)

// offerTime is how long an offer stands: longer than a client asks for it (RFC 2131 §4.1). declineTime is how long an address
// that another host has is left alone. Both figures are ours.
const (
	offerTime   = 2 * time.Minute
	declineTime = 10 * time.Minute
)

// holder is a binding with its client's identity (RFC 2131 §4.2).
type holder struct {
	Binding
	key string
}

// pool is the addresses that a server gives out: a value. An address is some client's, or it is nobody's.
type pool struct {
	first, last netip.Addr
	static      map[string]netip.Addr // by hardware address
	reserved    map[netip.Addr]bool   // the values of static, and the server's own
	byAddr      map[netip.Addr]*holder
	byKey       map[string]*holder
}

func newPool(first, last, own netip.Addr, static map[string]netip.Addr) *pool {
	p := &pool{first: first, last: last, static: static, reserved: map[netip.Addr]bool{own: true}, byAddr: map[netip.Addr]*holder{}, byKey: map[string]*holder{}}
	for a := range maps.Values(static) {
		p.reserved[a] = true
	}
	return p
}

// may reports whether a client may have the address.
func (p *pool) may(now time.Time, key, hw string, a netip.Addr) bool {
	if own, ok := p.static[hw]; ok {
		if a != own {
			return false
		}
	} else if p.reserved[a] || a.Less(p.first) || p.last.Less(a) {
		return false
	}
	h := p.byAddr[a]
	return h == nil || h.key == key || !now.Before(h.Until)
}

// pick finds the address to offer to a client. RFC 2131 §4.3.1: its current one, or "The client's previous address", or "The
// address requested", or else one that is free; of those the one that nobody had, or the one that is free for longest.
func (p *pool) pick(now time.Time, key, hw string, want netip.Addr) (netip.Addr, bool) {
	if a, ok := p.static[hw]; ok {
		return a, p.may(now, key, hw, a)
	}
	if h := p.byKey[key]; h != nil && p.may(now, key, hw, h.Addr) {
		return h.Addr, true
	}
	if want.IsValid() && p.may(now, key, hw, want) {
		return want, true
	}
	var oldest *holder
	for a := p.first; !p.last.Less(a); a = a.Next() {
		if !p.may(now, key, hw, a) {
			continue
		}
		h := p.byAddr[a]
		if h == nil {
			return a, true
		}
		if oldest == nil || h.Until.Before(oldest.Until) {
			oldest = h
		}
	}
	if oldest == nil {
		return netip.Addr{}, false
	}
	return oldest.Addr, true
}

// bind gives the address to the client, which may have it, and nothing else any more.
func (p *pool) bind(key string, b Binding) {
	if h := p.byKey[key]; h != nil && h.Addr != b.Addr {
		delete(p.byAddr, h.Addr)
	}
	if h := p.byAddr[b.Addr]; h != nil && h.key != key {
		delete(p.byKey, h.key)
	}
	h := &holder{b, key}
	p.byAddr[b.Addr], p.byKey[key] = h, h
}

// release ends a lease; the address is kept for the client.
func (p *pool) release(now time.Time, key string, a netip.Addr) {
	if h := p.byAddr[a]; h != nil && h.key == key && h.State == Leased {
		h.State, h.Until = Free, now
	}
}

// withdraw ends an offer that the client did not choose.
func (p *pool) withdraw(key string) {
	if h := p.byKey[key]; h != nil && h.State == Offered {
		delete(p.byAddr, h.Addr)
		delete(p.byKey, key)
	}
}

// decline takes an address that another host has out of use for a time.
func (p *pool) decline(now time.Time, key string, a netip.Addr) {
	if h := p.byAddr[a]; h != nil && h.key == key {
		delete(p.byKey, key)
		h.key, h.HW, h.Hostname, h.State, h.Until = "", "", "", Declined, now.Add(declineTime)
	}
}

// all lists the bindings, in the order of addresses.
func (p *pool) all() (list []Binding) {
	for _, h := range p.byAddr {
		list = append(list, h.Binding)
	}
	slices.SortFunc(list, func(a, b Binding) int { return a.Addr.Compare(b.Addr) })
	return list
}
