// Command ping sends echo requests over a TCP/IP stack of its own, and tells of the replies.
//
//	go run ./examples/ping                            from one host in this process to the other
//	sudo go run ./examples/ping -tap wb0 198.51.100.1 from a host behind a TAP device, to the kernel or beyond
//
// Flags and output are those of Linux's ping, as far as they go: it ends with status 0 where a reply has come, with 1 where
// none has, and with 2 where something else is wrong. statistics.go counts; this file asks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"github.com/seed87e66d9f/waybill/stack"
)

// options are the command line.
type options struct {
	count          int
	interval, wait float64 // seconds
	deadline       float64
	ttl, tos       uint
	size           int
	four, six      bool
	quiet, whole   bool
	target         string
}

func main() {
	flags := flag.NewFlagSet("ping", flag.ExitOnError)
	network := host.Register(flags)
	network.Quiet = true
	var o options
	o.register(flags)
	o.parse(flags, os.Args[1:])
	replied := false
	err := network.Run(context.Background(), func(_ context.Context, h *host.Host) (err error) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		from := h.Stack
		if h.Client != nil { // in memory: from the one host to the other
			from = h.Client
		} else if err := h.Ready(); err != nil {
			return err
		}
		replied, err = ping(ctx, os.Stdout, from, &o)
		return err
	})
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "ping:", err)
		os.Exit(2)
	case !replied:
		os.Exit(1)
	}
}

func (o *options) register(flags *flag.FlagSet) {
	flags.IntVar(&o.count, "c", 0, "stop after this `number` of requests; 0: go on until interrupted")
	flags.Float64Var(&o.interval, "i", 1, "`seconds` between requests")
	flags.Float64Var(&o.wait, "W", 10, "`seconds` to wait for a reply")
	flags.Float64Var(&o.deadline, "w", 0, "end after so many `seconds`; 0: never")
	flags.UintVar(&o.ttl, "t", 0, "TTL or hop limit; 0: 64")
	flags.UintVar(&o.tos, "Q", 0, "TOS or traffic class")
	flags.IntVar(&o.size, "s", 56, "octets of data")
	flags.BoolVar(&o.four, "4", false, "IPv4 only")
	flags.BoolVar(&o.six, "6", false, "IPv6 only")
	flags.BoolVar(&o.quiet, "q", false, "print nothing but the summary")
	flags.BoolVar(&o.whole, "M", false, "send no fragments")
}

// parse reads the command line, in which the target may stand before or behind the flags.
func (o *options) parse(flags *flag.FlagSet, args []string) {
	for {
		flags.Parse(args)
		if flags.NArg() == 0 {
			return
		}
		o.target, args = flags.Arg(0), flags.Args()[1:]
	}
}

// resolve finds the address that is meant: that of the other host in memory where none is.
func (o *options) resolve(ctx context.Context) (netip.Addr, error) {
	if o.target == "" {
		o.target = "198.51.100.2"
		if o.six {
			o.target = "2001:db8:51::2"
		}
	}
	network := "ip"
	switch {
	case o.four && o.six:
		return netip.Addr{}, errors.New("-4 and -6: one family, please")
	case o.four:
		network = "ip4"
	case o.six:
		network = "ip6"
	}
	all, err := net.DefaultResolver.LookupNetIP(ctx, network, o.target)
	if err != nil {
		return netip.Addr{}, err
	}
	return all[0].Unmap(), nil
}

func (o *options) check() error {
	switch {
	case o.size < 0 || o.size > 65507: // RFC 768 and 792: what a packet of 65,535 octets has room for
		return fmt.Errorf("-s %d: from 0 to 65507 octets", o.size)
	case o.ttl > 255 || o.tos > 255:
		return errors.New("-t and -Q are octets, from 0 to 255")
	case o.interval < 0.001 || o.wait <= 0 || o.count < 0 || o.deadline < 0:
		return errors.New("-c, -i, -w and -W: a number above 0, please, and at least 0.001 s between requests")
	}
	return nil
}

// seconds are so many of them.
func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// ping asks until ctx ends or it has asked enough, prints what it hears to w, and reports whether anybody replied.
func ping(ctx context.Context, w io.Writer, s *stack.Stack, o *options) (bool, error) {
	if err := o.check(); err != nil {
		return false, err
	}
	to, err := o.resolve(ctx)
	if err != nil {
		return false, err
	}
	if o.deadline > 0 {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, seconds(o.deadline))
		defer cancel()
	}
	header := 28
	if to.Is6() {
		header = 48
	}
	fmt.Fprintf(w, "PING %s (%v) %d(%d) bytes of data.\n", o.target, to, o.size, o.size+header)
	data := make([]byte, o.size)
	for i := range data {
		data[i] = byte(i)
	}
	st := statistics{w: w, quiet: o.quiet, began: time.Now()}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	var replies sync.WaitGroup
	next := time.NewTicker(seconds(o.interval))
	defer next.Stop()
	for seq := 1; (o.count == 0 || seq <= o.count) && ctx.Err() == nil; seq++ {
		st.sent()
		replies.Go(func() {
			ctx, cancel := context.WithTimeout(waiting, seconds(o.wait))
			defer cancel()
			r, err := s.Ping(ctx, to, stack.PingConfig{Seq: uint16(seq), Data: data, HopLimit: uint8(o.ttl), TOS: uint8(o.tos), DontFragment: o.whole})
			st.heard(seq, r, err)
		})
		if seq == o.count {
			break
		}
		select {
		case <-ctx.Done():
		case <-next.C:
		}
	}
	replies.Wait()
	return st.summary(o.target), nil
}
