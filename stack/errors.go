package stack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// opError wraps err as package net does: the end of the stream stands bare, an errno names its system call.
func (c *TCPConn) opError(op string, err error) error {
	if err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: c.network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: sysError(op, err)}
}

// setNetwork notes the network that errors name: that of the dial or of the listener.
func (c *TCPConn) setNetwork(network string) {
	if n := len("tcp"); len(network) > n {
		c.family = network[n]
	}
}

func (c *TCPConn) network() string {
	switch c.family {
	case '4':
		return "tcp4"
	case '6':
		return "tcp6"
	}
	return "tcp"
}

// sysError names the system call that would have failed with err.
func sysError(op string, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch op {
	case "dial":
		op = "connect"
	case "listen":
		op = "bind"
	case "writeto":
		op = "read"
	case "readfrom":
		op = "write"
	}
	var already *os.SyscallError
	if errors.As(err, &already) {
		return err
	}
	return os.NewSyscallError(op, errno)
}

// The errors of a dial that its context ended read, and compare, as package net's.
type canceled struct{}

func (canceled) Error() string        { return "operation was canceled" }
func (canceled) Is(target error) bool { return target == context.Canceled }

type timeout struct{}

func (timeout) Error() string        { return "i/o timeout" }
func (timeout) Timeout() bool        { return true }
func (timeout) Temporary() bool      { return true }
func (timeout) Is(target error) bool { return target == context.DeadlineExceeded }

func contextError(err error) error {
	switch err {
	case context.Canceled:
		return canceled{}
	case context.DeadlineExceeded:
		return timeout{}
	}
	return err
}

// dialError and listenError are what package net returns of Dial and Listen.
func dialError(network string, source, addr net.Addr, err error) error {
	return &net.OpError{Op: "dial", Net: network, Source: source, Addr: addr, Err: sysError("dial", contextError(err))}
}

func listenError(network string, addr net.Addr, err error) error {
	return &net.OpError{Op: "listen", Net: network, Addr: addr, Err: sysError("listen", err)}
}

// netAddr is the address type that package net uses for the network.
func netAddr(network string, a netip.AddrPort) net.Addr {
	if !a.IsValid() {
		return nil
	}
	if strings.HasPrefix(network, "ip") {
		return ipAddr(a.Addr())
	}
	if strings.HasPrefix(network, "udp") {
		return net.UDPAddrFromAddrPort(a)
	}
	return net.TCPAddrFromAddrPort(a)
}
