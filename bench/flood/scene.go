package main

import (
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// Addresses (RFC 5737, and RFC 6598 for who is far away).
const (
	lanAddr, clientAddr, lanHost = "192.0.2.1", "192.0.2.2", "192.0.2.66"
	wanAddr, serverAddr, wanHost = "203.0.113.1", "203.0.113.2", "203.0.113.66"
	guestAddr, guestHost         = "198.51.100.1", "198.51.100.2"
	outsideAddr, outsideHost     = "203.0.114.1", "203.0.114.2"
)

const rules = `
	policy in drop
	policy forward drop
	allow in on lan
	allow in on guest
	allow forward on lan
	allow forward on guest
	allow forward state translated
	nat on wan
	forward tcp 203.0.113.1:8080 to 192.0.2.2:80
`

// scene is client, router and server, and where the attacker writes to.
type scene struct {
	client, router, server *stack.Stack
	attacker               link.Device
	station                ethernet.Addr // the router's, where the attacker is on a switch
	closers                []io.Closer
}

func (s *scene) close() {
	for n := len(s.closers) - 1; n >= 0; n-- {
		s.closers[n].Close()
	}
}

// named is a device with another name.
type named struct {
	link.Device
	name string
}

func (d named) Caps() link.Caps {
	c := d.Device.Caps()
	c.Name = d.name
	return c
}

// attach connects the stack to the device.
func attach(s *stack.Stack, d link.Device, name, addr string) (*stack.Interface, error) {
	return s.Attach(named{d, name}, netip.PrefixFrom(netip.MustParseAddr(addr), 24))
}

// newScene makes the scene of an attack.
func newScene(a *attack) (s *scene, err error) {
	c := stack.Config{NoDAD: true}
	s = &scene{client: stack.New(c), server: stack.New(c)}
	c.Forwarding.Enabled = true
	s.router = stack.New(c)
	s.closers = append(s.closers, s.client, s.router, s.server)
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	return s, errors.Join(
		s.join(s.client, clientAddr, lanAddr, "lan", lanHost, a.where == lan),
		s.join(s.server, serverAddr, wanAddr, "wan", wanHost, a.where == wan),
		s.alone(a), s.configure())
}

// join connects a host and the router, by a switch with the attacker or without.
func (s *scene) join(host *stack.Stack, addr, gateway, name, attacker string, attacked bool) error {
	wire := link.PipeConfig{MTU: 1500, GSO: 65535}
	near, far := link.Pipe(wire)
	if attacked {
		wire.Ethernet = true
		sw := link.NewSwitch(link.SwitchConfig{})
		s.closers = append(s.closers, sw)
		var errs [3]error
		near, errs[0] = sw.Port(wire, link.PortConfig{})
		far, errs[1] = sw.Port(wire, link.PortConfig{})
		s.attacker, errs[2] = sw.Port(link.PipeConfig{MTU: 1500, Ethernet: true}, link.PortConfig{})
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
	}
	if _, err := attach(host, near, "eth0", addr); err != nil {
		return err
	}
	i, err := attach(s.router, far, name, gateway)
	if attacked && err == nil {
		s.station = ethernet.Addr(i.HardwareAddr())
		err = i.SetNeighbor(netip.MustParseAddr(attacker), station[:])
	}
	return errors.Join(err, host.AddRoute(anywhere, netip.MustParseAddr(gateway), nil))
}

var anywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// alone connects the attacker and the router by a wire that is nobody else's.
func (s *scene) alone(a *attack) error {
	if s.attacker != nil {
		return nil
	}
	name, addr := "guest", guestAddr
	if a.where == outside {
		name, addr = "wan2", outsideAddr
	}
	var far link.Device
	s.attacker, far = link.Pipe(link.PipeConfig{MTU: 1500})
	s.closers = append(s.closers, s.attacker)
	_, err := attach(s.router, far, name, addr)
	return err
}

func (s *scene) configure() error {
	r, err := firewall.Parse(rules)
	if err != nil {
		return err
	}
	return errors.Join(s.router.AddRoute(anywhere, netip.MustParseAddr(serverAddr), nil), s.router.SetFirewall(r))
}

// connect makes a connection through the router, over which as much is sent as it takes: from the server where the attacker
// is on the server's side, and else from the client. It returns the count of what has arrived.
func (s *scene) connect(down bool) (*atomic.Int64, error) {
	l, err := s.server.Listen("tcp", serverAddr+":80")
	if err != nil {
		return nil, err
	}
	c, err := s.client.Dial("tcp", serverAddr+":80")
	if err != nil {
		return nil, err
	}
	h, err := l.Accept()
	if err != nil {
		return nil, err
	}
	from, to := c, h
	if down {
		from, to = h, c
	}
	arrived := new(atomic.Int64)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := to.Read(b)
			if arrived.Add(int64(n)); err != nil {
				return
			}
		}
	}()
	go func() {
		b := make([]byte, 64<<10)
		for {
			if _, err := from.Write(b); err != nil {
				return
			}
		}
	}()
	s.closers = append(s.closers, from, to)
	return arrived, nil
}

// run measures the connection while the attack goes on.
func (o *options) run(a *attack) (r result, err error) {
	s, err := newScene(a)
	if err != nil {
		return r, err
	}
	defer s.close()
	arrived, err := s.connect(a.where == wan)
	if err != nil {
		return r, err
	}
	f := &flood{attack: a, scene: s, pace: o.pace, stop: make(chan struct{}), over: make(chan struct{})}
	go f.listen()
	time.Sleep(warmUp)
	r.alone = watch(arrived, o.length)
	go f.run()
	time.Sleep(warmUp + o.length/2) // until what may be spent at once is
	packets, drops, start := f.sent.Load(), s.drops(), time.Now()
	r.during = watch(arrived, o.length)
	seconds := time.Since(start).Seconds()
	r.attack, r.drops = float64(f.sent.Load()-packets)/seconds, map[string]float64{}
	for n, v := range s.drops() {
		r.drops[n] = float64(v-drops[n]) / seconds
	}
	s.router.Firewall(func(w *firewall.Firewall) { r.connections = w.Stats().Connections })
	close(f.stop)
	s.attacker.Close()
	<-f.over
	return r, nil
}

const warmUp = 100 * time.Millisecond

// watch says how many octets arrive in a second.
func watch(arrived *atomic.Int64, length time.Duration) float64 {
	before, start := arrived.Load(), time.Now()
	time.Sleep(length)
	return float64(arrived.Load()-before) / time.Since(start).Seconds()
}

// drops is what the router has dropped, by reason; of the firewall, its own reasons.
func (s *scene) drops() map[string]uint64 {
	all := s.router.Stats().Drops
	s.router.Firewall(func(w *firewall.Firewall) {
		delete(all, stack.Firewalled.String())
		for r, n := range w.Stats().Dropped {
			if n > 0 {
				all[firewall.Reason(r).String()] = n
			}
		}
	})
	return all
}
