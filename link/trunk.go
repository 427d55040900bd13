package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
)

// A Trunk divides an Ethernet device into one for each VLAN (IEEE 802.1Q): what is written to the device of a VLAN leaves with
// its tag, and a frame that arrives with that tag is read there, without it. Each is a device like any other, for a stack or a
// switch to be attached to; its name is the device's and the number, such as eth0.100.
//
// The priority of a frame, the tag's other four bits, survives in both directions: a frame that is written with a tag of no
// VLAN, as those that tell a priority are, leaves with that priority, and one that has come with a priority other than 0
// is read with such a tag, which a stack passes over.
//
// Super-segments and checksums are left to the device as they are without VLANs. A frame that arrives is copied once,
// into the queue of its VLAN; what that has no room for is dropped and counted, so that no VLAN waits for another.
type Trunk struct {
	device Device
	queues []Queue
	stats  [4]atomic.Uint64

	vlans   atomic.Pointer[map[uint16]*vlan] // replaced whole, under mu
	mu      sync.Mutex
	closed  bool
	ended   bool // nothing more will be read
	stop    chan struct{}
	running sync.WaitGroup
	scratch sync.Pool // of *tagger
}

// TrunkStats counts the frames that a Trunk has dropped.
type TrunkStats struct {
	Malformed uint64 // received, shorter than an Ethernet header
	Unknown   uint64 // received, of a VLAN without a device
	Full      uint64 // received, with no room in the queue of their VLAN
	Nested    uint64 // written as of no VLAN, but with the tag of one
}

// The counters of TrunkStats.
const (
	trunkMalformed = iota
	trunkUnknown
	trunkFull
	trunkNested
)

// trunkQueue is how many frames wait to be read in one queue of a VLAN: Linux's net.core.netdev_max_backlog.
const trunkQueue = 1000

// NewTrunk makes a trunk of an Ethernet device, which belongs to it from here on, and begins to read. The error is EINVAL for a
// device that is not Ethernet, which is closed then.
func NewTrunk(d Device) (*Trunk, error) {
	if d == nil {
		return nil, fmt.Errorf("link: trunk: %w", syscall.EINVAL)
	}
	if !d.Caps().Ethernet || len(d.Queues()) == 0 {
		d.Close()
		return nil, fmt.Errorf("link: trunk of %s: %w: only Ethernet has VLANs", d.Caps().Name, syscall.EINVAL)
	}
	t := &Trunk{device: d, queues: d.Queues(), stop: make(chan struct{})}
	t.vlans.Store(&map[uint16]*vlan{})
	t.scratch.New = func() any { return new(tagger) }
	run := func(f func()) {
		t.running.Add(1)
		go func() { defer t.running.Done(); f() }()
	}
	for k, q := range t.queues {
		run(func() { t.read(k) })
		if ready := q.Ready(); ready != nil {
			run(func() { t.tell(ready, func(v *vlan) chan struct{} { return v.queues[k].(*vlanQueue).ready }) })
		}
	}
	if changed := Changed(d); changed != nil {
		run(func() { t.tell(changed, func(v *vlan) chan struct{} { return v.changed }) })
	}
	return t, nil
}

// VLAN makes the device of a VLAN, 1 to 4094, or with 0 that of the frames without a tag. Closing it leaves the others as they
// are. The error is EINVAL for another number, EEXIST where the VLAN has a device, and net.ErrClosed after Close.
func (t *Trunk) VLAN(id uint16) (Device, error) {
	if id > maxVLAN {
		return nil, fmt.Errorf("link: VLAN %d is not between 0 and %d: %w", id, maxVLAN, syscall.EINVAL)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, errClosed
	}
	vlans := maps.Clone(*t.vlans.Load())
	if vlans[id] != nil {
		return nil, fmt.Errorf("link: VLAN %d: %w", id, syscall.EEXIST)
	}
	v := &vlan{trunk: t, id: id}
	if Changed(t.device) != nil {
		v.changed = make(chan struct{}, 1)
	}
	for _, q := range t.queues {
		wire := PipeConfig{Ethernet: true, Queue: trunkQueue}
		if t.device.Caps().Checksum {
			wire.GSO = maxPacket
		}
		in, out := Pipe(wire)
		vq := &vlanQueue{vlan: v, in: in.(*end), out: out.(*end), to: q}
		if q.Ready() != nil {
			vq.ready = make(chan struct{}, 1)
		}
		if t.ended {
			vq.in.out.finish()
		}
		v.queues = append(v.queues, vq)
	}
	vlans[id] = v
	t.vlans.Store(&vlans)
	return v, nil
}

