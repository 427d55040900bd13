package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/bench/internal/lab"
	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// algorithms are waybill's, by the names that the kernel has for its own.
var algorithms = map[string]func(mss int) tcp.Congestion{"cubic": tcp.NewCubic, "reno": tcp.NewReno, "bbr": tcp.NewBBR}

// bigBuffer is the bound of waybill's buffers: as the kernel's, no less than what the fastest and longest path holds.
const bigBuffer = 32 << 20

const (
	dialTimeout = 20 * time.Second // through a path that loses SYNs
	chunk       = 256 << 10        // a Read or Write of the application
	tcpPort     = 9000
)

// host is a stack at an end of the wire: the kernel's, or waybill.
type host struct {
	port
	ns    *lab.Namespace // the kernel's
	stack *stack.Stack   // or waybill
	addr  net.IP
	algo  string
	trace io.Closer
}

// kernelHost is a kernel of its own.
func kernelHost(side side, algo string) (*host, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	p, err := openKernel(ns, side.addr())
	if err != nil {
		ns.Close()
		return nil, err
	}
	return &host{port: p, ns: ns, addr: p.addr.AsSlice(), algo: algo}, nil
}

// waybillHost is a waybill of its own; capture names a file that its packets are written to, if it is not empty.
func waybillHost(side side, algo, capture string) (*host, error) {
	prefix := side.addr()
	p, err := newMemoryPort(prefix.Addr())
	if err != nil {
		return nil, err
	}
	h := &host{port: p, addr: prefix.Addr().AsSlice(), algo: algo}
	d := p.device()
	if capture != "" {
		f, err := os.Create(capture)
		if err != nil {
			return nil, err
		}
		h.trace, d = f, link.Capture(d, f)
	}
	h.stack = stack.New(stack.Config{TCP: tcp.Config{
		Congestion: algorithms[algo], ReadBuffer: bigBuffer, WriteBuffer: bigBuffer,
	}})
	if _, err := h.stack.Attach(d, prefix); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *host) close() {
	if h.ns != nil {
		h.ns.Close()
		unix.Close(h.port.(*tunPort).fd)
		return
	}
	h.stack.Close()
	unix.Close(h.port.(*memoryPort).event)
	if h.trace != nil {
		h.trace.Close()
	}
}

// listen and dial use the host's sockets.
func (h *host) listen(port int) (l net.Listener, err error) {
	address := fmt.Sprintf(":%d", port)
	if h.stack != nil {
		return h.stack.Listen("tcp4", address)
	}
	err = h.ns.Do(func() error {
		l, err = net.Listen("tcp4", address)
		return err
	})
	return l, err
}

func (h *host) dial(ctx context.Context, to net.IP, port int) (c net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	address := net.JoinHostPort(to.String(), fmt.Sprint(port))
	if h.stack != nil {
		return h.stack.DialContext(ctx, "tcp4", address)
	}
	d := net.Dialer{Control: service.Congestion(h.algo)}
	err = h.ns.Do(func() error {
		c, err = d.DialContext(ctx, "tcp4", address)
		return err
	})
	return c, err
}

// transferTime is how long octets are counted, and how long they are not, before.
type transferTime struct{ warmUp, length time.Duration }

// collect reads for as long, and returns how many octets came while they counted.
func collect(c net.Conn, t transferTime) (octets int64, err error) {
	b := make([]byte, chunk)
	for _, d := range []time.Duration{t.warmUp, t.length} {
		if d == 0 {
			continue
		}
		c.SetReadDeadline(time.Now().Add(d))
		octets, err = io.CopyBuffer(onlyWriter{}, onlyReader{c}, b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return octets, errors.Join(errors.New("the sender ended"), err)
		}
	}
	return octets, nil
}

// transfer sends from one host to another for a while, and returns the octets that the receiver read in that time, which
// begins when it has accepted.
func transfer(ctx context.Context, from, to *host, port int, t transferTime, watch func(net.Conn)) (octets int64, err error) {
	l, err := to.listen(port)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	type result struct {
		n   int64
		err error
	}
	read := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			read <- result{0, err}
			return
		}
		defer c.Close()
		n, err := collect(c, t)
		read <- result{n, err}
	}()
	c, err := from.dial(ctx, to.addr, port)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if watch != nil {
		go watch(c)
	}
	go func() {
		b := make([]byte, chunk)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	select {
	case r := <-read:
		if t, ok := c.(interface{ SetLinger(int) error }); ok {
			t.SetLinger(0)
		}
		return r.n, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// onlyReader and onlyWriter keep io.Copy at Read and Write.
type onlyReader struct{ io.Reader }
type onlyWriter struct{}

func (onlyWriter) Write(b []byte) (int, error) { return len(b), nil }
