package link

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/pace"
)

// PortConfig describes a port of a Switch, or of a Hub, which takes only a Name. The zero value is a port like any other of
// a switch without VLANs: all frames belong together, and tags pass as part of them.
type PortConfig struct {
	// Name is for people; empty: the device's, or one with the number of the port.
	Name string
	// VLAN is the VLAN, 1 to 4094, that the frames without a tag are of. Where Trunk is empty, frames with a tag are
	// dropped: stations here (on an access port) are in this VLAN and cannot leave it.
	VLAN uint16
	// Trunk lists VLANs whose frames come and go with a tag. Frames without a tag, or with one that names no VLAN, are of
	// VLAN, and stay among themselves where that is 0.
	Trunk []uint16
	// Pinned lists stations that are at this port and nowhere else: a frame of theirs that comes to another port is dropped,
	// and they neither age nor count against the table's bound.
	Pinned []ethernet.Addr
}

// A Port is where a device is attached to a Switch or a Hub.
type Port struct {
	bridge *bridge
	config PortConfig
	name   string
	trunk  vlanSet
	device Device
	queues []Queue

	counters [verdicts]atomic.Uint64
	in, out  traffic

	storm    throttle // frames to several ports
	learning throttle // stations that take the place of others

	heard heard // stations.mu guards it

	stop    chan struct{} // closed by Close
	once    sync.Once
	closing error
	running sync.WaitGroup
}

type traffic struct{ frames, octets atomic.Uint64 }

// bridge is what Switch and Hub have in common: ports.
type bridge struct {
	start    time.Time
	trace    func(*FrameEvent)
	stations *stations // nil: a hub
	storm    int       // frames a second that one port may send to several; negative: any number

	ports   atomic.Pointer[[]*Port] // replaced whole, under mu
	running sync.WaitGroup          // of all ports, those that have gone too

	mu     sync.Mutex
	next   int // number of the next port
	closed bool
}

func (b *bridge) now() time.Duration { return time.Since(b.start) }

// list is the ports as they are now.
func (b *bridge) list() []*Port {
	if p := b.ports.Load(); p != nil {
		return *p
	}
	return nil
}

// Attach makes a port of an Ethernet device, and begins to carry frames. The device belongs to the port from here on, and is
// closed with it, or at once where Attach fails: with net.ErrClosed after Close, or with EINVAL for a device that is not
// Ethernet and for a PortConfig that cannot be.
//
// A device of Wrap gets a queue of its own, from which another goroutine writes, since its Write may wait.
func (b *bridge) Attach(d Device, c PortConfig) (*Port, error) {
	if d == nil {
		return nil, fmt.Errorf("link: attach: %w", syscall.EINVAL)
	}
	p, err := b.attach(d, c)
	if err != nil {
		d.Close()
		return nil, err
	}
	return p, nil
}

func (b *bridge) attach(d Device, c PortConfig) (*Port, error) {
	if !d.Caps().Ethernet || len(d.Queues()) == 0 {
		return nil, fmt.Errorf("link: attach %s: %w: a port is an Ethernet device", d.Caps().Name, syscall.EINVAL)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if b.stations == nil && (c.VLAN != 0 || len(c.Trunk) > 0 || len(c.Pinned) > 0) {
		return nil, fmt.Errorf("link: a hub has no VLANs and no table: %w", syscall.EINVAL)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	c.Trunk, c.Pinned = slices.Clone(c.Trunk), slices.Clone(c.Pinned)
	p := &Port{bridge: b, config: c, name: c.Name, stop: make(chan struct{})}
	for _, v := range c.Trunk {
		p.trunk.add(v)
	}
	if p.name == "" {
		p.name = d.Caps().Name
	}
	if p.name == "" {
		p.name = fmt.Sprintf("port%d", b.next)
	}
	b.next++
	if waits(d) {
		d = newBacklog(d)
	}
	p.device, p.queues = d, d.Queues()
	p.storm.Pace = pace.New(b.storm, time.Second, b.storm)
	p.learning.Pace = pace.New(relearn, time.Second, relearn)
	if b.stations != nil {
		b.stations.add(p)
	}
	ports := append(slices.Clone(b.list()), p)
	b.ports.Store(&ports)
	p.begin()
	return p, nil
}

// begin starts the goroutines of the port.
func (p *Port) begin() {
	run := func(f func()) {
		p.bridge.running.Add(1)
		p.running.Add(1)
		go func() {
			defer p.bridge.running.Done()
			defer p.running.Done()
			f()
		}()
	}
	for i := range p.queues {
		r := &relay{bridge: p.bridge, port: p, index: i}
		run(r.loop)
	}
	if changed := Changed(p.device); changed != nil {
		run(func() { p.watch(changed) })
	}
}

// watch forgets the stations at the port when its link goes down: they may come back elsewhere.
func (p *Port) watch(changed <-chan struct{}) {
	flaps := p.device.Caps().Flaps
	for {
		select {
		case <-p.stop:
			return
		case _, ok := <-changed:
			if !ok {
				return
			}
		}
		if c := p.device.Caps(); c.Flaps != flaps {
			flaps = c.Flaps
			if p.bridge.stations != nil {
				p.bridge.stations.forget(p, false)
			}
		}
	}
}

// Port makes a port at the end of a wire of its own, and returns the other end, for a stack to be attached to: the wire is as
// Pipe makes it, with Ethernet. The errors are those of Attach.
//
// With the Close of the device the port goes, once it has carried the frames that were on their way.
func (b *bridge) Port(wire PipeConfig, c PortConfig) (Device, error) {
	wire.Ethernet = true
	mine, theirs := Pipe(wire)
	out := outlet{theirs.(*end)}
	mine.(*end).caps.Name, out.caps.Name = "", c.Name
	if _, err := b.Attach(mine, c); err != nil {
		theirs.Close()
		return nil, err
	}
	return out, nil
}

// An outlet is the station's end of the wire to a port.
type outlet struct{ *end }

// Close pulls the cable out, and lets the port know that it is out.
func (o outlet) Close() error {
	err := o.end.Close()
	o.out.finish()
	return err
}

// Ports lists the ports, in the order of Attach.
func (b *bridge) Ports() iter.Seq[*Port] { return slices.Values(b.list()) }

// Close closes all ports, and returns when no goroutine is left. What their devices' Close said is in the error. Closing
// again does nothing and returns nil.
func (b *bridge) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	b.mu.Unlock()
	var errs []error
	for _, p := range b.list() {
		errs = append(errs, p.leave())
	}
	b.running.Wait()
	return errors.Join(errs...)
}

// Name is the port's name.
func (p *Port) Name() string { return p.name }

// Config is what the port was attached with.
func (p *Port) Config() PortConfig { return p.config }

// Device is the port's device.
func (p *Port) Device() Device { return p.device }

// Close takes the port out of the switch, closes its device, and returns when the port carries nothing any more. It must not
// be called from a Trace. Closing again returns what the first Close did.
func (p *Port) Close() error {
	err := p.leave()
	p.running.Wait()
	return err
}

// leave is Close without waiting.
func (p *Port) leave() error {
	p.once.Do(func() {
		close(p.stop)
		b := p.bridge
		b.mu.Lock()
		ports := slices.DeleteFunc(slices.Clone(b.list()), func(q *Port) bool { return q == p })
		b.ports.Store(&ports)
		b.mu.Unlock()
		if b.stations != nil {
			b.stations.forget(p, true)
		}
		p.closing = p.device.Close()
	})
	return p.closing
}