// Stats tells the counters.
func (t *Trunk) Stats() TrunkStats {
	return TrunkStats{t.stats[trunkMalformed].Load(), t.stats[trunkUnknown].Load(), t.stats[trunkFull].Load(), t.stats[trunkNested].Load()}
}

// Close closes the device and those of all VLANs, and returns when no goroutine is left. Closing again does nothing and returns nil.
func (t *Trunk) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.stop)
	t.mu.Unlock()
	err := t.device.Close()
	t.running.Wait()
	for _, v := range *t.vlans.Load() {
		v.Close()
	}
	return err
}

// read carries what arrives at one queue of the device to the VLANs.
func (t *Trunk) read(k int) {
	var p, out [relayBatch]Packet
	var heads [relayBatch][maxFrameHeader]byte
	var texts [][]byte
	for failures := 0; ; {
		n, err := t.queues[k].Read(p[:])
		if n > 0 {
			failures = 0
		}
		clear(texts)
		texts = texts[:0]
		var last *vlan
		first := 0
		for i := range n {
			v := t.of(&p[i])
			if v != last {
				texts = t.deliver(last, k, p[first:i], &out, &heads, texts)
				first, last = i, v
			}
		}
		texts = t.deliver(last, k, p[first:n], &out, &heads, texts)
		if err != nil {
			if failures++; errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || failures > maxRetries || !t.pause() {
				t.end(k)
				return
			}
		}
	}
}

// of is the VLAN that a frame belongs to, nil where it has no device.
func (t *Trunk) of(p *Packet) *vlan {
	if len(p.Head) < ethernet.HeaderLen {
		t.stats[trunkMalformed].Add(1)
		return nil
	}
	id := uint16(0)
	if tag := tagOf(p.Head); tag != noTag {
		id = uint16(tag & vlanID)
	}
	v := (*t.vlans.Load())[id]
	if v == nil {
		t.stats[trunkUnknown].Add(1)
	}
	return v
}

// tagOf is the tag of a frame, or noTag.
func tagOf(frame []byte) int {
	if len(frame) < ethernet.HeaderLen+ethernet.TagLen ||
		ethernet.EtherType(binary.BigEndian.Uint16(frame[12:])) != ethernet.TypeVLAN {
		return noTag
	}
	return int(binary.BigEndian.Uint16(frame[14:]))
}

// deliver puts frames of one VLAN into its queue, without their tags; without a VLAN they are lost.
func (t *Trunk) deliver(v *vlan, k int, p []Packet, out *[relayBatch]Packet, heads *[relayBatch][maxFrameHeader]byte, texts [][]byte) [][]byte {
	if v == nil {
		return texts
	}
	for i := range p {
		out[i] = p[i]
		tag := tagOf(p[i].Head)
		if tag == noTag {
			continue
		}
		r := retag{had: true, tag: tag &^ vlanID}
		if r.tag == 0 {
			r.tag = noTag
		}
		texts = r.apply(&out[i], &heads[i], texts)
	}
	n, _ := v.queues[k].(*vlanQueue).in.Write(out[:len(p)])
	t.stats[trunkFull].Add(uint64(len(p) - n))
	clear(out[:len(p)])
	return texts
}

// pause waits until it is time to read again; false: the trunk is closed.
func (t *Trunk) pause() bool {
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	select {
	case <-t.stop:
		return false
	case <-timer.C:
		return true
	}
}

// end lets the readers of one queue of each VLAN know that nothing more will come.
func (t *Trunk) end(k int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, v := range *t.vlans.Load() {
		v.queues[k].(*vlanQueue).in.out.finish()
	}
}

