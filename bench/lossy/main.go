// Lossy measures a sender's loss recovery and congestion control against the kernel's. It is a wire between two hosts, with
// a rate, a delay, a queue, random loss and reordering, which carries kernel to kernel, waybill to kernel and kernel to
// waybill in one run. The wire is the same for all: the kernels are behind TUN devices in network namespaces, waybill is
// attached to it in memory. It needs root on Linux and the algorithm in the kernel (modprobe tcp_bbr).
//
//	go run ./lossy                                   cubic, 0.1, 1 and 3 % × 10, 50 and 200 ms, five seeds of 20 s
//	go run ./lossy -algo reno -seeds 1 -t 10s
//	go run ./lossy -loss 0 -reorder 5                5 % of the packets are overtaken by up to 20
//	go run ./lossy -share                            waybill and the kernel send through the same bottleneck
//	go run ./lossy -nft                              super-segments dropped whole, with netstack as third
//
// It prints Markdown: medians over the seeds, ratios, what the wire carried though it had delivered it before, and how busy
// the machine was. A wire that was late by more than a few milliseconds shows in the last column: do not quote that row.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	losses, reorders []float64 // fractions
	rtts             []time.Duration
	rate             float64 // Mbit/s
	queue            float64 // bandwidth-delay products
	seeds            int
	first            uint64
	length           time.Duration
	warmUp           time.Duration
	algo             string
	modes            []string
	parallel         int
	capture          string
	watch            bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lossy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o options
	loss := flag.String("loss", "0.1,1,3", "random loss in `percent`")
	reorder := flag.String("reorder", "0", "`percent` of packets that are overtaken by up to 20 later ones")
	rtt := flag.String("rtt", "10ms,50ms,200ms", "round-trip `times`")
	modes := flag.String("modes", "kk,wk,kw", "who sends to whom: k is the kernel, w is waybill")
	share := flag.Bool("share", false, "waybill and the kernel send at once")
	nft := flag.Bool("nft", false, "drop at the receiving kernel's input hook, over devices with super-segments")
	flag.Float64Var(&o.rate, "rate", 100, "of the bottleneck in `Mbit/s`")
	flag.Float64Var(&o.queue, "queue", 1, "of the bottleneck, in `products` of rate and round-trip time, at least 64 packets")
	flag.IntVar(&o.seeds, "seeds", 5, "runs of each cell")
	flag.Uint64Var(&o.first, "seed", 1, "the first seed")
	flag.DurationVar(&o.length, "t", 20*time.Second, "how long a run is")
	flag.DurationVar(&o.warmUp, "warmup", 30*time.Second, "with -share: how long both send before they are measured")
	flag.StringVar(&o.algo, "algo", "cubic", "of both senders: cubic, reno or bbr")
	flag.IntVar(&o.parallel, "cells", 2, "runs at the same time")
	flag.StringVar(&o.capture, "capture", "", "write waybill's packets to `file`s that begin so")
	flag.BoolVar(&o.watch, "watch", false, "print the state of waybill's connection every half second")
	flag.Parse()
	var err error
	if o.losses, err = percents(*loss); err != nil {
		return err
	}
	if o.reorders, err = percents(*reorder); err != nil {
		return err
	}
	for f := range strings.SplitSeq(*rtt, ",") {
		d, err := time.ParseDuration(f)
		if err != nil || d < 0 || d > 10*time.Second {
			return fmt.Errorf("round-trip time %q: 0 to 10 s", f)
		}
		o.rtts = append(o.rtts, d)
	}
	o.modes = strings.Split(*modes, ",")
	if algorithms[o.algo] == nil {
		return fmt.Errorf("no algorithm %q", o.algo)
	}
	if o.seeds < 1 || o.parallel < 1 || o.rate <= 0 || o.queue <= 0 {
		return fmt.Errorf("-seeds, -cells, -rate and -queue are more than 0")
	}
	if *nft {
		return o.drop(ctx)
	}
	// The wires' threads wait in system calls, and the operating system says better than the runtime who is next.
	runtime.GOMAXPROCS(max(runtime.NumCPU(), 4*o.parallel))
	if *share {
		return o.share(ctx)
	}
	return o.compare(ctx)
}

func percents(s string) (v []float64, err error) {
	for f := range strings.SplitSeq(s, ",") {
		x, err := strconv.ParseFloat(f, 64)
		if err != nil || x < 0 || x > 100 {
			return nil, fmt.Errorf("%q is no percentage", f)
		}
		v = append(v, x/100)
	}
	return v, nil
}
