package bench

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	gvisor "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/seed87e66d9f/waybill/bench/internal/netstack"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

var (
	clientAddr = netip.MustParsePrefix("198.51.100.1/24")
	serverAddr = netip.MustParsePrefix("198.51.100.2/24")
)

// timeWait is how long connections stay in TIME-WAIT here: benchmarks that open many would run out of ports.
const timeWait = 2 * time.Millisecond

// wireQueue is how many packets are under way in either direction before one is refused.
const wireQueue = 4096

// host is one end of a wire: a stack of either kind.
type host interface {
	listen(port uint16) (net.Listener, error)
	dial(to netip.AddrPort) (net.Conn, error)
	counted() int // TCP segments that arrived
}

// kinds are the stacks that are compared.
var kinds = []string{"waybill", "netstack"}

// newPair connects two stacks of a kind by a wire.
func newPair(b *testing.B, kind string, mtu, gso int) (client, server host) {
	b.Helper()
	if kind == "netstack" {
		return netstackPair(b, mtu)
	}
	x, y := link.Pipe(link.PipeConfig{MTU: mtu, GSO: gso, Queue: wireQueue})
	return newWaybill(b, x, clientAddr), newWaybill(b, y, serverAddr)
}

type waybill struct{ *stack.Stack }

func newWaybill(b *testing.B, d link.Device, addr netip.Prefix) waybill {
	b.Helper()
	s := stack.New(stack.Config{Memory: 8 << 30, TCP: tcp.Config{MSL: timeWait / 2}})
	if _, err := s.Attach(d, addr); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return waybill{s}
}

func (w waybill) listen(port uint16) (net.Listener, error) {
	return w.ListenTCP("tcp", netip.AddrPortFrom(serverAddr.Addr(), port))
}

func (w waybill) dial(to netip.AddrPort) (net.Conn, error) {
	return w.DialTCP(context.Background(), "tcp", netip.AddrPort{}, to)
}

func (w waybill) counted() int { return int(w.Stats().SegmentsIn) }

type gvisorHost struct{ *gvisor.Stack }

// netstackPair wires two netstacks back to back. What arrives is vouched for, so that none is summed twice.
func netstackPair(b *testing.B, mtu int) (client, server host) {
	b.Helper()
	x, y := channel.New(wireQueue, uint32(mtu), ""), channel.New(wireQueue, uint32(mtu), "")
	ctx, stop := context.WithCancel(context.Background())
	hosts := [2]host{}
	for i, ep := range []*channel.Endpoint{x, y} {
		s, err := netstack.New(ep, timeWait, []netip.Prefix{clientAddr, serverAddr}[i])
		if err != nil {
			b.Fatal(err)
		}
		hosts[i] = gvisorHost{s}
		b.Cleanup(s.Destroy)
	}
	b.Cleanup(stop)
	go carry(ctx, x, y)
	go carry(ctx, y, x)
	return hosts[0], hosts[1]
}

// carry takes packets from one endpoint to the other.
func carry(ctx context.Context, from, to *channel.Endpoint) {
	for p := from.ReadContext(ctx); p != nil; p = from.ReadContext(ctx) {
		in := gvisor.NewPacketBuffer(gvisor.PacketBufferOptions{Payload: buffer.MakeWithView(p.ToView())})
		in.RXChecksumValidated = true
		to.InjectInbound(header.IPv4ProtocolNumber, in)
		in.DecRef()
		p.DecRef()
	}
}

func (g gvisorHost) listen(port uint16) (net.Listener, error) {
	return netstack.Listen(g.Stack, serverAddr.Addr(), port)
}

func (g gvisorHost) dial(to netip.AddrPort) (net.Conn, error) { return netstack.Dial(g.Stack, to) }

func (g gvisorHost) counted() int { return int(g.Stats().TCP.ValidSegmentsReceived.Value()) }

// connsPerPort is how many connections go to one port: fewer than there are ports to connect from.
const connsPerPort = 10_000

// dialer returns what makes one connection after another from client to server.
func dialer(b *testing.B, client, server host) (dial func() (c, s net.Conn)) {
	b.Helper()
	var l net.Listener
	port, left := uint16(10_000), 0
	b.Cleanup(func() {
		if l != nil {
			l.Close()
		}
	})
	return func() (c, s net.Conn) {
		b.Helper()
		var err error
		if left == 0 {
			if l != nil {
				l.Close()
			}
			port++
			left = connsPerPort
			if l, err = server.listen(port); err != nil {
				b.Fatal(err)
			}
		}
		left--
		if c, err = client.dial(netip.AddrPortFrom(serverAddr.Addr(), port)); err != nil {
			b.Fatal(err)
		}
		if s, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
		return c, s
	}
}
