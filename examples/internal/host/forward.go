package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/splice"
)

// A forwarder carries what comes to ports of this machine into the network in memory.
type forwarder struct {
	ports []*forwarded
	busy  sync.WaitGroup // what is being forwarded
}

// stop stops to take what is new. What is under way goes on.
func (f *forwarder) stop() {
	for _, p := range f.ports {
		p.Close()
	}
}

// wait waits until all that was forwarded has ended, but not longer than ctx.
func (f *forwarder) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { f.busy.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// forwarded is a port of this machine.
type forwarded struct {
	network string // "tcp" or "udp"
	port    uint16 // of ours that it is forwarded to
	first   bool   // of several
	try     func(at netip.AddrPort) string
	addr    net.Addr
	stream  net.Listener   // with "tcp"
	packets net.PacketConn // with "udp"
}

func (f *forwarded) listen(address string) (err error) {
	if f.network == "udp" {
		if f.packets, err = net.ListenPacket("udp", address); err == nil {
			f.addr = f.packets.LocalAddr()
		}
		return err
	}
	if f.stream, err = net.Listen("tcp", address); err == nil {
		f.addr = f.stream.Addr()
	}
	return err
}

// shown is the address, as one to connect to.
func (f *forwarded) shown() netip.AddrPort {
	a := netip.MustParseAddrPort(f.addr.String())
	if a.Addr().IsUnspecified() { // of both families, if it is IPv6's
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Close stops to take what is new. Closing again does nothing.
func (f *forwarded) Close() error {
	if f.packets != nil {
		return f.packets.Close()
	}
	return f.stream.Close()
}

// run forwards until the port is closed, and returns once all that was under way has ended.
func (f *forwarded) run(dial func() (net.Conn, error)) {
	if f.packets != nil {
		forwardPackets(f.packets, dial)
	} else {
		forwardStreams(f.stream, dial)
	}
}

// forwardStreams carries each connection that l accepts to one that dial makes. Nothing cuts short an answer that is on
// its way.
func forwardStreams(l net.Listener, dial func() (net.Conn, error)) {
	var carried sync.WaitGroup
	defer carried.Wait()
	for {
		in, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files: others may close some
			time.Sleep(10 * time.Millisecond)
			continue
		}
		carried.Go(func() {
			out, err := dial()
			if err != nil {
				in.Close()
				return
			}
			splice.Splice(context.Background(), in, out, splice.Config{HalfClosed: time.Minute})
		})
	}
}

// udpIdle is how long one who sent a datagram may wait for the next answer: what RFC 4787 §4.3 asks of a NAT at least.
const udpIdle = 2 * time.Minute

// maxPeers is how many may wait for answers at once; who comes then is not heard. A socket takes a kilobyte or two.
const maxPeers = 1024

// forwardPackets carries each datagram that arrives at p to a socket of its sender's that dial makes, and the answers back.
func forwardPackets(p net.PacketConn, dial func() (net.Conn, error)) {
	var mu sync.Mutex
	var answering sync.WaitGroup
	peers := map[string]net.Conn{}
	defer answering.Wait()
	defer func() { // who still waits is not answered any more: there is nowhere to send from
		mu.Lock()
		defer mu.Unlock()
		for _, c := range peers {
			c.Close()
		}
	}()
	buffer := make([]byte, 1<<16) // longer than any datagram
	for {
		n, from, err := p.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as an ICMP error about an answer
			continue
		}
		mu.Lock()
		c, known := peers[from.String()]
		if !known && len(peers) < maxPeers {
			if c, err = dial(); err == nil {
				peers[from.String()] = c
				answering.Go(func() {
					answer(p, from, c)
					mu.Lock()
					delete(peers, from.String())
					mu.Unlock()
					c.Close()
				})
			}
		}
		mu.Unlock()
		if c != nil && err == nil {
			c.SetReadDeadline(time.Now().Add(udpIdle))
			c.Write(buffer[:n])
		}
	}
}

// answer carries what c receives to one peer, until it is silent for too long.
func answer(p net.PacketConn, to net.Addr, c net.Conn) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		p.WriteTo(buffer[:n], to)
	}
}
