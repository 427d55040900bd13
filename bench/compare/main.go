// Compare runs gVisor's netstack, the ceiling and waybill behind the same devices in turn, again and again, with the
// kernel's sockets as their client, and prints the medians and their ratios as Markdown. It needs root on Linux, works in
// network namespaces that it makes and deletes, and is started in the directory of this module:
//
//	go run ./compare                            everything: about twenty-five minutes
//	go run ./compare -device vnet -rounds 1 -t 1s
//
// Only ratios of one run mean anything: the machine, and what else it does, are in every figure.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
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
	{Mode: "crr", P: 1, Unit: "/s"}, {Mode: "crr", P: 16, Unit: "/s"},
}

var bulk, trips = workloads[:4], workloads[4:]

// role is what a target is to waybill.
type role int

const (
	peer role = iota
	ceiling
	ours
)

// target is a server in one configuration.
type target struct {
	role
	column string   // of the table
	args   []string // the program and its flags
	runs   []lab.Workload
}

// scene is a device with the targets that are measured behind it.
type scene struct {
	name, title string
	tuntap      string // of "ip tuntap add"
	mode        string // of the servers
	targets     []target
}

var scenes = []scene{
	{"vnet", "TUN with the virtio header (super-segments of 64 KB)", "mode tun vnet_hdr", "vnet", []target{
		{peer, "netstack", []string{"netstack"}, workloads},
		{peer, "netstack, polled", []string{"netstack", "-poll"}, workloads},
		{ceiling, "ceiling", []string{"ceiling", "-copy"}, bulk},
		{ceiling, "ceiling", []string{"ceiling", "-copy", "-app", "-poll"}, trips},
		{ours, "waybill", []string{"server"}, workloads},
	}},
	{"tap", "TAP", "mode tap", "tap", []target{
		{peer, "netstack", []string{"netstack"}, workloads},
		{ceiling, "ceiling, offloads", []string{"ceiling", "-copy"}, bulk},
		{ceiling, "ceiling, offloads", []string{"ceiling", "-copy", "-app", "-poll"}, trips},
		{ceiling, "ceiling, water", []string{"ceiling", "-copy", "-mode", "water"}, bulk},
		{ceiling, "ceiling, water", []string{"ceiling", "-copy", "-app", "-poll", "-mode", "water"}, trips},
		{ours, "waybill, offloads", []string{"server", "-offload"}, workloads},
		{ours, "waybill, water", []string{"server", "-water"}, workloads},
	}},
	{"tun", "TUN, one packet a system call", "mode tun", "tun", []target{
		{peer, "netstack", []string{"netstack"}, workloads},
		{ours, "waybill", []string{"server"}, workloads},
		{ours, "waybill, water", []string{"server", "-water"}, workloads},
	}},
}

// options are the flags.
type options struct {
	rounds int
	length time.Duration
	bin    string
	only   []string // modes of the client
	six    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	devices := flag.String("device", "vnet,tap,memory", "any of vnet, tap, tun and memory")
	modes := flag.String("modes", "up,down,rr,crr", "any of up, down, rr and crr")
	flag.IntVar(&o.rounds, "rounds", 5, "times that each is measured")
	flag.DurationVar(&o.length, "t", 3*time.Second, "how long each is measured")
	flag.StringVar(&o.bin, "bin", "", "`directory` with the programs already built; empty: build them")
	flag.BoolVar(&o.six, "6", false, "over IPv6, which the ceiling cannot")
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
	fmt.Printf("Medians of %d rounds of %v, taken in turn. The client is the kernel, with cubic.\n", o.rounds, o.length)
	for name := range strings.SplitSeq(*devices, ",") {
		if err := o.device(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func build(ctx context.Context, dir string) error {
	if err := lab.Build(ctx, dir, "server", "netstack", "ceiling", "client"); err != nil {
		return err
	}
	t := exec.CommandContext(ctx, "go", "test", "-c", "-o", dir+"/"+memoryTest, ".")
	t.Stderr = os.Stderr
	if err := t.Run(); err != nil {
		return fmt.Errorf("build the benchmarks: %w", err)
	}
	return nil
}

// device measures what stands behind one device, and prints its table.
func (o *options) device(ctx context.Context, name string) error {
	if name == "memory" {
		return o.memory(ctx)
	}
	i := slices.IndexFunc(scenes, func(s scene) bool { return s.name == name })
	if i < 0 {
		return fmt.Errorf("no device %q", name)
	}
	s := &scenes[i]
	t := table.New(s.title)
	s.columns(t)
	for round := range o.rounds {
		for k := range s.targets {
			fmt.Fprintf(os.Stderr, "%s, round %d of %d: %s\n", name, round+1, o.rounds, strings.Join(s.targets[k].args, " "))
			if err := o.measure(ctx, s, &s.targets[k], t); err != nil {
				return err
			}
		}
	}
	t.Print(os.Stdout)
	return nil
}

// columns names the columns of a scene's table: the targets, and how each of ours compares to the best peer and to its
// ceiling, whose column has "ceiling" in the place of "waybill".
func (s *scene) columns(t *table.Table) {
	of := map[role][]string{}
	for _, g := range s.targets {
		t.Column(g.column)
		if !slices.Contains(of[g.role], g.column) {
			of[g.role] = append(of[g.role], g.column)
		}
	}
	for _, c := range of[ours] {
		t.Ratio(c+" : peer", c, of[peer]...)
		if above := strings.Replace(c, "waybill", "ceiling", 1); slices.Contains(of[ceiling], above) {
			t.Ratio(c+" : ceiling", c, above)
		}
	}
}
