package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/bench/internal/table"
)

const (
	// memoryTest is the file that the benchmarks of this module are built into.
	memoryTest = "bench.test"
	// slack is how long a benchmark may take beyond its time.
	slack = 10 * time.Second
)

// memoryRows are the benchmarks that are compared: the metric that is read, and how it stands in the table.
var memoryRows = []struct {
	name, metric, unit string
	convert            func(float64) float64
}{
	{"Bulk/mtu=1500", "MB/s", "Gbit/s", gigabits},
	{"Bulk/mtu=65535", "MB/s", "Gbit/s", gigabits},
	{"RoundTrip/mtu=1500", "ns/op", "/s", perSecond},
	{"RoundTrip/mtu=65535", "ns/op", "/s", perSecond},
	{"Connect", "ns/op", "/s", perSecond},
}

func gigabits(megabytes float64) float64    { return megabytes * 8 / 1000 }
func perSecond(nanoseconds float64) float64 { return 1e9 / nanoseconds }

// memory runs the in-process benchmarks of two stacks on one wire, of each kind in turn.
func (o *options) memory(ctx context.Context) error {
	t := table.New("In memory: two stacks of a kind on one wire")
	t.Column("netstack")
	t.Column("waybill")
	t.Ratio("waybill : peer", "waybill", "netstack")
	for round := range o.rounds {
		for _, c := range t.Columns() {
			fmt.Fprintf(os.Stderr, "memory, round %d of %d: %s\n", round+1, o.rounds, c)
			for _, r := range memoryRows {
				v, err := o.benchmark(ctx, c, r.name, r.metric)
				if err != nil {
					return err
				}
				t.Add(r.name, r.unit, c, r.convert(v))
			}
		}
	}
	t.Print(os.Stdout)
	return nil
}

// benchmark runs one benchmark for one stack, and returns the metric.
func (o *options) benchmark(ctx context.Context, stack, name, metric string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*o.length+slack) // it runs several times until it takes as long as asked
	defer cancel()
	first, rest, deeper := strings.Cut(name, "/")
	pattern := "^Benchmark" + first + "$/^stack=" + stack + "$"
	if deeper {
		pattern += "/^" + rest + "$"
	}
	out, err := exec.CommandContext(ctx, filepath.Join(o.bin, memoryTest), "-test.run=^$", "-test.bench="+pattern,
		"-test.benchtime="+o.length.String()).Output()
	if err != nil {
		return 0, fmt.Errorf("benchmark %s: %w", pattern, err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		for i := 1; i < len(f); i++ {
			if strings.HasPrefix(line, "Benchmark") && f[i] == metric {
				return strconv.ParseFloat(f[i-1], 64)
			}
		}
	}
	return 0, fmt.Errorf("benchmark %s has no %s:\n%s", pattern, metric, out)
}
