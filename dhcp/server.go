package dhcp

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/seed87e66d9f/waybill/stack"
)

// Server leases addresses on one interface. Interface, First and Last are to be set, and nothing is changed once Serve runs. It
// takes itself for the only server of its network: it says no to clients with addresses that are not its own to give. It
// answers by broadcast whoever has no address yet, and does not serve relays.
//
// Departures from RFC 2131: it does not look whether an address that it offers answers (§2.2), which clients do themselves, and
// remembers its leases no longer than it lives, but lets clients keep what nobody else has (§4.3.2).
type Server struct {
	Interface   *stack.Interface      // with an IPv4 address, which is the server's
	First, Last netip.Addr            // what is given out, in the network of that address
	Static      map[string]netip.Addr // by hardware address, as net.HardwareAddr prints it: who always has the same one
	Lease       time.Duration         // for how long; 0: an hour
	Routers     []netip.Addr          // the best one first
	Routes      []Route               // other ways (RFC 3442)
	DNS         []netip.Addr
	Search      []string     // domains of names without a dot
	MTU         int          // 0: none is told
	Log         *slog.Logger // says who is given what; nil: nobody

	mu   sync.Mutex
	pool *pool
	own  netip.Prefix
	log  *slog.Logger
}

// Serve answers clients until the context ends, whose error it returns. It also ends with an error that wraps EINVAL where First
// and Last are not in the interface's network, EADDRINUSE where another socket has the port of DHCP servers, and
// net.ErrClosed where the stack is closed. The leases outlive it for another Serve.
func (s *Server) Serve(ctx context.Context) error {
	err := s.serve(ctx)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("dhcp: server on %s: %w", s.Interface.Name(), err)
}

func (s *Server) serve(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	sock, err := s.Interface.ListenUDP("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), serverPort))
	if err != nil {
		return err
	}
	defer sock.Close()
	defer context.AfterFunc(ctx, func() { sock.Close() })()
	b := make([]byte, room)
	for {
		n, _, err := sock.ReadFromUDPAddrPort(b)
		if err != nil {
			return err
		}
		m, err := dhcpv4.FromBytes(b[:n])
		if err != nil || m.OpCode != dhcpv4.OpcodeBootRequest || !toAddr(m.GatewayIPAddr).IsUnspecified() {
			continue
		}
		if reply, to := s.answer(time.Now(), m); reply != nil {
			if _, err := sock.WriteToUDPAddrPort(reply.ToBytes(), netip.AddrPortFrom(to, clientPort)); err != nil {
				s.log.Warn("not sent", "to", to, "err", err)
			}
		}
	}
}

// quiet is the log of who wants none.
var quiet = slog.New(slog.DiscardHandler)

// begin makes the pool.
func (s *Server) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pool != nil {
		return nil
	}
	for _, a := range s.Interface.Addrs() {
		if a.Prefix.Addr().Is4() && a.Prefix.Contains(s.First) && a.Prefix.Contains(s.Last) {
			s.own = a.Prefix
		}
	}
	if !s.own.IsValid() || s.Last.Less(s.First) {
		return fmt.Errorf("%v to %v: %w", s.First, s.Last, syscall.EINVAL)
	}
	if s.log = s.Log; s.log == nil {
		s.log = quiet
	}
	s.log = s.log.With("interface", s.Interface.Name())
	s.pool = newPool(s.First, s.Last, s.own.Addr(), s.Static)
	return nil
}

// Bindings lists who has which address, and who had.
func (s *Server) Bindings() []Binding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pool == nil {
		return nil
	}
	now, all := time.Now(), s.pool.all()
	for k := range all {
		if !now.Before(all[k].Until) {
			all[k].State = Free
		}
	}
	return slices.DeleteFunc(all, func(b Binding) bool { return b.State == Free && b.HW == "" })
}

// answer is RFC 2131 §4.3: what to send to whom; nil: nothing.
func (s *Server) answer(now time.Time, m *dhcpv4.DHCPv4) (reply *dhcpv4.DHCPv4, to netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, hw := clientKey(m), m.ClientHWAddr.String()
	current := toAddr(m.ClientIPAddr)
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		a, ok := s.pool.pick(now, key, hw, toAddr(m.RequestedIPAddress()))
		if !ok {
			s.log.Warn("no address is left", "client", hw)
			return nil, to
		}
		if h := s.pool.byKey[key]; h == nil || h.Addr != a || h.State != Leased {
			s.pool.bind(key, Binding{a, hw, m.HostName(), now.Add(offerTime), Offered})
		}
		return s.reply(m, dhcpv4.MessageTypeOffer, a), broadcast
	case dhcpv4.MessageTypeRequest:
		return s.requested(now, m, key, hw)
	case dhcpv4.MessageTypeDecline:
		if a := toAddr(m.RequestedIPAddress()); toAddr(m.ServerIdentifier()) == s.own.Addr() {
			s.log.Warn("an address is another host's", "address", a, "client", hw)
			s.pool.decline(now, key, a)
		}
	case dhcpv4.MessageTypeRelease:
		s.log.Info("released", "address", current, "client", hw)
		s.pool.release(now, key, current)
	case dhcpv4.MessageTypeInform:
		// RFC 2131 §4.3.5: "The server MUST NOT send a lease expiration time to the client and SHOULD NOT fill in 'yiaddr'."
		if s.own.Contains(current) {
			return s.reply(m, dhcpv4.MessageTypeAck, netip.Addr{}), current
		}
	}
	return nil, to
}

