// Router is waybill as a router between two TAP devices, each in a network namespace of its own, so that what is behind
// them are two hosts:
//
//	router -lan /run/netns/home -wan /run/netns/outside
//
// The interfaces are called lan and wan, and the router's addresses are 198.51.100.1/24 and 203.0.113.1/24. With -nat it
// masquerades, forwards ports and has a household's rules.
package main

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// rules are a household's: out everything may go, in what is asked for.
const rules = `
	policy in drop
	policy forward drop
	allow in icmp
	allow in icmp6
	allow in on lan
	allow forward on lan
	allow forward icmp6 type echo-request
	allow forward on wan tcp to 2001:db8:51::/64 port 80
	allow forward state translated
	nat on wan from 198.51.100.0/24
	forward tcp 203.0.113.1:8080 to 198.51.100.10:80
	forward udp 203.0.113.1:5353 to 198.51.100.10:53
`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "router:", err)
		os.Exit(1)
	}
}

func run() error {
	lan := flag.String("lan", "", "`file` that stands for the network namespace of the device lan; empty: this one")
	wan := flag.String("wan", "", "`file` that stands for the network namespace of the device wan; empty: this one")
	nat := flag.Bool("nat", false, "masquerade, and judge by a household's rules")
	queues := flag.Int("queues", 1, "queues of either device")
	stats := flag.Bool("stats", false, "print the stack's counters in the end")
	var profile service.Profile
	profile.Flags()
	flag.Parse()

	s := stack.New(stack.Config{NoDAD: true, Forwarding: stack.Forwarding{Enabled: true}})
	defer s.Close()
	for _, side := range []struct{ name, space, addr string }{
		{"lan", *lan, "198.51.100.1/24"}, {"wan", *wan, "203.0.113.1/24"},
	} {
		d, err := openIn(side.space, link.TUNConfig{Name: side.name, TAP: true, Queues: *queues})
		if err != nil {
			return err
		}
		if _, err := s.Attach(d, netip.MustParsePrefix(side.addr)); err != nil {
			return err
		}
	}
	if *nat {
		r, err := firewall.Parse(rules)
		if err != nil {
			return err
		}
		if err := s.SetFirewall(r); err != nil {
			return err
		}
	}
	err := profile.Run()
	if *stats {
		fmt.Fprintf(os.Stderr, "%+v\n", s.Stats())
	}
	return err
}

// openIn opens a device in the network namespace that a file stands for. The device remains there, and may be used by
// everybody.
func openIn(space string, c link.TUNConfig) (d link.Device, err error) {
	if space == "" {
		return link.OpenTUN(c)
	}
	f, err := os.Open(space)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err == nil {
			d, err = link.OpenTUN(c)
		}
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("%s in %s: %w", c.Name, space, err)
	}
	return d, nil
}
