package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// room is more than the longest message that is read: what an Ethernet frame carries, and more than RFC 2131 §2 has a server
// send to who does not ask for more.
const room = 2048

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// wanted are the options that a server is asked for. RFC 3442 has 121 stand before the router.
var wanted = dhcpv4.OptParameterRequestList(dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter,
	dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionInterfaceMTU,
	dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionServerIdentifier)

// message begins a message to a server, with a transaction number of its own.
func (s *session) message(kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{OpCode: dhcpv4.OpcodeBootRequest, HWType: ethernetType, ClientHWAddr: s.hw, Options: dhcpv4.Options{},
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero}
	binary.NativeEndian.PutUint32(m.TransactionID[:], rand.Uint32())
	m.UpdateOption(dhcpv4.OptMessageType(kind))
	id := s.ID
	if id == nil {
		id = append([]byte{ethernetType}, s.hw...)
	}
	m.UpdateOption(dhcpv4.OptClientIdentifier(id))
	if kind == dhcpv4.MessageTypeDecline || kind == dhcpv4.MessageTypeRelease {
		return m // RFC 2131 §4.4.1, table 5: these ask for nothing
	}
	// RFC 2131 §4.1: "A client that cannot receive unicast IP datagrams until its protocol software has been configured with an IP
	// address SHOULD set the BROADCAST bit in the 'flags' field to 1".
	m.SetBroadcast()
	m.UpdateOption(wanted)
	m.UpdateOption(dhcpv4.OptMaxMessageSize(room))
	if s.Hostname != "" {
		m.UpdateOption(dhcpv4.OptHostName(s.Hostname))
	}
	return m
}

// ethernetType is Ethernet's hardware type (RFC 1700, "Address Resolution Protocol Parameters").
const ethernetType = 1

// send sends a message to a server. What cannot be sent is as good as lost on the way.
func (s *session) send(m *dhcpv4.DHCPv4, to netip.Addr) {
	if _, err := s.sock.WriteToUDPAddrPort(m.ToBytes(), netip.AddrPortFrom(to, serverPort)); err != nil {
		s.log.Debug("not sent", "message", m.MessageType().String(), "to", to, "err", err)
	}
}

// read hands on what servers send to this host, until the socket is closed.
func (s *session) read() {
	defer close(s.in)
	b := make([]byte, room)
	for {
		n, from, err := s.sock.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		m, err := dhcpv4.FromBytes(b[:n])
		if err != nil || from.Port() != serverPort || m.OpCode != dhcpv4.OpcodeBootReply || !slices.Equal(m.ClientHWAddr, s.hw) {
			continue
		}
		select {
		case s.in <- m:
		default: // a flood: one that is wanted will be asked for again
		}
	}
}

// errReturned says that the link is back after it was gone.
var errReturned = errors.New("the link is back")

// await waits for an answer to a message that fits, until an instant; nil: there was none. The error is the context's,
// net.ErrClosed, that of the address where it is lost, or errReturned.
func (s *session) await(ctx context.Context, asked *dhcpv4.DHCPv4, until time.Time, fits func(*dhcpv4.DHCPv4) bool) (*dhcpv4.DHCPv4, error) {
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	for {
		select {
		case m, ok := <-s.in:
			if !ok {
				return nil, net.ErrClosed
			}
			if asked != nil && m.TransactionID == asked.TransactionID && fits(m) {
				return m, nil
			}
		case <-s.lost():
			return nil, s.claim.Err()
		case <-s.back:
			s.back = s.Interface.LinkReturned()
			return nil, errReturned
		case <-t.C:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lost is closed when the leased address is gone.
func (s *session) lost() <-chan struct{} {
	if s.claim == nil {
		return nil
	}
	return s.claim.Lost()
}

// pause waits.
func (s *session) pause(ctx context.Context, d time.Duration) error {
	for until := time.Now().Add(d); ; {
		if _, err := s.await(ctx, nil, until, nil); err != errReturned {
			return err
		}
	}
}
