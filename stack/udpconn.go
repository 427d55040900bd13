package stack

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/tcp"
)

// defaultUDPBuffer bounds the octets of datagrams that wait to be read: Linux's net.core.rmem_default.
const defaultUDPBuffer = 212992

// UDPConn sends and receives datagrams, with the methods and the errors of net.UDPConn. ListenPacket makes it, and
// DialContext a connected one, which hears and speaks to one peer only.
type UDPConn struct {
	stack  *Stack
	net    string
	bind   binding
	peer   netip.AddrPort // of a connected socket
	zone   uint32         // of the peer
	closed atomic.Bool
	marks  marks
	multi  memberships

	mu      sync.Mutex
	queue   []received
	head    int // of queue: the first that was not read
	octets  int // in queue
	limit   int // of octets
	rd      *waiter
	readBy  time.Duration
	writeBy time.Duration
	errno   syscall.Errno // what ICMP said of a datagram that we sent, until somebody was told
	alarm   alarm
}

// received is a datagram that waits to be read.
type received struct {
	from  netip.AddrPort
	to    netip.Addr
	ifc   *Interface
	tos   uint8
	hops  uint8
	chunk *tcp.Chunk // on loan from the stack's memory; nil where there are no octets
	n     int
}

func (u *UDPConn) bound() *binding { return &u.bind }

// newUDPConn binds a socket.
func (s *Stack) newUDPConn(network string, b binding, peer netip.AddrPort) (*UDPConn, error) {
	u := &UDPConn{stack: s, net: network, bind: b, peer: peer, limit: defaultUDPBuffer}
	u.alarm = alarm{stack: s, fire: u.tick}
	u.multi.id = s.sockets.Add(1)
	if peer.IsValid() {
		u.zone = b.zone
	}
	if err := bind(s, s.ports.udp, u); err != nil {
		return nil, err
	}
	return u, nil
}

// dialUDP makes a connected socket.
func (s *Stack) dialUDP(network string, local, remote netip.AddrPort) (*UDPConn, error) {
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	src, dst, zone, _, err := s.path(local.Addr(), remote.Addr())
	var u *UDPConn
	if err == nil {
		peer := s.zoned(dst.As16(), remote.Port(), zone)
		if dst.IsMulticast() && dst.Is6() { // each link has a group of that name
			peer = netip.AddrPortFrom(dst.WithZone(remote.Addr().Zone()), remote.Port())
		}
		u, err = s.newUDPConn(network, binding{addr: src, port: local.Port(), v4: src.Is4(), v6: src.Is6(), zone: zone}, peer)
	}
	if err != nil {
		return nil, dialError(network, netAddr(network, local), netAddr(network, remote), err)
	}
	return u, nil
}

// DialUDP makes a socket that hears and speaks to remote only, from local, whose parts may be zero. The network is
// "udp", "udp4" or "udp6".
func (s *Stack) DialUDP(network string, local, remote netip.AddrPort) (*UDPConn, error) {
	f, isTCP, err := parseNetwork(network)
	if err == nil && isTCP {
		err = net.UnknownNetworkError(network)
	}
	if err == nil && !f.has(remote.Addr().Unmap()) {
		err = &net.AddrError{Err: "no suitable address", Addr: remote.String()}
	}
	if err != nil {
		return nil, dialError(network, netAddr(network, local), netAddr(network, remote), err)
	}
	return s.dialUDP(network, local, remote)
}

// rank says how well the socket fits a datagram: 3 connected, 2 bound to the address, 1 bound to all, 0 not at all.
func (u *UDPConn) rank(local netip.Addr, remote netip.AddrPort, zone uint32, group bool) int {
	if u.peer.IsValid() {
		if u.peer.Port() == remote.Port() && u.peer.Addr().WithZone("") == remote.Addr() && u.bind.takes(local, zone) {
			return 3
		}
		return 0
	}
	if !u.bind.takes(local, zone) {
		return 0
	}
	if u.bind.addr.IsValid() {
		return 2
	}
	return 1
}

// deliver queues a datagram for Read.
func (u *UDPConn) deliver(m *datagram, from netip.AddrPort, b []byte) {
	s := u.stack
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed.Load() {
		return
	}
	if u.octets+len(b) > u.limit {
		s.stats.drop(UDPFull)
		return
	}
	r := received{from: from, to: m.dst, ifc: m.ifc, tos: m.tos, hops: m.hops, n: len(b)}
	if len(b) > 0 {
		size := tcp.SmallChunk
		if len(b) > size {
			size = tcp.LargeChunk
		}
		if r.chunk = s.memory.Borrow(size); r.chunk == nil {
			s.stats.drop(UDPMemory)
			return
		}
		copy(r.chunk.Bytes, b)
	}
	if u.head > len(u.queue)/2 && len(u.queue) == cap(u.queue) { // else the slice grows as long as the queue is never empty
		n := copy(u.queue, u.queue[u.head:])
		clear(u.queue[n:])
		u.queue, u.head = u.queue[:n], 0
	}
	u.queue = append(u.queue, r)
	u.octets += len(b) + udpOverhead
	if u.bind.port != 0 { // else it is ICMP's
		s.stats.datagramsIn.Add(1)
	}
	u.rd.wake()
}

// udpOverhead is charged for each datagram that waits, so that empty ones are bounded too.
const udpOverhead = 256

// pop takes the next datagram, and copies what has room into b.
func (u *UDPConn) pop(b []byte) (n int, r received) {
	r = u.queue[u.head]
	u.queue[u.head] = received{}
	if u.head++; u.head == len(u.queue) {
		u.queue, u.head = u.queue[:0], 0
	}
	u.octets -= r.n + udpOverhead
	if r.chunk != nil {
		n = copy(b, r.chunk.Bytes[:r.n])
		u.stack.memory.Return(r.chunk)
	}
	return n, r
}

