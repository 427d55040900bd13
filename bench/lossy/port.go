package main

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/bench/internal/lab"
	"github.com/seed87e66d9f/waybill/bench/internal/tuntap"
	"github.com/seed87e66d9f/waybill/link"
)

// tunPort is a kernel behind a TUN device without offloads, so that it sends packets and no super-segments.
type tunPort struct {
	fd   int
	addr netip.Addr
	b    [ourMTU + 100]byte
}

func (p *tunPort) read() []byte {
	n, err := unix.Read(p.fd, p.b[:])
	if err != nil || n <= 0 {
		return nil
	}
	return p.b[:n]
}

func (p *tunPort) write(b []byte)   { unix.Write(p.fd, b) } // what a host does not take is lost
func (p *tunPort) flush()           {}
func (p *tunPort) wait() int        { return p.fd }
func (p *tunPort) sleeping(bool)    {}
func (p *tunPort) address() [4]byte { return p.addr.As4() }

// memoryPort is a stack of this process: a link.Device without offloads, whose packets are copied to and from the wire.
type memoryPort struct {
	addr  netip.Addr
	event int         // an eventfd
	idle  atomic.Bool // the wire waits for event

	mu     sync.Mutex
	sent   ring // by the host
	come   ring // for the host
	more   sync.Cond
	closed bool

	taken []byte   // that the wire looks at
	given [][]byte // that the host looks at
}

// ring is packets in order, with the memory of those that are gone.
type ring struct {
	b     [][]byte
	first int
	spare [][]byte
}

func (r *ring) push(n int, fill func(b []byte) []byte) {
	var b []byte
	if k := len(r.spare); k > 0 {
		b, r.spare = r.spare[k-1], r.spare[:k-1]
	} else {
		b = make([]byte, 0, max(n, ourMTU))
	}
	r.b = append(r.b, fill(b))
}

func (r *ring) pop() []byte {
	if r.first == len(r.b) {
		r.b, r.first = r.b[:0], 0
		return nil
	}
	b := r.b[r.first]
	r.b[r.first] = nil
	r.first++
	return b
}

func (r *ring) free(b []byte) { r.spare = append(r.spare, b[:0]) }

// maxWaiting is how many packets a host that sends faster than the wire reads may leave, like the length of the TUN
// devices' queues.
const maxWaiting = 10_000

func newMemoryPort(addr netip.Addr) (*memoryPort, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &memoryPort{addr: addr, event: fd}
	p.more.L = &p.mu
	return p, nil
}

func (p *memoryPort) read() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken != nil {
		p.sent.free(p.taken)
	}
	p.taken = p.sent.pop()
	return p.taken
}

func (p *memoryPort) write(b []byte) {
	p.mu.Lock()
	p.come.push(len(b), func(m []byte) []byte { return append(m, b...) })
	p.mu.Unlock()
}

func (p *memoryPort) flush() { p.more.Signal() }

func (p *memoryPort) wait() int { return p.event }

func (p *memoryPort) sleeping(yes bool) {
	p.idle.Store(yes)
	if !yes {
		var b [8]byte
		unix.Read(p.event, b[:])
	}
}

func (p *memoryPort) address() [4]byte { return p.addr.As4() }

// device is the host's side of the port.
func (p *memoryPort) device() link.Device { return memoryDevice{p} }

type memoryDevice struct{ p *memoryPort }

func (d memoryDevice) Caps() link.Caps      { return link.Caps{Name: "wire", MTU: ourMTU} }
func (d memoryDevice) Queues() []link.Queue { return []link.Queue{d} }

func (d memoryDevice) Close() error {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	d.p.closed = true
	d.p.more.Broadcast()
	return nil
}

func (d memoryDevice) Ready() <-chan struct{} { return nil }

// Write sends, as link.Queue has it. What finds no room is lost, as it is behind a TUN.
func (d memoryDevice) Write(packets []link.Packet) (int, error) {
	p := d.p
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return 0, net.ErrClosed
	}
	for i := range packets {
		if len(p.sent.b)-p.sent.first >= maxWaiting {
			break
		}
		p.sent.push(packets[i].Len(), func(b []byte) []byte {
			b = append(b, packets[i].Head...)
			for _, t := range packets[i].Text {
				b = append(b, t...)
			}
			return b
		})
	}
	p.mu.Unlock()
	if p.idle.Swap(false) {
		unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return len(packets), nil
}

// Read receives, as link.Queue has it.
func (d memoryDevice) Read(packets []link.Packet) (n int, err error) {
	p := d.p
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.given {
		p.come.free(b)
	}
	p.given = p.given[:0]
	for len(p.come.b) == p.come.first && !p.closed {
		p.more.Wait()
	}
	if p.closed {
		return 0, net.ErrClosed
	}
	for n < len(packets) {
		b := p.come.pop()
		if b == nil {
			break
		}
		packets[n] = link.Packet{Head: b}
		p.given = append(p.given, b)
		n++
	}
	return n, nil
}

// The hosts' addresses (RFC 5737).
var (
	leftAddr  = netip.MustParsePrefix("198.51.100.1/24")
	rightAddr = netip.MustParsePrefix("198.51.100.2/24")
	thirdAddr = netip.MustParsePrefix("198.51.100.3/24")
)

// openKernel makes a TUN device in a namespace, and the kernel a host behind it.
func openKernel(ns *lab.Namespace, addr netip.Prefix) (*tunPort, error) {
	var p *tunPort
	err := ns.Do(func() error {
		fd, err := tuntap.Open(deviceName, tuntap.TUN)
		if err != nil {
			return err
		}
		if err = unix.SetNonblock(fd, true); err == nil {
			err = link.ConfigureHost(deviceName, []netip.Prefix{addr}, ourMTU)
		}
		if err == nil {
			err = setQueueLength(deviceName, maxWaiting)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("configure %s: %w", deviceName, err)
		}
		p = &tunPort{fd: fd, addr: addr.Addr()}
		return nil
	})
	return p, err
}

// deviceName is the interface's name in each namespace.
const deviceName = "t0"

func setQueueLength(name string, packets uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint32(packets)
	return unix.IoctlIfreq(fd, unix.SIOCSIFTXQLEN, r)
}
