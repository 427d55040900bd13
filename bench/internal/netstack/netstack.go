// Package netstack makes gVisor netstacks with the settings that this module compares waybill to: SACK on, as its users
// have it, and buffers no smaller than waybill's.
package netstack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// nic is the number of the one interface.
const nic = 1

// Buffer sizes in octets: the default is waybill's (tcp.DefaultBuffer); netstack grows a receive buffer up to the
// largest by itself.
const (
	minBuffer     = 4 << 10
	defaultBuffer = 1 << 20
	maxBuffer     = 8 << 20
)

// New makes a netstack with one interface over ep and the given addresses. timeWait is how long a connection stays in
// TIME-WAIT; 0 leaves netstack's default.
func New(ep stack.LinkEndpoint, timeWait time.Duration, addrs ...netip.Prefix) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	sack := tcpip.TCPSACKEnabled(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer}
	options := []tcpip.SettableTransportProtocolOption{&sack, &receive, &send}
	if timeWait > 0 {
		w := tcpip.TCPTimeWaitTimeoutOption(timeWait)
		options = append(options, &w)
	}
	for _, o := range options {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return nil, fmt.Errorf("set %T: %v", o, err)
		}
	}
	if err := s.CreateNIC(nic, ep); err != nil {
		return nil, errors.New(err.String())
	}
	for _, p := range addrs {
		a := tcpip.ProtocolAddress{Protocol: protocol(p.Addr()), AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits()}}
		if err := s.AddProtocolAddress(nic, a, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("add %v: %v", p, err)
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	return s, nil
}

func protocol(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// Listen accepts TCP connections at a port: of both families where a is the zero Addr, else at a.
func Listen(s *stack.Stack, a netip.Addr, port uint16) (net.Listener, error) {
	if !a.IsValid() { // an IPv6 socket takes both
		return gonet.ListenTCP(s, tcpip.FullAddress{NIC: nic, Port: port}, ipv6.ProtocolNumber)
	}
	return gonet.ListenTCP(s, full(netip.AddrPortFrom(a, port)), protocol(a))
}

// Dial connects to an address.
func Dial(s *stack.Stack, to netip.AddrPort) (net.Conn, error) {
	return gonet.DialTCP(s, full(to), protocol(to.Addr()))
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}
