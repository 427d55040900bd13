package stack

import (
	"net"
	"net/netip"
	"syscall"
	"time"
)

// Write sends a message to the peer of a connected socket.
func (c *IPConn) Write(b []byte) (int, error) {
	if !c.u.peer.IsValid() {
		return 0, c.u.opError("write", syscall.EDESTADDRREQ)
	}
	return c.write(b, c.u.peer.Addr())
}

// WriteTo sends a message to addr, a *net.IPAddr.
func (c *IPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.IPAddr)
	if !ok || a == nil {
		return 0, &net.OpError{Op: "write", Net: c.u.net, Source: c.LocalAddr(), Addr: addr, Err: syscall.EINVAL}
	}
	ip, _ := netip.AddrFromSlice(a.IP)
	return c.WriteToAddr(b, ip.Unmap().WithZone(a.Zone))
}

// WriteToAddr sends a message to addr.
func (c *IPConn) WriteToAddr(b []byte, addr netip.Addr) (int, error) {
	if c.u.peer.IsValid() {
		return 0, &net.OpError{Op: "write", Net: c.u.net, Source: c.LocalAddr(), Addr: ipAddr(addr), Err: net.ErrWriteToConnected}
	}
	return c.write(b, addr)
}

// Read reads a message; what has no room in b is lost.
func (c *IPConn) Read(b []byte) (int, error) { return c.u.Read(b) }

// ReadFrom reads a message, and tells who sent it, as a *net.IPAddr.
func (c *IPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, r, err := c.u.receive(b)
	if err != nil {
		return 0, nil, err
	}
	return n, ipAddr(r.from.Addr()), nil
}

// ReadPacket reads a message, with what the headers around it say.
func (c *IPConn) ReadPacket(b []byte) (int, PacketInfo, error) { return c.u.ReadPacket(b) }

// LocalAddr is where the socket is bound, a *net.IPAddr.
func (c *IPConn) LocalAddr() net.Addr { return ipAddr(c.u.stack.boundAddr(&c.u.bind).Addr()) }

// RemoteAddr is the peer of a connected socket, a *net.IPAddr, else nil.
func (c *IPConn) RemoteAddr() net.Addr { return netAddr(c.u.net, c.u.peer) }

// SetDeadline sets both deadlines; the zero time takes them back.
func (c *IPConn) SetDeadline(t time.Time) error { return c.u.SetDeadline(t) }

// SetReadDeadline says until when reading waits.
func (c *IPConn) SetReadDeadline(t time.Time) error { return c.u.SetReadDeadline(t) }

// SetWriteDeadline says until when writing waits for room in the device.
func (c *IPConn) SetWriteDeadline(t time.Time) error { return c.u.SetWriteDeadline(t) }

// SetReadBuffer bounds the octets of messages that wait to be read; beyond, new ones are dropped and counted.
func (c *IPConn) SetReadBuffer(bytes int) error { return c.u.SetReadBuffer(bytes) }

// SetWriteBuffer does nothing: a message goes to the device at once.
func (c *IPConn) SetWriteBuffer(bytes int) error { return c.u.SetWriteBuffer(bytes) }

// SetHopLimit is UDPConn's.
func (c *IPConn) SetHopLimit(hops uint8) error { return c.u.SetHopLimit(hops) }

// SetTTL is UDPConn's.
func (c *IPConn) SetTTL(ttl int) error { return c.u.SetTTL(ttl) }

// SetTOS is UDPConn's.
func (c *IPConn) SetTOS(tos uint8) error { return c.u.SetTOS(tos) }

// SetTrafficClass is UDPConn's.
func (c *IPConn) SetTrafficClass(tc int) error { return c.u.SetTrafficClass(tc) }

// SetFlowLabel is UDPConn's.
func (c *IPConn) SetFlowLabel(label uint32) error { return c.u.SetFlowLabel(label) }

// SetDontFragment is UDPConn's.
func (c *IPConn) SetDontFragment(on bool) error { return c.u.SetDontFragment(on) }
