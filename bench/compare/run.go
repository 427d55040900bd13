package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/seed87e66d9f/waybill/bench/internal/lab"
	"github.com/seed87e66d9f/waybill/bench/internal/table"
)

// The client's addresses; the server has .2 and ::2 of the same networks.
const (
	host4 = "198.51.100.1/24"
	host6 = "2001:db8:51::1/64"
)

// device is the interface's name in each namespace.
const device = "t0"

// measure runs a target's workloads in a namespace of its own, and enters the figures in t. What does not answer is
// reported and has no figure.
func (o *options) measure(ctx context.Context, s *scene, g *target, t *table.Table) error {
	if o.six && g.role == ceiling {
		return nil
	}
	runs := slices.DeleteFunc(slices.Clone(g.runs), func(w lab.Workload) bool { return !slices.Contains(o.only, w.Mode) })
	if len(runs) == 0 {
		return nil
	}
	ns, err := newNamespace(ctx, s.tuntap)
	if err != nil {
		return err
	}
	defer ns.Close()
	args := append([]string{"-dev", device, "-mode", s.mode}, g.args[1:]...) // the target's own -mode is the one that holds
	server, err := ns.Serve(ctx, filepath.Join(o.bin, g.args[0]), args...)
	if err != nil {
		return err
	}
	defer server.Stop()
	var family []string
	if o.six {
		family = []string{"-6"}
	}
	for _, w := range runs {
		v, err := ns.Measure(ctx, filepath.Join(o.bin, "client"), w, o.length, family...)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s, %v: %v\n", g.column, w, err)
			continue
		}
		t.Add(w.String(), w.Unit, g.column, v)
	}
	return nil
}

// newNamespace makes a network namespace with a device of the kind that tuntap says, and the client's addresses on it.
func newNamespace(ctx context.Context, tuntap string) (*lab.Namespace, error) {
	ns, err := lab.NewNamespace()
	if err != nil {
		return nil, err
	}
	err = ns.IP(ctx,
		"link set lo up",
		"tuntap add dev "+device+" "+tuntap,
		"address add "+host4+" dev "+device,
		"address add "+host6+" dev "+device+" nodad",
		"link set "+device+" up")
	if err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}
