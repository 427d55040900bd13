// Forward measures a router between two hosts that are kernels: waybill on two TAPs, and the kernel on two veth pairs, each
// forwarding only, and with masquerading and a household's rules. All four are measured in turn, round after round, and
// the medians and their ratios are printed as Markdown. It needs root on Linux, ip and nft, works in network namespaces that
// end with it, and is started in the directory of this module:
//
//	go run ./forward                     five rounds of two seconds: about five minutes
//	go run ./forward -rounds 1 -t 1s -profile /tmp
//
// The two kinds of wire are not alike, and a ratio tells as much of the wire as of the router: a veth pair hands the pointer
// to a packet, of 64 KB with its checksum not yet made, from one namespace to the next in the sender's own context, and no
// octet is copied on the way. Through a TAP, each octet is copied out to the router and in again, and a thread is woken to
// do it. The write runs the receiving kernel's TCP as well, which a profile of the router shows as time in a system call.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/bench/internal/lab"
	"github.com/seed87e66d9f/waybill/bench/internal/table"
)

var workloads = []lab.Workload{
	{Mode: "up", P: 1, Unit: "Gbit/s"}, {Mode: "up", P: 4, Unit: "Gbit/s"},
	{Mode: "down", P: 1, Unit: "Gbit/s"}, {Mode: "down", P: 4, Unit: "Gbit/s"},
	{Mode: "rr", P: 1, Unit: "/s"}, {Mode: "rr", P: 16, Unit: "/s"},
}

// router is what stands between the hosts.
type router struct {
	column string // of the table
	kernel bool   // it is the kernel, or else waybill
	nat    bool   // it masquerades and has rules
}

var routers = []router{
	{"kernel", true, false}, {"waybill", false, false},
	{"kernel, NAT", true, true}, {"waybill, NAT", false, true},
}

// options are the flags.
type options struct {
	rounds  int
	length  time.Duration
	bin     string
	only    []string // modes of the client
	profile string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	modes := flag.String("modes", "up,down,rr", "any of up, down and rr")
	flag.IntVar(&o.rounds, "rounds", 5, "times that each is measured")
	flag.DurationVar(&o.length, "t", 2*time.Second, "how long each is measured")
	flag.StringVar(&o.bin, "bin", "", "`directory` with the programs already built; empty: build them")
	flag.StringVar(&o.profile, "profile", "", "`directory` for a CPU profile of each run of waybill; empty: none")
	flag.Parse()
	o.only = strings.Split(*modes, ",")
	if o.rounds < 1 || o.rounds > 100 || o.length < 100*time.Millisecond || o.length > time.Minute {
		return fmt.Errorf("%d rounds of %v: 1 to 100 rounds of 0.1 s to 1 min are possible", o.rounds, o.length)
	}
	if o.bin == "" {
		dir, err := os.MkdirTemp("", "waybill-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if err := build(ctx, dir); err != nil {
			return err
		}
		o.bin = dir
	}
	fmt.Println(table.Machine())
	fmt.Printf("Medians of %d rounds of %v, taken in turn. Client and server are kernels, with cubic.\n", o.rounds, o.length)
	t, err := o.measure(ctx)
	if err != nil {
		return err
	}
	t.Print(os.Stdout)
	return nil
}

func build(ctx context.Context, dir string) error {
	return lab.Build(ctx, dir, "client", "server", "router")
}

// measure measures each of the routers in each round, and returns the table.
func (o *options) measure(ctx context.Context) (*table.Table, error) {
	t := table.New("A router between two kernels")
	for i := range routers {
		t.Column(routers[i].column)
	}
	t.Ratio("waybill : kernel", "waybill", "kernel")
	t.Ratio("waybill, NAT : kernel, NAT", "waybill, NAT", "kernel, NAT")
	for round := range o.rounds {
		for i := range routers {
			r := &routers[i]
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, o.rounds, r.column)
			if err := o.run(ctx, r, round, t); err != nil {
				return nil, fmt.Errorf("%s: %w", r.column, err)
			}
		}
	}
	return t, nil
}

// run measures one router, and enters the figures in t. What does not answer is reported and has no figure.
func (o *options) run(ctx context.Context, r *router, round int, t *table.Table) error {
	s, err := o.newScene(ctx, r, round)
	if err != nil {
		return err
	}
	defer s.close()
	for _, w := range workloads {
		if !slices.Contains(o.only, w.Mode) {
			continue
		}
		v, err := s.home.Measure(ctx, o.program("client"), w, o.length, "-host", outsideAddr)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s, %v: %v\n", r.column, w, err)
			continue
		}
		t.Add(w.String(), w.Unit, r.column, v)
	}
	return nil
}
