package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/seed87e66d9f/waybill/stack"
)

// Client configures one interface by DHCP. Stack and Interface are to be set, and nothing is changed once Run runs.
type Client struct {
	Stack     *stack.Stack
	Interface *stack.Interface // on an Ethernet link
	Hostname  string           // which the server may tell others; empty: none is sent
	ID        []byte           // the client identifier (RFC 2132 §9.14); nil: 1 and the hardware address
	Last      netip.Addr       // the address that the host had last, which is asked for again first; invalid: any will do
	Metric    uint32           // of the routes
	// LinkLocal gives the interface an address of 169.254/16 (RFC 3927) as long as no server answers.
	LinkLocal bool
	// Changed is called with each lease when it is in force and each time that it is extended, and with nil when it is over.
	Changed func(*Lease)
	Log     *slog.Logger // says what becomes of the interface; nil: nobody
}

// Run configures the interface, and follows what servers say until the context ends; then it gives the address back, and
// takes away what it had set. The error is the context's, or says why the interface can have no configuration: it wraps
// EOPNOTSUPP where its link is not Ethernet, EADDRINUSE where another socket has the port of DHCP clients, and
// net.ErrClosed where the stack was closed.
func (c *Client) Run(ctx context.Context) error {
	if err := c.run(ctx); err != nil {
		return fmt.Errorf("dhcp: %s: %w", c.Interface.Name(), err)
	}
	return nil
}

func (c *Client) run(ctx context.Context) error {
	s, err := c.open()
	if err != nil {
		return err
	}
	defer s.close()
	for {
		l, err := s.acquire(ctx)
		if err != nil {
			return err
		}
		if err := s.hold(ctx, l); err != nil {
			return err
		}
	}
}

// session is a Run.
type session struct {
	*Client
	hw    net.HardwareAddr
	sock  *stack.UDPConn
	in    chan *dhcpv4.DHCPv4
	log   *slog.Logger
	claim *stack.Claim  // to the leased address
	local *stack.Claim  // to a link-local one
	set   []stack.Route // of the lease
	last  netip.Addr    // to ask for first
	back  <-chan struct{}
}

func (c *Client) open() (*session, error) {
	s := &session{Client: c, hw: c.Interface.HardwareAddr(), in: make(chan *dhcpv4.DHCPv4, 16), log: c.Log, last: c.Last}
	if s.hw == nil {
		return nil, syscall.EOPNOTSUPP
	}
	if s.log == nil {
		s.log = quiet
	}
	s.log = s.log.With("interface", c.Interface.Name())
	var err error
	if s.sock, err = c.Interface.ListenUDP("udp4", netip.AddrPortFrom(netip.IPv4Unspecified(), clientPort)); err != nil {
		return nil, err
	}
	s.back = c.Interface.LinkReturned()
	go s.read()
	return s, nil
}

func (s *session) close() {
	s.unset()
	if s.local != nil {
		s.local.Release()
	}
	s.sock.Close()
}

// acquire finds an address, and makes sure that nobody has it: INIT to BOUND (RFC 2131 §4.4).
func (s *session) acquire(ctx context.Context) (*Lease, error) {
	for {
		l, err := s.ask(ctx)
		if err != nil {
			return nil, err
		}
		s.claim, err = s.Interface.Claim(ctx, l.Addr)
		switch {
		case err == nil:
			return l, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, err
		}
		if err := s.decline(ctx, l); err != nil {
			return nil, err
		}
	}
}

// decline tells the server that the address is another's, and waits. RFC 2131 §3.1: "The client SHOULD wait a minimum of ten
// seconds before restarting the configuration process to avoid excessive network traffic in case of looping."
func (s *session) decline(ctx context.Context, l *Lease) error {
	s.log.Warn("the leased address is another host's", "address", l.Addr, "server", l.Server)
	s.last = netip.Addr{}
	m := s.message(dhcpv4.MessageTypeDecline)
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(toIP(l.Addr.Addr())))
	m.UpdateOption(dhcpv4.OptServerIdentifier(toIP(l.Server)))
	s.send(m, broadcast)
	return s.pause(ctx, 10*time.Second)
}

