package link

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/pace"
)

const (
	// relayBatch is how many packets are read at once.
	relayBatch = 64
	// A device whose Read fails is read again after retryAfter, as one that was reconfigured would recover, and is given up
	// after maxRetries of that: ten seconds.
	retryAfter = 100 * time.Millisecond
	maxRetries = 100

	// discards is how many frames that go nowhere a relay looks at in a second before it leaves the rest of them to the
	// device for a while: a flood of what is dropped would else cost a processor. At 100 to 200 ns each they cost about two
	// hundredths of one. A cable that is full of others' talk at 1 Gbit/s carries 120,000 frames a second of 1,000 octets.
	discards = 1 << 17
	// discardBurst is how many may come at once: two queues full, as they are when a relay comes late to them.
	discardBurst = 2 * defaultQueue
	// restFor is for how long it leaves them: the queue of a Pipe, or of a TAP in Linux, holds about a thousand frames, so
	// what is not of the flood goes on.
	restFor = time.Millisecond
)

// A relay carries what one queue of a port receives to the other ports.
type relay struct {
	bridge *bridge
	port   *Port
	index  int

	in    [relayBatch]Packet
	out   [relayBatch]Packet // those that go in another form than they came
	tags  [relayBatch][maxFrameHeader]byte
	texts [][]byte
	cut   Segmenter

	dropped throttle // frames that go nowhere
	tired   bool     // more of them have come
	yield   yield
	timer   *time.Timer
}

// loop reads until the port is closed.
func (r *relay) loop() {
	r.dropped.Pace = pace.New(discards, time.Second, discardBurst)
	q := r.port.queues[r.index]
	failures := 0
	for {
		n, err := q.Read(r.in[:])
		if n > 0 {
			r.relay(r.in[:n])
			failures = 0
			if r.tired && !r.pause(restFor) {
				r.port.leave()
				return
			}
		}
		if err != nil {
			failures++
			if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || failures > maxRetries || !r.pause(retryAfter) {
				r.port.leave()
				return
			}
		}
	}
}

// pause waits until it is time to read again; false: the port is closed.
func (r *relay) pause(d time.Duration) bool {
	if r.timer == nil {
		r.timer = time.NewTimer(d)
	} else {
		r.timer.Reset(d)
	}
	select {
	case <-r.port.stop:
		r.timer.Stop()
		return false
	case <-r.timer.C:
		return true
	}
}

// A way is where a frame goes.
type way struct {
	verdict Verdict
	to      *Port // Forwarded
	vlan    uint16
}

// relay carries packets, in order, those that go the same way together.
func (r *relay) relay(p []Packet) {
	now := r.bridge.now()
	octets, first, nowhere := 0, 0, 0
	r.yield.refused = 0
	var last way
	for i := range p {
		octets += len(p[i].Head)
		w := r.decide(&p[i], now)
		if w.verdict != Forwarded && w.verdict != Flooded {
			nowhere++
		}
		if i > first && w != last {
			r.carry(p[first:i], last)
			first = i
		}
		last = w
	}
	r.carry(p[first:], last)
	r.port.in.frames.Add(uint64(len(p)))
	r.port.in.octets.Add(uint64(octets))
	r.tired = r.yield.rest(len(p)) || nowhere > 0 && !r.dropped.take(now, nowhere)
}

// decide looks where a frame goes.
func (r *relay) decide(p *Packet, now time.Duration) way {
	t, b := r.bridge.stations, p.Head
	switch {
	case len(b) < ethernet.HeaderLen:
		return way{verdict: Malformed}
	case t == nil:
		return way{verdict: Flooded}
	case b[6]&1 == 1 || ethernet.Addr(b[6:12]).IsZero():
		return way{verdict: Malformed}
	}
	vlan, ok := r.port.vlanOf(b)
	switch {
	case !ok:
		return way{verdict: WrongVLAN}
	case !t.hear(newStationKey(vlan, b[6:]), r.port, now):
		return way{verdict: Spoofed, vlan: vlan}
	case b[0]&1 == 1:
		if forOneLink(b) {
			return way{verdict: Reserved, vlan: vlan}
		}
		return r.flood(p, vlan, now)
	}
	switch to := t.find(newStationKey(vlan, b), now); {
	case to == nil:
		return r.flood(p, vlan, now)
	case to == r.port:
		return way{verdict: Filtered, vlan: vlan}
	default:
		return way{verdict: Forwarded, to: to, vlan: vlan}
	}
}

// flood is the way to all other ports, as long as the port keeps to its bound.
func (r *relay) flood(p *Packet, vlan uint16, now time.Duration) way {
	n := 1
	if p.Offload.GSO != None && p.Offload.Size > 0 {
		n += len(p.Head) / int(p.Offload.Size) // of what a super-segment becomes, one more at most
	}
	if !r.port.storm.take(now, n) {
		return way{verdict: Storm, vlan: vlan}
	}
	return way{verdict: Flooded, vlan: vlan}
}

