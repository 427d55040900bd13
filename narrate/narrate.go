// Package narrate tells what happened to a conversation, device by device, from what the devices trace: which frame came
// in by which interface, from and to which station, address and port, what the device looked up and decided, what it
// changed, and where the frame went. It says nothing that no device has reported.
//
//	n := narrate.New()
//	phone := stack.New(n.Stack("phone", stack.Config{}))
//	lan := link.NewSwitch(link.SwitchConfig{Trace: n.Switch("switch")})
//	// … something happens …
//	for _, c := range n.Conversations() {
//		n.Tell(os.Stdout, c)
//	}
//
// What happens at one time is told in the order in which it was reported, which for one device is the order in which it
// happened. Between devices it is that only where wires take time: see link.PipeConfig.Delay.
package narrate

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// maxSteps is how many steps a Narrator keeps, at about a kilobyte each: some thousand segments through five devices.
const maxSteps = 1 << 15

// A Narrator collects what devices report. Its methods may be called from any goroutine.
type Narrator struct {
	mu      sync.Mutex
	start   time.Time
	devices []string
	steps   []*step
	open    map[packetKey]*step    // packets that are in a stack
	carried map[*link.Port][]*step // frames that are in a switch or hub, by the port that they came to
	full    atomic.Bool            // there is no room for more steps, and nothing is taken any more
}

// packetKey is a packet in a stack.
type packetKey struct {
	device int
	number uint64
}

// A step is what one device does with one packet, without pause.
type step struct {
	at     time.Duration
	device int
	facts  []fact
	frame  []byte // in a switch or a hub, until it has left
	left   bool   // by one port at least
	waits  bool   // the packet, and what comes later is another step
	goesOn *step  // which is this
	goneOn bool   // it is the step of a packet that has waited
}

// New makes a Narrator, which knows of no devices yet.
func New() *Narrator {
	return &Narrator{start: time.Now(), open: map[packetKey]*step{}, carried: map[*link.Port][]*step{}}
}

// device gives a device its number.
func (n *Narrator) device(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.devices = append(n.devices, name)
	return len(n.devices) - 1
}

// add notes a step, if there is room. n is locked.
func (n *Narrator) add(device int) *step {
	s := &step{at: time.Since(n.start), device: device}
	if len(n.steps) >= maxSteps {
		n.full.Store(true)
		return s
	}
	n.steps = append(n.steps, s)
	return s
}

// Forget drops all that was reported so far.
func (n *Narrator) Forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.steps = nil
	n.full.Store(false)
	clear(n.open)
	clear(n.carried)
}

// Stack returns c with a Trace and a TracePacket that report to n as a device called name. Those that c has are called too.
func (n *Narrator) Stack(name string, c stack.Config) stack.Config {
	d := n.device(name)
	trace, tracePacket := c.Trace, c.TracePacket
	c.Trace = func(e *stack.TraceEvent) {
		n.segment(d, e)
		if trace != nil {
			trace(e)
		}
	}
	c.TracePacket = func(e *stack.PacketEvent) {
		n.packet(d, e)
		if tracePacket != nil {
			tracePacket(e)
		}
	}
	return c
}

// Switch returns a SwitchConfig.Trace that reports to n as a device called name.
func (n *Narrator) Switch(name string) func(*link.FrameEvent) { return n.bridge(name, false) }

// Hub returns a HubConfig.Trace that reports to n as a device called name.
func (n *Narrator) Hub(name string) func(*link.FrameEvent) { return n.bridge(name, true) }

func (n *Narrator) bridge(name string, hub bool) func(*link.FrameEvent) {
	d := n.device(name)
	return func(e *link.FrameEvent) { n.frame(d, hub, e) }
}

// step finds the step of a packet, or begins one. n is locked.
func (n *Narrator) step(device int, number uint64) *step {
	if number == 0 {
		return n.add(device)
	}
	k := packetKey{device, number}
	s := n.open[k]
	if s == nil || s.waits {
		old := s
		if s = n.add(device); old != nil {
			old.goesOn, s.goneOn = s, true
		}
		n.open[k] = s
	}
	return s
}

// segment takes what a stack says of TCP.
func (n *Narrator) segment(device int, e *stack.TraceEvent) {
	if n.full.Load() {
		return
	}
	f := fact{before: firewall.Flow{Protocol: protoTCP, Src: e.Local, Dst: e.Remote}, states: [2]tcp.State{e.Before, e.After}, drop: e.Drop}
	switch e.Kind {
	case stack.SegmentIn:
		f.kind = segmentIn
		f.before.Src, f.before.Dst = e.Remote, e.Local
	case stack.SegmentOut:
		f.kind = segmentOut
	case stack.TimerExpired:
		f.kind = timer
	case stack.UserCall:
		f.kind = call
	default:
		return
	}
	if e.Segment != nil {
		f.frame = segmentView(f.before, e.Segment)
		f.cause = e.Segment.Cause
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.step(device, e.Packet)
	s.facts = append(s.facts, f)
}

// packet takes what a stack says of a packet.
func (n *Narrator) packet(device int, e *stack.PacketEvent) {
	if n.full.Load() {
		return
	}
	f := fact{iface: e.Interface, next: e.Next, station: e.Station, verdict: e.Verdict, reason: e.Reason}
	switch e.Step {
	case stack.PacketIn, stack.PacketOut:
		f.kind, f.frame = in, newView(e.Frame, e.Ethernet)
		if e.Step == stack.PacketOut {
			f.kind = out
		}
	case stack.PacketArrived, stack.PacketJudged:
		f.kind = arrived
		if e.Step == stack.PacketJudged {
			f.kind = judged
		}
		f.judge(e)
	case stack.PacketRouted:
		f.kind, f.route, f.via = routed, e.Route.Dst, e.Route.Via
	case stack.PacketWaits:
		f.kind = waits
	case stack.PacketResolved:
		f.kind = resolved
	case stack.PacketDropped:
		f.kind = dropped
	default:
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.step(device, e.Number)
	s.facts = append(s.facts, f)
	if f.kind == waits { // what comes later is another step
		s.waits = true
	}
}

// frame takes what a switch or a hub says.
func (n *Narrator) frame(device int, hub bool, e *link.FrameEvent) {
	if n.full.Load() {
		return
	}
	f := fact{kind: out, frame: newView(&link.Packet{Head: e.Frame}, true), port: e.Verdict, hub: hub}
	if e.Out != nil {
		f.iface = e.Out.Name()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case e.Verdict <= link.Reserved:
		s := n.add(device)
		came := f
		came.kind, came.iface = in, e.In.Name()
		f.kind = decided
		s.facts, s.frame = []fact{came, f}, bytes.Clone(e.Frame)
		n.carried[e.In] = append(slices.DeleteFunc(n.carried[e.In], func(s *step) bool { return s.left }), s)
	case e.Out != nil && e.Verdict <= link.NestedTag:
		for _, s := range n.carried[e.In] {
			if bytes.Equal(s.frame, e.Frame) && !s.has(f.iface) {
				s.facts, s.left = append(s.facts, f), true
				return
			}
		}
	}
}

// has reports whether the step has an outcome at a port already.
func (s *step) has(port string) bool {
	return slices.ContainsFunc(s.facts, func(f fact) bool { return f.kind == out && f.iface == port })
}
