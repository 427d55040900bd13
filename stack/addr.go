package stack

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Addr is an address of an interface, with the prefix that is on its link.
type Addr struct {
	Prefix netip.Prefix // the address itself, not masked
	State  AddrState

	// What the choice of a source address looks at (RFC 6724 §5).
	Deprecated bool       // its preferred lifetime is over: nothing new begins from it while there is another (rule 3)
	Temporary  bool       // RFC 8981: it is preferred for what we begin (rule 7)
	Router     netip.Addr // who advertised its prefix, if anybody (rule 5.5)

	// When its lifetimes end, where a router has given it some (RFC 4862 §5.5.4); zero: never.
	PreferredUntil, ValidUntil time.Time

	auto bool // Autoconfigure's: the network around it is on the link only where a router says so (RFC 5942 §4)
}

// AddrState says how far an address has got.
type AddrState uint8

// The states of an address (RFC 4862 §2, RFC 4429 §2.1).
const (
	AddrOptimistic AddrState = iota + 1 // in use while duplicate address detection still asks
	AddrValid                           // ours
)

// String is the state in a word.
func (s AddrState) String() string {
	return [...]string{"none", "optimistic", "valid"}[min(int(s), 2)]
}

// usable reports why p cannot be an address of ours.
func usable(p netip.Prefix) error {
	a := p.Addr()
	if !p.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() || a.Zone() != "" ||
		a == broadcast4 || a.Is4() && p.Bits() < 31 && (a == p.Masked().Addr() || a == lastAddr(p)) {
		return syscall.EADDRNOTAVAIL
	}
	return nil
}

// AddAddr gives the interface another address, with the length of the network that is on the link; a whole /32 or /128
// names no network. It is announced, or asked for, as those of Attach are. What is connected over a prefix that now
// is on this link goes there from now on. The error wraps EADDRNOTAVAIL where p can be nobody's address, and EEXIST where
// the interface has it.
func (i *Interface) AddAddr(p netip.Prefix) error {
	if err := i.addAddr(Addr{Prefix: p}); err != nil {
		return fmt.Errorf("stack: %s: address %v: %w", i.name, p, err)
	}
	return nil
}

// addAddr adds an address whose other fields are as given; its state is found here.
func (i *Interface) addAddr(a Addr) error {
	if err := usable(a.Prefix); err != nil {
		return err
	}
	s, addr := i.stack, a.Prefix.Addr()
	a.State = i.firstState(addr)
	s.admin.Lock()
	if s.closed.Load() {
		s.admin.Unlock()
		return net.ErrClosed
	}
	if i.has(addr) {
		s.admin.Unlock()
		return syscall.EEXIST
	}
	addrs := append(slices.Clone(*i.addrs.Load()), a)
	i.addrs.Store(&addrs)
	old := s.replaceView(func(*view) {})
	s.admin.Unlock()
	s.reroute(s.now(), old, a.Prefix.Masked())
	i.follow()
	i.startDAD(nil, a)
	return nil
}

// firstState is the state that an address of ours begins in.
func (i *Interface) firstState(a netip.Addr) AddrState {
	if a.Is6() && i.caps.Ethernet && !i.stack.config.NoDAD {
		return AddrOptimistic
	}
	return AddrValid
}

// RemoveAddr takes an address from the interface: TCP connections from it end with EADDRNOTAVAIL, without a word to their
// peers, and sockets that are bound to it stay, but hear nothing. The error wraps EADDRNOTAVAIL where the interface does
// not have it.
func (i *Interface) RemoveAddr(a netip.Addr) error {
	if !i.remove(a.WithZone("")) {
		return fmt.Errorf("stack: %s: address %v: %w", i.name, a, syscall.EADDRNOTAVAIL)
	}
	return nil
}

// remove withdraws an address, and reports whether it was there: what is connected from it ends, without a word to its
// peer. Where another interface has the same address, what is connected from there goes on.
func (i *Interface) remove(a netip.Addr) bool {
	s := i.stack
	s.admin.Lock()
	var gone Addr
	addrs := slices.DeleteFunc(slices.Clone(*i.addrs.Load()), func(x Addr) bool {
		if x.Prefix.Addr() != a {
			return false
		}
		gone = x
		return true
	})
	if !gone.Prefix.IsValid() {
		s.admin.Unlock()
		return false
	}
	i.addrs.Store(&addrs)
	i.acd.end(a, net.ErrClosed)
	old := s.replaceView(func(*view) {})
	still := s.view.Load().local[a] != nil
	s.admin.Unlock()
	now := s.now()
	for c := range s.each() {
		if still || c.localAddr() != a || c.flow.Zone != 0 && c.flow.Zone != i.index {
			continue
		}
		c.mu.Lock()
		c.mute = true
		c.abort(now, syscall.EADDRNOTAVAIL)
		c.mu.Unlock()
	}
	s.reroute(now, old, gone.Prefix.Masked())
	i.follow()
	return true
}

// changeAddr lets change work on an address's entry, but for its Prefix, and reports whether the address is there.
func (i *Interface) changeAddr(a netip.Addr, change func(*Addr)) bool {
	i.stack.admin.Lock()
	defer i.stack.admin.Unlock()
	addrs := slices.Clone(*i.addrs.Load())
	k := slices.IndexFunc(addrs, func(x Addr) bool { return x.Prefix.Addr() == a })
	if k < 0 {
		return false
	}
	change(&addrs[k])
	i.addrs.Store(&addrs)
	return true
}

// setState changes an address's state, where the address is still there.
func (i *Interface) setState(a netip.Addr, to AddrState) {
	i.changeAddr(a, func(x *Addr) { x.State = to })
}

// Addrs lists the interface's addresses.
func (i *Interface) Addrs() []Addr { return i.withLifetimes(slices.Clone(*i.addrs.Load())) }

// has reports whether a is an address of this interface.
func (i *Interface) has(a netip.Addr) bool {
	addrs := *i.addrs.Load()
	for k := range addrs {
		if addrs[k].Prefix.Addr() == a {
			return true
		}
	}
	return false
}
