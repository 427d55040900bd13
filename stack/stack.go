package stack

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/internal/bell"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// Config is what a Stack is made with. The zero Config works.
type Config struct {
	// DNS names the servers that host names are asked of; nil: those that interfaces learn of (see Stack.NameServers).
	// Without one, a name that is no address is a *net.DNSError.
	DNS []netip.AddrPort
	// Memory bounds the octets that all sockets together may hold, and fragments of packets, which get at most a quarter
	// of it, and 4 MiB; 0 means 1 GiB.
	Memory int64
	// ReadBuffer and WriteBuffer bound the octets that wait in either direction of a TCP connection;
	// 0 means tcp.DefaultBuffer. A Config.TCP that sets its own prevails.
	ReadBuffer, WriteBuffer int
	// TCP is what connections are made with. MTU, MaxText, DefaultMSS and Memory are filled in by the stack.
	TCP tcp.Config
	// Backlog is how many half-open and how many unaccepted connections a listener holds; 0 means 4096, as Linux.
	Backlog int
	// HopLimit is the TTL or hop limit of packets; 0 means 64 (RFC 1700).
	HopLimit uint8
	// NoDAD turns duplicate address detection off (RFC 4862 §5.4, DupAddrDetectTransmits 0).
	NoDAD bool
	// Forwarding makes a router of the stack: see SetForwarding.
	Forwarding Forwarding
	// Firewall is what the firewall is made with that SetFirewall brings; Seed, Address and Taken are filled in.
	Firewall firewall.Config
	// Rand fills b with random octets, for sequence numbers, ports and keys; nil means crypto/rand.
	Rand func(b []byte) error
	// Trace is called with what happens, under the lock of the connection that it happens to: it returns at once and
	// never calls the stack. Nil costs nothing.
	Trace func(*TraceEvent)
	// TracePacket is called with each step of each packet, on the same terms as Trace, and perhaps by several goroutines
	// at once. Nil costs nothing.
	TracePacket func(*PacketEvent)
	// Log receives the few things that an operator should know; nil discards them.
	Log *slog.Logger
}

// Stack is a network host of its own: interfaces, addresses, routes and sockets, and no kernel behind it.
// All methods may be called from any goroutine.
type Stack struct {
	config  Config
	start   time.Time
	log     *slog.Logger
	secret  secrets
	memory  memory
	stats   counters
	shards  [numShards]shard
	ports   ports
	limit   rateLimit
	ids     identifications
	sockets atomic.Uint64 // how many sockets there have been that can join groups
	numbers atomic.Uint64 // of packets, for TracePacket
	asked   atomic.Uint32 // which of Config.DNS is asked

	fragments fragments
	fast      fastOpens
	paths     paths

	view    atomic.Pointer[view] // what is configured: replaced whole, never changed
	admin   sync.Mutex           // held by who replaces view
	wall    atomic.Pointer[wall] // nil: there is no firewall
	lo      *Interface
	packets sync.Pool // of *packet
	waiters sync.Pool // of *waiter
	bells   bell.Pool

	closed  atomic.Bool
	stop    chan struct{}  // closed when Close begins
	done    chan struct{}  // closed by Close once everything is gone
	running sync.WaitGroup // goroutines, and timers that will become one
}

// New makes a host that knows only itself: the loopback addresses 127.0.0.0/8 and ::1. Attach connects it to others.
// It panics where the system gives no random octets, as crypto/rand does.
func New(c Config) *Stack {
	s := &Stack{config: c, start: time.Now().Add(-time.Millisecond), log: c.Log, stop: make(chan struct{}), done: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.config.Rand == nil {
		s.config.Rand = func(b []byte) error { _, err := rand.Read(b); return err }
	}
	if s.config.HopLimit == 0 {
		s.config.HopLimit = 64
	}
	if s.config.Backlog <= 0 {
		s.config.Backlog = 4096
	}
	if s.config.Memory <= 0 {
		s.config.Memory = 1 << 30
	}
	if s.config.TCP.ReadBuffer == 0 {
		s.config.TCP.ReadBuffer = c.ReadBuffer
	}
	if s.config.TCP.WriteBuffer == 0 {
		s.config.TCP.WriteBuffer = c.WriteBuffer
	}
	s.secret.init(s.config.Rand)
	s.memory.init(s, s.config.Memory)
	s.ports.init()
	s.fragments.init(s)
	s.paths.init(s)
	s.packets.New = func() any { return new(packet) }
	s.waiters.New = func() any { return new(waiter) }
	for i := range s.shards {
		s.shards[i].init(s)
	}
	s.view.Store(&view{forwarding: c.Forwarding})
	s.attachLoopback()
	return s
}

// now is the one place that reads the clock: the time since shortly before the stack was made, so never 0.
func (s *Stack) now() time.Duration { return time.Since(s.start) }

// at is an instant of the clock on the wall as now tells time; the zero Time is 0, and the past is at least 1 ns.
func (s *Stack) at(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return max(t.Sub(s.start), 1)
}

// Close closes the attached devices and all sockets, resets what is open, and returns when every goroutine of the stack
// is gone. Closing again returns nil once the first Close is through.
func (s *Stack) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		<-s.done
		return nil
	}
	close(s.stop)
	s.admin.Lock() // no Attach is half-way, and none will begin
	ifaces := s.view.Load().ifaces
	s.admin.Unlock()
	for _, l := range s.ports.listeners() {
		l.Close()
	}
	for i := range s.shards {
		s.shards[i].close()
	}
	for _, u := range s.ports.udpConns() {
		u.Close()
	}
	for _, c := range s.ports.icmpConns() {
		c.Close()
	}
	var errs []error
	for _, i := range ifaces {
		if err := i.close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.fragments.close(s)
	s.paths.close()
	s.memory.starve.Lock()
	s.memory.alarm.stop()
	s.memory.starve.Unlock()
	s.running.Wait()
	s.bells.Close()
	close(s.done)
	return errors.Join(errs...)
}

// attachLoopback gives the stack its way to itself. Packets pass through a queue and its reader like all others, never
// from a sender straight into a receiver.
func (s *Stack) attachLoopback() {
	s.lo = &Interface{stack: s, name: "lo", loopback: true, hops: s.config.HopLimit}
	s.lo.onLink.ifc = s.lo
	wire := link.PipeConfig{GSO: 1 << 16}
	near, far := link.Pipe(wire)
	s.lo.adopt(loopDevice{near, far})
	s.lo.addrs.Store(&[]Addr{
		{Prefix: netip.MustParsePrefix("127.0.0.1/8"), State: AddrValid},
		{Prefix: netip.MustParsePrefix("::1/128"), State: AddrValid},
	})
	s.admin.Lock()
	s.replaceView(func(v *view) { v.ifaces = append(v.ifaces, s.lo) })
	s.admin.Unlock()
}

// loopDevice is a wire whose far end leads back: what is written near is read from far.
type loopDevice struct{ near, far link.Device }

func (d loopDevice) Caps() link.Caps {
	c := d.near.Caps()
	c.Name = "lo"
	return c
}

func (d loopDevice) Queues() []link.Queue {
	return []link.Queue{loopQueue{d.near.Queues()[0], d.far.Queues()[0]}}
}

func (d loopDevice) Close() error { return errors.Join(d.near.Close(), d.far.Close()) }

type loopQueue struct{ near, far link.Queue }

func (q loopQueue) Read(p []link.Packet) (int, error)  { return q.far.Read(p) }
func (q loopQueue) Write(p []link.Packet) (int, error) { return q.near.Write(p) }
func (q loopQueue) Ready() <-chan struct{}             { return q.near.Ready() }