// requested is RFC 2131 §4.3.2. s.mu is held.
func (s *Server) requested(now time.Time, m *dhcpv4.DHCPv4, key, hw string) (*dhcpv4.DHCPv4, netip.Addr) {
	a, current, chosen := toAddr(m.RequestedIPAddress()), toAddr(m.ClientIPAddr), toAddr(m.ServerIdentifier())
	if chosen.IsValid() && chosen != s.own.Addr() { // SELECTING, another server
		s.pool.withdraw(key)
		return nil, a
	}
	to := broadcast
	if !a.IsValid() { // RENEWING or REBINDING
		a = current
		if s.own.Contains(a) {
			to = a
		}
	}
	if !a.IsValid() || !s.pool.may(now, key, hw, a) {
		s.log.Warn("refused", "address", a, "client", hw)
		return s.reply(m, dhcpv4.MessageTypeNak, netip.Addr{}), broadcast
	}
	s.log.Info("leased", "address", a, "client", hw, "name", m.HostName(), "for", s.lease())
	s.pool.bind(key, Binding{a, hw, m.HostName(), now.Add(s.lease()), Leased})
	return s.reply(m, dhcpv4.MessageTypeAck, a), to
}

// clientKey is who a client is. RFC 2131 §4.2: "If the client supplies a 'client identifier', the client MUST use the same 'client
// identifier' in all subsequent messages, and the server MUST use that identifier to identify the client."
func clientKey(m *dhcpv4.DHCPv4) string {
	if id := m.Options.Get(dhcpv4.OptionClientIdentifier); len(id) > 1 {
		return "id " + string(id)
	}
	return "hw " + string(m.ClientHWAddr)
}

func (s *Server) lease() time.Duration {
	if s.Lease > 0 {
		return s.Lease
	}
	return time.Hour
}

// reply is a message to a client that gives it an address, or none.
func (s *Server) reply(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, a netip.Addr) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootReply, HWType: m.HWType, TransactionID: m.TransactionID, Flags: m.Flags,
		ClientIPAddr: m.ClientIPAddr, YourIPAddr: toIP(a), ServerIPAddr: net.IPv4zero, GatewayIPAddr: m.GatewayIPAddr,
		ClientHWAddr: m.ClientHWAddr, Options: dhcpv4.Options{}}
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(toIP(s.own.Addr())))
	if kind == dhcpv4.MessageTypeNak { // RFC 2131 §4.3.1, table 3: nothing else
		r.ClientIPAddr = net.IPv4zero
		return r
	}
	if a.IsValid() {
		r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(s.lease()))
		r.UpdateOption(dhcpv4.OptRenewTimeValue(s.lease() / 2))
		r.UpdateOption(dhcpv4.OptRebindingTimeValue(s.lease() / 8 * 7))
	}
	s.describe(r)
	return r
}

// describe tells of the network.
func (s *Server) describe(r *dhcpv4.DHCPv4) {
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(s.own.Bits(), 32)))
	if len(s.Routers) > 0 {
		r.UpdateOption(dhcpv4.OptRouter(toIPs(s.Routers)...))
	}
	if len(s.Routes) > 0 {
		routes := s.Routes
		// RFC 3442 has clients that know this option pass over the other, so that the router has to be in both.
		if len(s.Routers) > 0 && !slices.ContainsFunc(routes, func(x Route) bool { return x.Dst == defaultRoute }) {
			routes = append(slices.Clone(routes), Route{defaultRoute, s.Routers[0]})
		}
		var list []*dhcpv4.Route
		for _, x := range routes {
			dst := x.Dst.Masked()
			list = append(list, &dhcpv4.Route{Dest: &net.IPNet{IP: toIP(dst.Addr()), Mask: net.CIDRMask(dst.Bits(), 32)}, Router: toIP(x.Via)})
		}
		r.UpdateOption(dhcpv4.OptClasslessStaticRoute(list...))
	}
	if len(s.DNS) > 0 {
		r.UpdateOption(dhcpv4.OptDNS(toIPs(s.DNS)...))
	}
	if len(s.Search) > 0 {
		r.UpdateOption(dhcpv4.OptDomainName(strings.TrimSuffix(s.Search[0], ".")))
		r.UpdateOption(dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: s.Search}))
	}
	if s.MTU > 0 {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(s.MTU))))
	}
}