// ask gets a lease from a server: first, if there is one, for the address of last time (INIT-REBOOT), then for any.
func (s *session) ask(ctx context.Context) (*Lease, error) {
	start := time.Now()
	if s.last.IsValid() {
		m := s.message(dhcpv4.MessageTypeRequest)
		m.UpdateOption(dhcpv4.OptRequestedIPAddress(toIP(s.last)))
		if l, err := s.request(ctx, m, 2); l != nil || err != nil {
			return l, err
		}
		s.last = netip.Addr{}
	}
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		m := s.message(dhcpv4.MessageTypeDiscover)
		m.NumSeconds = uint16(min(time.Since(start)/time.Second, 1<<16-1))
		sent := time.Now()
		s.send(m, broadcast)
		offer, err := s.await(ctx, m, sent.Add(jitter(wait)), func(m *dhcpv4.DHCPv4) bool {
			_, err := readLease(m, sent)
			return m.MessageType() == dhcpv4.MessageTypeOffer && err == nil
		})
		if err == errReturned {
			wait = firstWait / 2
			continue
		}
		if err != nil {
			return nil, err
		}
		if offer != nil {
			m.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeRequest))
			m.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
			m.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
			l, err := s.request(ctx, m, 3)
			if l != nil || err != nil {
				return l, err
			}
			if err := s.pause(ctx, time.Second); err != nil { // whoever refuses what it has just offered is not asked in a loop
				return nil, err
			}
			wait = firstWait / 2
		} else if s.LinkLocal && s.local == nil && wait > 2*firstWait { // three have gone by
			if err := s.fallBack(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// fallBack takes a link-local address.
func (s *session) fallBack(ctx context.Context) (err error) {
	s.log.Info("no DHCP server answers, a link-local address is used")
	s.local, err = s.Interface.ClaimLinkLocal(ctx)
	return err
}

// request sends a request up to so many times, by broadcast, and returns the lease that it brought; nil: a refusal, or none.
func (s *session) request(ctx context.Context, m *dhcpv4.DHCPv4, times int) (*Lease, error) {
	l, _, err := s.confirm(ctx, m, times)
	return l, err
}

// confirm is request that also tells whether it was refused.
func (s *session) confirm(ctx context.Context, m *dhcpv4.DHCPv4, times int) (l *Lease, refused bool, err error) {
	for wait := firstWait; times > 0; times, wait = times-1, 2*wait {
		sent := time.Now()
		s.send(m, broadcast)
		reply, err := s.await(ctx, m, sent.Add(jitter(wait)), s.verdict(m))
		if err != nil && err != errReturned {
			return nil, false, err
		}
		if reply != nil {
			l := s.granted(reply, sent)
			return l, l == nil, nil
		}
	}
	return nil, false, nil
}

// verdict reports whether a message answers a request.
func (s *session) verdict(request *dhcpv4.DHCPv4) func(*dhcpv4.DHCPv4) bool {
	chosen := toAddr(request.ServerIdentifier())
	return func(m *dhcpv4.DHCPv4) bool {
		if server := toAddr(m.ServerIdentifier()); chosen.IsValid() && server != chosen {
			return false
		}
		_, err := readLease(m, time.Time{})
		return m.MessageType() == dhcpv4.MessageTypeNak || m.MessageType() == dhcpv4.MessageTypeAck && err == nil
	}
}

// granted is the lease of an acknowledgement, and nil of a refusal.
func (s *session) granted(m *dhcpv4.DHCPv4, sent time.Time) *Lease {
	if m.MessageType() == dhcpv4.MessageTypeNak {
		s.log.Warn("the DHCP server refuses", "server", toAddr(m.ServerIdentifier()), "message", m.Message())
		s.last = netip.Addr{}
		return nil
	}
	l, _ := readLease(m, sent)
	return l
}

// RFC 2131 §4.1: "the delay before the first retransmission SHOULD be 4 seconds randomized by the value of a uniform random
// number chosen from the range -1 to +1"; then twice as long each time, "up to a maximum of 64 seconds".
const (
	firstWait   = 4 * time.Second
	longestWait = 64 * time.Second
)

func jitter(d time.Duration) time.Duration {
	return d - time.Second + rand.N(2*time.Second)
}
