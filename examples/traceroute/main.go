// Command traceroute finds the routers on the way to a host, over a TCP/IP stack of its own.
//
//	go run ./examples/traceroute                            from one host in this process to the other: a way of one hop
//	sudo go run ./examples/traceroute -tap wb0 203.0.113.9  from a host behind a TAP device, by way of the kernel
//
// Each hop is asked by datagrams to ports that nobody listens at, or with -I by echo requests, whose hop limit ends there: the
// router says so. Flags and output are those of Linux's traceroute, as far as they go. probe.go asks; this file prints.
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
	"strings"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"github.com/seed87e66d9f/waybill/stack"
)

// options are the command line.
type options struct {
	first, most, probes int
	port                int
	wait                float64 // seconds
	echo                bool
	four, six           bool
	size                int
	target              string
}

func main() {
	flags := flag.NewFlagSet("traceroute", flag.ExitOnError)
	network := host.Register(flags)
	network.Quiet = true
	var o options
	o.register(flags)
	o.parse(flags, os.Args[1:])
	err := network.Run(context.Background(), func(_ context.Context, h *host.Host) error {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		from := h.Stack
		if h.Client != nil { // in memory: from the one host to the other
			from = h.Client
		} else if err := h.Ready(); err != nil {
			return err
		}
		return trace(ctx, os.Stdout, from, &o)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "traceroute:", err)
		os.Exit(1)
	}
}

func (o *options) register(flags *flag.FlagSet) {
	flags.IntVar(&o.first, "f", 1, "begin with this `hop`")
	flags.IntVar(&o.most, "m", 30, "go no further than this `hop`")
	flags.IntVar(&o.probes, "q", 3, "ask each hop this many `times`")
	flags.IntVar(&o.port, "p", 33434, "the first `port` to send datagrams to")
	flags.Float64Var(&o.wait, "w", 5, "`seconds` to wait for an answer")
	flags.BoolVar(&o.echo, "I", false, "ask by echo requests")
	flags.BoolVar(&o.four, "4", false, "IPv4 only")
	flags.BoolVar(&o.six, "6", false, "IPv6 only")
	flags.IntVar(&o.size, "s", 32, "octets of data in a probe")
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
	case o.first < 1 || o.most > 255 || o.first > o.most:
		return errors.New("-f and -m: hops are from 1 to 255, and the first comes before the last")
	case o.probes < 1 || o.probes > 10:
		return errors.New("-q: from 1 to 10 probes for each hop")
	case o.port < 1 || o.port+o.most*o.probes > 65535:
		return errors.New("-p: there are not so many ports")
	case o.wait <= 0 || o.size < 0 || o.size > 60000:
		return errors.New("-w and -s: a number above 0, and no more than 60000 octets")
	}
	return nil
}

// trace asks hop by hop until the target answers, and prints to w who did.
func trace(ctx context.Context, w io.Writer, s *stack.Stack, o *options) error {
	if err := o.check(); err != nil {
		return err
	}
	to, err := o.resolve(ctx)
	if err != nil {
		return err
	}
	p, err := newProber(s, to, o)
	if err != nil {
		return err
	}
	defer p.Close()
	header := 28
	if to.Is6() {
		header = 48
	}
	fmt.Fprintf(w, "traceroute to %s (%v), %d hops max, %d byte packets\n", o.target, to, o.most, o.size+header)
	for hop := o.first; hop <= o.most; hop++ {
		fmt.Fprintf(w, "%2d ", hop)
		var last netip.Addr
		arrived := false
		for range o.probes {
			a, err := p.probe(ctx, uint8(hop), time.Duration(o.wait*float64(time.Second)))
			switch {
			case ctx.Err() != nil:
				fmt.Fprintln(w)
				return nil
			case err != nil:
				fmt.Fprintln(w)
				return err
			case !a.from.IsValid():
				fmt.Fprint(w, " *")
				continue
			case a.from != last:
				fmt.Fprintf(w, " %v", a.from)
				last = a.from
			}
			fmt.Fprintf(w, "  %.3f ms%s", float64(a.rtt)/float64(time.Millisecond), a.mark)
			arrived = arrived || a.last
		}
		fmt.Fprintln(w)
		if arrived {
			return nil
		}
	}
	return nil
}

// mark is what stands behind a time where the answer was an error of its own: !H, !N, !P, !F or !X, as in traceroute.
func mark(errno syscall.Errno) string {
	switch errno {
	case syscall.ENETUNREACH:
		return " !N"
	case syscall.EHOSTUNREACH:
		return " !H"
	case syscall.ENOPROTOOPT, syscall.EPROTO:
		return " !P"
	case syscall.EMSGSIZE:
		return " !F"
	case syscall.EACCES:
		return " !X"
	}
	return strings.TrimRight(" !<"+errno.Error()+">", " ")
}
