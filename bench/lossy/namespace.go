package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace, with the thread that is in it. What is opened there, such as a socket, stays in it and
// may be used by everybody.
type namespace struct {
	work chan func()
	tid  int
}

// newNamespace makes a network namespace. Each of its kernels has buffers that grow to 32 MB, so that none of them is what
// is measured, and remembers nothing of one connection for the next.
func newNamespace() (*namespace, error) {
	ns := &namespace{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine, and the namespace with its sockets
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			ready <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		ns.tid = unix.Gettid()
		ready <- nil
		for f := range ns.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	err := ns.do(func() error {
		for _, s := range [][2]string{
			{"tcp_rmem", "4096 131072 33554432"}, {"tcp_wmem", "4096 131072 33554432"}, {"tcp_no_metrics_save", "1"},
		} {
			// thread-self: /proc/sys/net is that of the thread's namespace.
			if err := os.WriteFile("/proc/sys/net/ipv4/"+s[0], []byte(s[1]), 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		ns.close()
		return nil, err
	}
	return ns, nil
}

// do runs f in the namespace.
func (ns *namespace) do(f func() error) (err error) {
	done := make(chan struct{})
	ns.work <- func() { defer close(done); err = f() }
	<-done
	return err
}

// close ends the thread.
func (ns *namespace) close() { close(ns.work) }