// tell hands on to all VLANs that the device has room, or has changed.
func (t *Trunk) tell(heard <-chan struct{}, to func(*vlan) chan struct{}) {
	for {
		select {
		case <-t.stop:
			return
		case _, ok := <-heard:
			if !ok {
				return
			}
		}
		for _, v := range *t.vlans.Load() {
			select {
			case to(v) <- struct{}{}:
			default: // a value waits there already
			}
		}
	}
}

// vlan is the device of a VLAN.
type vlan struct {
	trunk   *Trunk
	id      uint16
	queues  []Queue
	changed chan struct{} // nil where the device's Caps do not change
	closed  atomic.Bool
}

// Caps is the device's, with a name of its own; packets come from the trunk's goroutine, not from the device's poller.
func (v *vlan) Caps() Caps {
	c := v.trunk.device.Caps()
	c.Polled = false
	if v.id != 0 {
		c.Name = fmt.Sprintf("%s.%d", c.Name, v.id)
	}
	return c
}

func (v *vlan) Queues() []Queue          { return slices.Clone(v.queues) }
func (v *vlan) Changed() <-chan struct{} { return v.changed }

// Close takes the VLAN out of the trunk.
func (v *vlan) Close() error {
	if v.closed.Swap(true) {
		return nil
	}
	t := v.trunk
	t.mu.Lock()
	vlans := maps.Clone(*t.vlans.Load())
	delete(vlans, v.id)
	t.vlans.Store(&vlans)
	t.mu.Unlock()
	for _, q := range v.queues {
		q := q.(*vlanQueue)
		q.out.Close()
		if q.ready != nil {
			select {
			case q.ready <- struct{}{}: // a writer that waits finds it closed
			default:
			}
		}
	}
	return nil
}

// vlanQueue is a queue of the device, as one VLAN sees it.
type vlanQueue struct {
	vlan    *vlan
	in, out *end // what has arrived: the trunk writes it, and the VLAN reads
	to      Queue
	ready   chan struct{}
}

func (q *vlanQueue) Read(p []Packet) (int, error) { return q.out.Read(p) }

func (q *vlanQueue) Ready() <-chan struct{} { return q.ready }

// tagger is the scratch of one Write.
type tagger struct {
	out   [relayBatch]Packet
	heads [relayBatch][maxFrameHeader]byte
	texts [][]byte
}

// Write writes p to the device, with the tag of the VLAN.
func (q *vlanQueue) Write(p []Packet) (n int, err error) {
	t := q.vlan.trunk
	g := t.scratch.Get().(*tagger)
	defer t.scratch.Put(g)
	for n < len(p) && err == nil {
		if q.vlan.closed.Load() {
			return n, errClosed
		}
		some := p[n:min(len(p), n+relayBatch)]
		if q.vlan.id == 0 && nested(&some[0]) {
			t.stats[trunkNested].Add(1)
			n++
			continue
		}
		k := g.tag(some, q.vlan.id)
		var m int
		m, err = q.to.Write(g.out[:k])
		n += m
		clear(g.out[:k])
		clear(g.texts)
	}
	return n, err
}

// tag makes packets to write of the first of p, as many as can be.
func (g *tagger) tag(p []Packet, id uint16) int {
	g.texts = g.texts[:0]
	for i := range p {
		if id == 0 && nested(&p[i]) {
			return i
		}
		g.out[i] = p[i]
		if id == 0 || len(p[i].Head) < ethernet.HeaderLen {
			continue
		}
		r := retag{tag: int(id)}
		if tag := tagOf(p[i].Head); tag != noTag && tag&vlanID == 0 {
			r.had, r.tag = true, tag|int(id)
		}
		g.texts = r.apply(&g.out[i], &g.heads[i], g.texts)
	}
	return len(p)
}

// nested reports whether a frame that is of no VLAN has the tag of one: it would change into that.
func nested(p *Packet) bool {
	tag := tagOf(p.Head)
	return tag != noTag && tag&vlanID != 0
}
