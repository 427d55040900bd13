package dhcp

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/seed87e66d9f/waybill/stack"
)

// hold keeps a lease in force for as long as servers agree (RFC 2131 §4.4.5). A nil error says that it is over, and that another
// may be asked for.
func (s *session) hold(ctx context.Context, l *Lease) error {
	s.apply(l)
	for {
		next, err := s.extend(ctx, l)
		switch {
		case errors.Is(err, syscall.EADDRINUSE): // RFC 5227 §2.4: another insists on it
			s.unset()
			return s.decline(ctx, l)
		case err != nil:
			s.release(l)
			return err
		case next == l:
			continue
		case next == nil || next.Addr != l.Addr:
			s.log.Warn("the lease is over", "address", l.Addr)
			s.unset()
			return nil
		}
		l = next
		s.apply(l)
	}
}

// extend waits for T1, and asks for more time until there is some. Nil: there is none, and l: it is not time yet.
func (s *session) extend(ctx context.Context, l *Lease) (*Lease, error) {
	switch _, err := s.await(ctx, nil, l.Renew, nil); {
	case err == errReturned:
		if next, refused, err := s.reconfirm(ctx, l); next != nil || refused || err != nil {
			return next, err
		}
		if time.Now().Before(l.Renew) {
			return l, nil
		}
	case err != nil:
		return nil, err
	}
	m := s.message(dhcpv4.MessageTypeRequest)
	m.SetUnicast()
	m.ClientIPAddr = toIP(l.Addr.Addr())
	for {
		now := time.Now()
		to, until := l.Server, l.Rebind // RENEWING: from who granted it
		switch {
		case !now.Before(l.Expires):
			return nil, nil
		case !now.Before(l.Rebind): // REBINDING: from anybody
			to, until = broadcast, l.Expires
		}
		s.send(m, to)
		// RFC 2131 §4.4.5: "the client SHOULD wait one-half of the remaining time until T2 (in RENEWING state) and one-half of
		// the remaining lease time (in REBINDING state), down to a minimum of 60 seconds, before retransmitting".
		if again := now.Add(max(until.Sub(now)/2, time.Minute)); again.Before(until) {
			until = again
		}
		reply, err := s.await(ctx, m, until, s.verdict(m))
		if err != nil && err != errReturned {
			return nil, err
		}
		if reply != nil {
			return s.granted(reply, now), nil
		}
	}
}

// reconfirm asks whether the lease is still good, since the link was gone and this may be another network (RFC 2131 §3.7).
// Where nobody answers, the client goes on with what it has (§3.2, step 4).
func (s *session) reconfirm(ctx context.Context, l *Lease) (next *Lease, refused bool, err error) {
	m := s.message(dhcpv4.MessageTypeRequest)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(toIP(l.Addr.Addr())))
	return s.confirm(ctx, m, 2)
}

// release gives the address back (RFC 2131 §4.4.6), and takes away what came with it.
func (s *session) release(l *Lease) {
	if s.claim.Err() == nil {
		m := s.message(dhcpv4.MessageTypeRelease)
		m.ClientIPAddr = toIP(l.Addr.Addr())
		m.UpdateOption(dhcpv4.OptServerIdentifier(toIP(l.Server)))
		s.send(m, l.Server)
	}
	s.unset()
}

// apply makes the interface be as the lease says.
func (s *session) apply(l *Lease) {
	s.log.Info("leased", "address", l.Addr, "server", l.Server, "routes", l.Routes, "dns", l.DNS, "mtu", l.MTU, "until", l.Expires)
	if s.local != nil { // RFC 3927 §1.9: not both, once there is a routable address
		s.local.Release()
		s.local = nil
	}
	s.last = l.Addr.Addr()
	if err := s.Interface.SetMTU(l.MTU); err != nil {
		s.log.Warn("MTU", "err", err)
	}
	var want []stack.Route
	for _, r := range l.Routes {
		want = append(want, stack.Route{Dst: r.Dst, Via: r.Via, Interface: s.Interface, Metric: s.Metric, Source: l.Addr.Addr()})
	}
	s.route(want)
	var servers []netip.AddrPort
	for _, a := range l.DNS {
		servers = append(servers, netip.AddrPortFrom(a, 53)) // RFC 1035 §4.2
	}
	s.Interface.SetNameServers(servers, l.Search)
	if s.Changed != nil {
		s.Changed(l)
	}
}

// route makes the routes of the lease be those.
func (s *session) route(want []stack.Route) {
	for _, r := range s.set {
		if !slices.Contains(want, r) {
			if err := s.Stack.DeleteRoute(r); err != nil {
				s.log.Debug("route", "err", err)
			}
		}
	}
	var set []stack.Route
	for _, r := range want {
		if !slices.Contains(s.set, r) {
			if err := s.Stack.AddRouteWith(r); err != nil {
				s.log.Warn("route", "err", err)
				continue
			}
		}
		set = append(set, r)
	}
	s.set = set
}

// unset takes away all that a lease has set.
func (s *session) unset() {
	if s.claim == nil {
		return
	}
	s.route(nil)
	s.Interface.SetNameServers(nil, nil)
	s.Interface.SetMTU(0)
	s.claim.Release()
	s.claim = nil
	if s.Changed != nil {
		s.Changed(nil)
	}
}
