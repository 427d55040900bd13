// Package lab makes network namespaces, and runs the programs of this module in them.
package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is a network namespace, with the thread that is in it. What is opened there, such as a socket, stays in it and
// may be used by everybody. It goes away with the thread, what is open in it, and the programs that run there.
type Namespace struct {
	work chan func()
	tid  int
}

// NewNamespace makes a network namespace, with nothing in it but a loopback interface that is down. It needs
// CAP_SYS_ADMIN. Close ends it.
func NewNamespace() (*Namespace, error) {
	n := &Namespace{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with its sockets
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		n.tid = unix.Gettid()
		ready <- nil
		for f := range n.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	return n, nil
}

// Do runs f on the thread that is in the namespace.
func (n *Namespace) Do(f func() error) (err error) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); err = f() }
	<-done
	return err
}

// Path is the file that stands for the namespace, for setns(2) and for what ip calls netns.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), n.tid) }

// Close ends the thread.
func (n *Namespace) Close() { close(n.work) }

// Set writes a file below /proc/sys/net, such as ipv4/ip_forward.
func (n *Namespace) Set(name, value string) error {
	return n.Do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}

// Run runs a program in the namespace until it ends. The error has what it says.
func (n *Namespace) Run(ctx context.Context, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...)
	var said strings.Builder
	c.Stderr = &said
	if err := n.Do(c.Run); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// IP runs ip in the namespace with the words of each line, one after another, up to the first that fails.
func (n *Namespace) IP(ctx context.Context, lines ...string) error {
	for _, l := range lines {
		if err := n.Run(ctx, "ip", strings.Fields(l)...); err != nil {
			return err
		}
	}
	return nil
}
