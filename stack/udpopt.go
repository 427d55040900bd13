package stack

import (
	"net/netip"
	"sync/atomic"
	"syscall"

	"github.com/seed87e66d9f/waybill/tcp"
	"github.com/seed87e66d9f/waybill/udp"
)

// marks are what a socket's user has chosen for the IP headers of what leaves: 0 where nothing was, and else the value and
// a bit above it.
type marks struct {
	limit, class, flow atomic.Uint32
	whole              atomic.Bool
}

// chosen is the bit that tells a value of 0 from none.
const chosen = 1 << 31

func (m *marks) hops() uint8 { return uint8(m.limit.Load()) }
func (m *marks) tos() uint8  { return uint8(m.class.Load()) }

// label is the flow label of a datagram. RFC 6437 §3: "It is therefore RECOMMENDED that source hosts support the flow label
// by setting the flow label field for all packets of a given flow to the same value chosen from an approximation to a
// discrete uniform distribution."
func (m *marks) label(s *Stack, to *meta, h *udp.Header) uint32 {
	if v := m.flow.Load(); v != 0 {
		return v & maxFlowLabel
	}
	return uint32(s.hash(&tcp.Flow{Local: to.src.As16(), Remote: to.dst.As16(), LocalPort: h.Src, RemotePort: h.Dst}))&maxFlowLabel | 1
}

// maxFlowLabel: RFC 8200 §3, the field has 20 bits.
const maxFlowLabel = 1<<20 - 1

// mark sets one of the socket's marks.
func (u *UDPConn) mark(to *atomic.Uint32, v uint32) error {
	if u.closed.Load() {
		return u.setError()
	}
	to.Store(v)
	return nil
}

// SetHopLimit sets the TTL or hop limit of what is sent to one host; 0 is the stack's again.
func (u *UDPConn) SetHopLimit(hops uint8) error { return u.mark(&u.marks.limit, uint32(hops)) }

// SetTTL is SetHopLimit, by the name and with the type of golang.org/x/net/ipv4; the error is EINVAL where ttl has no room
// in the field.
func (u *UDPConn) SetTTL(ttl int) error {
	if ttl < 0 || ttl > 255 {
		return u.opError("set", syscall.EINVAL)
	}
	return u.SetHopLimit(uint8(ttl))
}

// SetTOS sets the TOS octet, or the traffic class, of what is sent: six bits of DSCP (RFC 2474 §3), and two of ECN, which
// are the user's over UDP (RFC 8085 §3.1.7).
func (u *UDPConn) SetTOS(tos uint8) error { return u.mark(&u.marks.class, uint32(tos)) }

// SetTrafficClass is SetTOS, by the name and with the type of golang.org/x/net/ipv6.
func (u *UDPConn) SetTrafficClass(tc int) error {
	if tc < 0 || tc > 255 {
		return u.opError("set", syscall.EINVAL)
	}
	return u.SetTOS(uint8(tc))
}

// SetFlowLabel sets the flow label of what is sent over IPv6, of which 20 bits count. Without it each peer's port has one of
// its own.
func (u *UDPConn) SetFlowLabel(label uint32) error {
	return u.mark(&u.marks.flow, label&maxFlowLabel|chosen)
}

// SetDontFragment says that what is too long for the path is not to be cut: Write returns EMSGSIZE, and PathMTU tells what
// would have room. It is Linux's IP_PMTUDISC_DO, for those who find out by themselves how long a datagram may be (RFC 8899).
func (u *UDPConn) SetDontFragment(on bool) error {
	if u.closed.Load() {
		return u.setError()
	}
	u.marks.whole.Store(on)
	return nil
}

// sized reports whether a datagram of n octets fits the path in one piece; else it is to be cut, or the error says that it
// must not be.
func (u *UDPConn) sized(m *meta, h *hop, hdr *udp.Header, n int) (bool, error) {
	s, length := u.stack, ipHeader(m.dst)+udp.HeaderLen+n
	whole := u.marks.whole.Load()
	if !whole {
		s.yield(m, h)
	}
	if length <= minPath(m.dst) && length <= h.ifc.mtu(m.dst) {
		return true, nil
	}
	if !u.peer.IsValid() {
		s.paths.note(s, netip.AddrPortFrom(m.src, hdr.Src), netip.AddrPortFrom(m.dst, hdr.Dst))
	}
	if length <= s.mtu(h, m.dst) {
		return true, nil
	}
	if whole {
		return false, syscall.EMSGSIZE
	}
	return false, nil
}

// PacketInfo is what the headers of a datagram say, apart from what is in it.
type PacketInfo struct {
	From      netip.AddrPort // who sent it; the port is 0 of a socket that has none
	To        netip.Addr     // where it went: an address of ours, or a group
	Interface *Interface     // where it arrived
	TOS       uint8          // TOS or traffic class, with ECN in the two lowest bits
	HopLimit  uint8          // TTL or hop limit, as it was on arrival
	Len       int            // octets; where that is more than was asked for, the rest is lost
}

// ReadPacket reads a datagram, with what its headers say. WriteFrom answers from where it went.
func (u *UDPConn) ReadPacket(b []byte) (n int, p PacketInfo, err error) {
	n, r, err := u.receive(b)
	if err != nil {
		return 0, p, err
	}
	return n, PacketInfo{r.from, r.to, r.ifc, r.tos, r.hops, r.n}, nil
}
