package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 10 * time.Second // from the start of a server until it says that it serves
	stopTimeout  = 5 * time.Second  // from SIGTERM until it is killed
	slack        = 10 * time.Second // of a client beyond the time that it measures
)

// The client's addresses; the server has .2 and ::2 of the same networks.
const (
	host4 = "198.51.100.1/24"
	host6 = "2001:db8:51::1/64"
)

// measure runs a target's workloads in a namespace of its own, and enters the figures in t. What does not answer is
// reported and has no figure.
func (o *options) measure(ctx context.Context, s *scene, g *target, t *table) error {
	if o.six && g.role == ceiling {
		return nil
	}
	runs := slices.DeleteFunc(slices.Clone(g.runs), func(w workload) bool { return !slices.Contains(o.only, w.mode) })
	if len(runs) == 0 {
		return nil
	}
	ns, err := newNamespace(ctx, s.tuntap)
	if err != nil {
		return err
	}
	defer ns.delete()
	server, err := o.serve(ctx, ns, s, g)
	if err != nil {
		return err
	}
	defer server.stop()
	for _, w := range runs {
		v, err := o.client(ctx, ns, w)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s, %v: %v\n", g.column, w, err)
			continue
		}
		t.add(w.String(), w.unit, g.column, v)
	}
	return nil
}

// client runs one workload, and returns its figure.
func (o *options) client(ctx context.Context, ns namespace, w workload) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, o.length+slack)
	defer cancel()
	args := []string{"-mode", w.mode, "-P", w.p, "-t", o.length.String()}
	if o.six {
		args = append(args, "-6")
	}
	out, err := ns.command(ctx, filepath.Join(o.bin, "client"), args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return 0, err
	}
	f := strings.Split(string(out), "\t")
	if len(f) < 4 {
		return 0, fmt.Errorf("the client said %q", out)
	}
	return strconv.ParseFloat(f[2], 64)
}

// server is a running server.
type server struct{ cmd *exec.Cmd }

// serve starts a target, and waits until it serves.
func (o *options) serve(ctx context.Context, ns namespace, s *scene, g *target) (*server, error) {
	args := append(slices.Clone(g.args[1:]), "-dev", device, "-mode", s.mode)
	cmd := ns.command(ctx, filepath.Join(o.bin, g.args[0]), args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	v := &server{cmd}
	watch := time.AfterFunc(startTimeout, func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if !watch.Stop() || err != nil && err != io.EOF || line != "serving\n" {
		v.stop()
		return nil, fmt.Errorf("%s does not serve", strings.Join(g.args, " "))
	}
	return v, nil
}

// stop ends the server, and waits until it is gone.
func (v *server) stop() {
	kill := time.AfterFunc(stopTimeout, func() { v.cmd.Process.Kill() })
	defer kill.Stop()
	v.cmd.Process.Signal(syscall.SIGTERM)
	v.cmd.Wait()
}

// device is the interface's name in each namespace.
const device = "t0"

// namespace is a network namespace, by its name.
type namespace string

// newNamespace makes a network namespace with a device of the kind that tuntap says, and the client's addresses on it.
func newNamespace(ctx context.Context, tuntap []string) (namespace, error) {
	ns := namespace(fmt.Sprintf("waybill-bench-%d", os.Getpid()))
	if err := ip(ctx, "netns", "add", string(ns)); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		append([]string{"tuntap", "add", "dev", device}, tuntap...),
		{"address", "add", host4, "dev", device},
		{"address", "add", host6, "dev", device, "nodad"},
		{"link", "set", device, "up"},
	} {
		if err := ip(ctx, append([]string{"-n", string(ns)}, args...)...); err != nil {
			ns.delete()
			return "", err
		}
	}
	return ns, nil
}

// delete deletes the namespace; the run may have been cancelled meanwhile.
func (ns namespace) delete() {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := ip(ctx, "netns", "delete", string(ns)); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
	}
}

// command is a program to be run in the namespace. "ip netns exec" becomes that program, so the process is the same.
func (ns namespace) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", string(ns), name}, args...)...)
}

func ip(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