// forOneLink says of the destination that a bridge does not forward it: 01-80-C2-00-00-00 to -0F (IEEE 802.1Q table 8-1).
// Departure: the first, of spanning trees, is forwarded by a bridge that has none, as Linux's does.
func forOneLink(b []byte) bool {
	return [5]byte(b) == [5]byte{0x01, 0x80, 0xc2} && b[5]&0xf0 == 0 && b[5] != 0
}

// carry sends packets that go the same way.
func (r *relay) carry(p []Packet, w way) {
	r.port.count(w.verdict, len(p))
	if r.bridge.trace != nil {
		for i := range p {
			r.tell(w.verdict, w.to, w.vlan, p[i].Head)
		}
	}
	switch w.verdict {
	case Forwarded:
		r.send(p, w.to, w.vlan)
	case Flooded:
		for _, to := range r.bridge.list() {
			if to != r.port && (r.bridge.stations == nil || to.carries(w.vlan)) {
				r.send(p, to, w.vlan)
			}
		}
	}
}

func (r *relay) tell(v Verdict, out *Port, vlan uint16, frame []byte) {
	r.bridge.trace(&FrameEvent{At: r.bridge.now(), Verdict: v, In: r.port, Out: out, VLAN: vlan, Frame: frame})
}

// send writes packets to a port: those that can go as they are together, the others in their new form one by one.
func (r *relay) send(p []Packet, to *Port, vlan uint16) {
	caps := to.device.Caps()
	if caps.Down {
		r.drop(p, to, vlan, Down)
		return
	}
	first := 0
	for i := range p {
		tag, fit := retag{keep: true}, caps.Fit(&p[i])
		ok := true
		if r.bridge.stations != nil {
			tag, ok = r.port.retagFor(p[i].Head, vlan, to)
		}
		if ok && tag.keep && fit == FitWhole {
			continue
		}
		r.write(p[first:i], to, vlan, p[first:i])
		first = i + 1
		switch one := p[i : i+1]; {
		case !ok:
			r.drop(one, to, vlan, NestedTag)
		case fit == FitNot:
			r.drop(one, to, vlan, TooLong)
		default:
			r.adapt(one, to, vlan, tag, fit, &caps)
		}
	}
	r.write(p[first:], to, vlan, p[first:])
}

// adapt sends the one packet of p with another tag, or cut.
func (r *relay) adapt(p []Packet, to *Port, vlan uint16, tag retag, fit Fit, caps *Caps) {
	if fit == FitWhole {
		r.out[0] = p[0]
		r.retag(1, tag)
		r.write(r.out[:1], to, vlan, p)
		return
	}
	if r.cut.Start(&p[0], caps) != nil {
		r.drop(p, to, vlan, Uncut)
		return
	}
	for n := r.cut.Next(r.out[:]); n > 0; n = r.cut.Next(r.out[:]) {
		r.retag(n, tag)
		r.write(r.out[:n], to, vlan, p)
	}
}

// retag gives the first n packets of out their new tag.
func (r *relay) retag(n int, tag retag) {
	clear(r.texts)
	r.texts = r.texts[:0]
	for i := range n {
		r.texts = tag.apply(&r.out[i], &r.tags[i], r.texts)
	}
}

// write writes packets to a port: those of from, or the one of from in another form. What the device has no room for is lost.
func (r *relay) write(p []Packet, to *Port, vlan uint16, from []Packet) {
	q := to.queues[r.index%len(to.queues)]
	for at := 0; at < len(p); {
		n, err := q.Write(p[at:])
		octets := 0
		for i := range p[at : at+n] {
			octets += p[at+i].Len()
		}
		to.out.frames.Add(uint64(n))
		to.out.octets.Add(uint64(octets))
		r.outcome(Sent, at, at+n, to, vlan, from)
		at += n
		switch {
		case err == nil:
			return
		case errors.Is(err, ErrFull):
			r.outcome(Full, at, len(p), to, vlan, from)
			r.yield.refused += len(p) - at
			return
		case errors.Is(err, net.ErrClosed):
			r.outcome(Down, at, len(p), to, vlan, from)
			return
		}
		if at < len(p) {
			r.outcome(Failed, at, at+1, to, vlan, from)
		}
		at++
	}
}

// outcome notes what became of packets first to last-1 of a write.
func (r *relay) outcome(v Verdict, first, last int, to *Port, vlan uint16, from []Packet) {
	to.count(v, last-first)
	if r.bridge.trace == nil {
		return
	}
	for i := first; i < last; i++ {
		r.tell(v, to, vlan, from[min(i, len(from)-1)].Head)
	}
}

// drop notes that packets do not leave by a port.
func (r *relay) drop(p []Packet, to *Port, vlan uint16, v Verdict) {
	r.outcome(v, 0, len(p), to, vlan, p)
}
