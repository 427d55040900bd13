package link

// A backlog stands in front of a device whose Write may wait: Write puts packets into a queue, as long as a pipe's is, and a
// goroutine takes them on.
type backlog struct {
	Device
	queues [1]Queue
	in     *end // where Write puts them
	out    *end // where the goroutine takes them from
	idle   chan struct{}
}

// waits reports whether d's Write may wait, against what Queue says: it does where it is somebody else's (Wrap).
func waits(d Device) bool {
	switch d := d.(type) {
	case *wrapped:
		return true
	case *capture:
		return waits(d.Device)
	}
	return false
}

func newBacklog(d Device) *backlog {
	caps := d.Caps()
	in, out := Pipe(PipeConfig{Ethernet: caps.Ethernet, MTU: caps.MTU})
	b := &backlog{Device: d, in: in.(*end), out: out.(*end), idle: make(chan struct{})}
	b.queues[0] = backlogQueue{d.Queues()[0], b.in}
	go b.carry()
	return b
}

// Queues is the one queue, that of the device with another Write.
func (b *backlog) Queues() []Queue { return b.queues[:] }

// Changed is that of the device.
func (b *backlog) Changed() <-chan struct{} { return Changed(b.Device) }

// Close closes the device, and what still waited is lost.
func (b *backlog) Close() error {
	err := b.Device.Close()
	b.in.Close()
	b.out.Close()
	<-b.idle
	return err
}

func (b *backlog) carry() {
	defer close(b.idle)
	q := b.Device.Queues()[0]
	var p [relayBatch]Packet
	for {
		n, err := b.out.Read(p[:])
		if err != nil {
			return
		}
		for rest := p[:n]; len(rest) > 0; {
			k, err := q.Write(rest)
			if err != nil && k < len(rest) {
				k++ // that one is lost: a tunnel says why, and nobody here could do better
			}
			rest = rest[k:]
		}
	}
}

// A backlogQueue reads from the device, and writes to the queue in front of it.
type backlogQueue struct {
	Queue
	in *end
}

// Write puts packets into the queue; the error is ErrFull where it has no room.
func (q backlogQueue) Write(p []Packet) (int, error) { return q.in.Write(p) }

// Ready is that of the queue in front.
func (q backlogQueue) Ready() <-chan struct{} { return q.in.Ready() }
