// Homerouter is a home and what is around it, in one process: a phone and a web server outside, a home router with
// masquerading, a forwarded port and a firewall, and behind it a server, a laptop and, at a hub, a printer. Programs on
// these hosts talk to each other, and the homework is printed: at each device and in order, what came in, from and to
// which station, address and port, what the device looked up and decided, and what went out. All of it is told from what
// the devices report (package narrate).
//
//	go run ./examples/homerouter              all stories, without any rights
//	go run ./examples/homerouter forward      one of them: the phone asks the server, through the forwarded port
//	sudo go run ./examples/homerouter -tap-wan wan0 -tap-lan lan0
//
// With -tap-wan the kernel stands where the phone is, with -tap-lan where the laptop is, and the homework of all that it
// did is printed at the end, or left out with -quiet.
//
// The hosts have fixed addresses: the DHCP server of this project is a module of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/scene"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/narrate"
)

// A story is one thing that happens in the home.
type story struct {
	name, title string
	play        func(ctx context.Context, h *home) error
}

var stories = []story{
	{"forward", "the phone asks the server behind the router, through the forwarded port", func(ctx context.Context, h *home) error {
		return scene.Ask(ctx, h.phone, "203.0.113.1:8080")
	}},
	{"masquerade", "the laptop asks a web server outside, by its name", func(ctx context.Context, h *home) error {
		return scene.Ask(ctx, h.laptop, "www.example:80")
	}},
	{"inside", "the laptop asks the printer, past a switch and a hub", func(ctx context.Context, h *home) error {
		return scene.Ask(ctx, h.laptop, "198.51.100.30:80")
	}},
	{"closed", "the phone tries a port that is not forwarded", func(ctx context.Context, h *home) error {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond) // before the SYN is sent again
		defer cancel()
		if err := scene.Ask(ctx, h.phone, "203.0.113.1:22"); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("port 22: %w, want no answer", err)
		}
		return nil
	}},
}

func main() {
	wan := flag.String("tap-wan", "", "put the kernel in the phone's place, behind the TAP device of this `name`")
	lan := flag.String("tap-lan", "", "put the kernel in the laptop's place, behind the TAP device of this `name`")
	server := flag.String("server", "198.51.100.10:80", "where port 8080 of the router is forwarded to")
	quiet := flag.Bool("quiet", false, "with a TAP device, keep no record of what happens")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: homerouter [FLAGS] [STORY...]\nstories: %s\n", strings.Join(names(), ", "))
		flag.PrintDefaults()
	}
	flag.Parse()
	for _, name := range flag.Args() {
		if !slices.Contains(names(), name) {
			flag.Usage()
			os.Exit(2)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var err error
	if *wan == "" && *lan == "" {
		err = homework(ctx, os.Stdout, func() *home { return &home{server: *server} }, flag.Args())
	} else {
		err = outside(ctx, os.Stdout, *wan, *lan, *quiet, &home{server: *server})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "homerouter:", err)
		os.Exit(1)
	}
}

func names() (all []string) {
	for _, s := range stories {
		all = append(all, s.name)
	}
	return all
}

// homework plays stories, each in a new home, and writes what happened.
func homework(ctx context.Context, w io.Writer, newHome func() *home, names []string) error {
	for _, s := range stories {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		h := newHome()
		h.Narrator = narrate.New()
		err := h.build()
		if err == nil {
			scene.Settle() // the hosts say hello to their links
			h.Narrator.Forget()
			err = s.play(ctx, h)
			scene.Settle()
		}
		if err == nil {
			fmt.Fprintf(w, "%s: %s\n\n", s.name, s.title)
			err = scene.Tell(w, h.Narrator)
		}
		if err = errors.Join(err, h.Close()); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// outside runs a home that the kernel takes part in, until ctx ends.
func outside(ctx context.Context, w io.Writer, wan, lan string, quiet bool, h *home) error {
	h.Instant = true
	if !quiet {
		h.Narrator = narrate.New()
	}
	defer h.Close()
	var err error
	for _, t := range []struct {
		name   string
		device *link.Device
	}{{wan, &h.wanTAP}, {lan, &h.lanTAP}} {
		if t.name == "" {
			continue
		}
		if *t.device, err = link.OpenTUN(link.TUNConfig{Name: t.name, TAP: true}); err != nil {
			return err
		}
	}
	if err := h.build(); err != nil {
		return err
	}
	fmt.Fprint(w, hints(wan, lan))
	<-ctx.Done()
	if quiet {
		return nil
	}
	return scene.Tell(w, h.Narrator)
}

// hints says how the kernel takes its places, each in a network namespace.
func hints(wan, lan string) string {
	text := "the home is up; in another terminal:\n"
	for _, t := range []struct{ name, space, addr, more, try string }{
		{wan, "phone", phoneAddr, "", "curl http://203.0.113.1:8080/"},
		{lan, "laptop", laptopAddr, "ip -n laptop route add default via 198.51.100.1", "curl http://203.0.113.80/"},
	} {
		if t.name == "" {
			continue
		}
		text += fmt.Sprintf("  ip netns add %[2]s; ip link set %[1]s netns %[2]s; ip -n %[2]s link set lo up\n"+
			"  ip -n %[2]s addr add %[3]s dev %[1]s; ip -n %[2]s link set %[1]s up\n", t.name, t.space, t.addr)
		if t.more != "" {
			text += "  " + t.more + "\n"
		}
		text += fmt.Sprintf("  ip netns exec %s %s\n", t.space, t.try)
	}
	return text
}