// receive waits for a datagram.
func (u *UDPConn) receive(b []byte) (n int, r received, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		now := u.stack.now()
		switch {
		case u.closed.Load():
			return 0, r, u.opError("read", net.ErrClosed)
		case u.readBy != 0 && now >= u.readBy:
			return 0, r, u.opError("read", os.ErrDeadlineExceeded)
		case u.errno != 0:
			err := u.errno
			u.errno = 0
			return 0, r, u.opError("read", err)
		case u.head < len(u.queue):
			n, r = u.pop(b)
			return n, r, nil
		}
		if u.readBy > now {
			u.alarm.set(u.readBy)
		}
		u.stack.wait(&u.rd, &u.mu)
	}
}

// tick wakes a reader or a writer whose deadline has come.
func (u *UDPConn) tick(now time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.alarm.fired() {
		return
	}
	if u.readBy > now {
		u.alarm.set(u.readBy)
	} else {
		u.rd.wake()
	}
	if u.writeBy > now {
		u.alarm.set(u.writeBy)
	} else if u.writeBy != 0 {
		u.stack.wakeFull()
	}
}

// fail notes an error about a datagram that a connected socket sent (RFC 1122 §4.1.3.3).
func (u *UDPConn) fail(errno syscall.Errno) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.errno = errno
	u.rd.wake()
}

// Read reads a datagram of the peer; what has no room in b is lost. Where b is empty nothing is read, as in package net.
func (u *UDPConn) Read(b []byte) (int, error) {
	if len(b) == 0 && !u.closed.Load() {
		return 0, nil
	}
	n, _, err := u.receive(b)
	return n, err
}

// ReadFrom reads a datagram, and tells who sent it, as a *net.UDPAddr.
func (u *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, r, err := u.receive(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(r.from), nil
}

// ReadFromUDP is ReadFrom with the address's type.
func (u *UDPConn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	n, r, err := u.receive(b)
	if err != nil {
		return 0, nil, err
	}
	return n, net.UDPAddrFromAddrPort(r.from), nil
}

// ReadFromUDPAddrPort is ReadFrom without an allocation. IPv4 addresses are not mapped into IPv6.
func (u *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, r, err := u.receive(b)
	return n, r.from, err
}

// ReadMsgUDP is ReadFromUDP; there is no out-of-band data, so oobn is 0. flags has syscall.MSG_TRUNC's value, 0x20, where
// b was too short.
func (u *UDPConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	n, oobn, flags, from, err := u.ReadMsgUDPAddrPort(b, oob)
	if err == nil {
		addr = net.UDPAddrFromAddrPort(from)
	}
	return n, oobn, flags, addr, err
}

// ReadMsgUDPAddrPort is ReadMsgUDP without an allocation.
func (u *UDPConn) ReadMsgUDPAddrPort(b, _ []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	n, r, err := u.receive(b)
	if n < r.n {
		flags = 0x20 // MSG_TRUNC, as Linux
	}
	return n, 0, flags, r.from, err
}

// LocalAddr is where the socket is bound, a *net.UDPAddr.
func (u *UDPConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(u.stack.boundAddr(&u.bind)) }

// RemoteAddr is the peer of a connected socket, a *net.UDPAddr, else nil.
func (u *UDPConn) RemoteAddr() net.Addr {
	if !u.peer.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(u.peer)
}

// Close unbinds the socket, and ends every pending call.
func (u *UDPConn) Close() error {
	if !u.closed.CompareAndSwap(false, true) {
		return u.opError("close", net.ErrClosed)
	}
	unbind(u.stack, u.stack.ports.udp, u)
	u.leaveAll()
	u.mu.Lock()
	defer u.mu.Unlock()
	for u.head < len(u.queue) {
		u.pop(nil)
	}
	u.queue = nil
	u.alarm.stop()
	u.rd.wake()
	u.stack.wakeFull()
	return nil
}

// SetDeadline sets both deadlines; the zero time takes them back.
func (u *UDPConn) SetDeadline(t time.Time) error { return u.setDeadlines(t, true, true) }

// SetReadDeadline says until when reading waits.
func (u *UDPConn) SetReadDeadline(t time.Time) error { return u.setDeadlines(t, true, false) }

// SetWriteDeadline says until when writing waits for room in the device.
func (u *UDPConn) SetWriteDeadline(t time.Time) error { return u.setDeadlines(t, false, true) }

func (u *UDPConn) setDeadlines(t time.Time, read, write bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed.Load() {
		return u.setError()
	}
	at := u.stack.at(t)
	if read {
		u.readBy = at
		u.rd.wake()
	}
	if write {
		u.writeBy = at
		u.stack.wakeFull()
	}
	return nil
}

// SetReadBuffer bounds the octets of datagrams that wait to be read; beyond, new ones are dropped and counted.
func (u *UDPConn) SetReadBuffer(bytes int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed.Load() {
		return u.setError()
	}
	u.limit = max(bytes, udpOverhead)
	return nil
}

// SetWriteBuffer does nothing: a datagram goes to the device at once.
func (u *UDPConn) SetWriteBuffer(int) error {
	if u.closed.Load() {
		return u.setError()
	}
	return nil
}

// setError is what setting something on a closed socket says; package net names no source there.
func (u *UDPConn) setError() error {
	return &net.OpError{Op: "set", Net: u.net, Addr: netAddr(u.net, u.stack.boundAddr(&u.bind)), Err: net.ErrClosed}
}

// opError wraps err as package net does.
func (u *UDPConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: u.net, Source: netAddr(u.net, u.stack.boundAddr(&u.bind)), Addr: netAddr(u.net, u.peer), Err: sysError(op, err)}
}
