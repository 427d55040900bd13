// Internet shows what happens between a name in the address bar and the page, in one process: a laptop at home asks a name
// server, its home router masquerades, a provider's router knows the routes, a firewall lets one port in, and a reverse proxy
// passes the request on to one of three servers. What is printed is told from what the devices report (package narrate).
//
//	go run ./examples/internet          one page
//	go run ./examples/internet -n 3     three, each from another server
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/scene"
	"github.com/seed87e66d9f/waybill/narrate"
	"github.com/seed87e66d9f/waybill/stack"
)

func main() {
	pages := flag.Int("n", 1, "how often the page is asked for")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := browse(ctx, os.Stdout, new(scene.Scene), *pages); err != nil {
		fmt.Fprintln(os.Stderr, "internet:", err)
		os.Exit(1)
	}
}

// browse asks for the page a number of times, and writes what happened.
func browse(ctx context.Context, w io.Writer, s *scene.Scene, pages int) (err error) {
	s.Narrator = narrate.New()
	defer func() { err = errors.Join(err, s.Close()) }()
	laptop, err := build(s)
	if err != nil {
		return err
	}
	scene.Settle() // the hosts say hello to their links
	s.Narrator.Forget()
	for range pages {
		if err := scene.Ask(ctx, laptop, "www.example:80"); err != nil {
			return err
		}
		scene.Settle()
	}
	return scene.Tell(w, s.Narrator)
}

// The networks, of addresses for documentation (RFC 5737):
//
//	192.0.2.0/24        at home: the laptop .10, the router .1
//	198.51.100.0/30     from the home router .2 to the provider's .1
//	198.51.100.64/26    at the provider's: the name server .100, the router .65
//	198.51.100.4/30     from the provider's router .5 to the firewall .6
//	203.0.113.0/28      before the servers: the firewall .1, the proxy .10
//	203.0.113.128/25    the proxy .129, the servers .131, .132 and .133
const (
	homeRules = `policy in drop
policy forward drop
allow forward on lan via wan
nat on wan from 192.0.2.0/24
`
	serverRules = `policy in drop
policy forward drop
allow forward on outside tcp from any to 203.0.113.10 port 80
`
)

// build makes the network, and returns the laptop.
func build(s *scene.Scene) (laptop *stack.Stack, err error) {
	home, provider, front, back := s.Switch("home switch"), s.Switch("provider's switch"), s.Switch("front switch"), s.Switch("back switch")
	toHome, toServers := s.Hub("line to the home"), s.Hub("line to the servers") // a line is a hub with two ends
	router := stack.Config{Forwarding: stack.Forwarding{Enabled: true}}
	const us, ms = time.Microsecond, time.Millisecond

	laptop = s.Host("laptop", stack.Config{DNS: []netip.AddrPort{netip.MustParseAddrPort("198.51.100.100:53")}},
		scene.Cable{Card: "eth0", MAC: 0x10, Addr: "192.0.2.10/24", To: home, Port: "laptop", Length: 110 * us})
	gateway := s.Host("home router", router,
		scene.Cable{Card: "lan", MAC: 0x11, Addr: "192.0.2.1/24", To: home, Port: "router", Length: 120 * us},
		scene.Cable{Card: "wan", MAC: 0x12, Addr: "198.51.100.2/30", To: toHome, Port: "home", Length: 2 * ms})
	carrier := s.Host("provider's router", router,
		scene.Cable{Card: "customer", MAC: 0x21, Addr: "198.51.100.1/30", To: toHome, Port: "provider", Length: 3 * ms},
		scene.Cable{Card: "inner", MAC: 0x22, Addr: "198.51.100.65/26", To: provider, Port: "router", Length: 130 * us},
		scene.Cable{Card: "servers", MAC: 0x23, Addr: "198.51.100.5/30", To: toServers, Port: "provider", Length: 4 * ms})
	names := s.Host("name server", stack.Config{},
		scene.Cable{Card: "eth0", MAC: 0x24, Addr: "198.51.100.100/26", To: provider, Port: "names", Length: 140 * us})
	wall := s.Host("firewall", router,
		scene.Cable{Card: "outside", MAC: 0x31, Addr: "198.51.100.6/30", To: toServers, Port: "firewall", Length: 5 * ms},
		scene.Cable{Card: "inside", MAC: 0x32, Addr: "203.0.113.1/28", To: front, Port: "firewall", Length: 150 * us})
	proxy := s.Host("reverse proxy", stack.Config{},
		scene.Cable{Card: "front", MAC: 0x41, Addr: "203.0.113.10/28", To: front, Port: "proxy", Length: 160 * us},
		scene.Cable{Card: "back", MAC: 0x42, Addr: "203.0.113.129/25", To: back, Port: "proxy", Length: 170 * us})
	for i := range 3 {
		name := fmt.Sprintf("server %d", i+1)
		server := s.Host(name, stack.Config{}, scene.Cable{Card: "eth0", MAC: byte(0x51 + i), Addr: fmt.Sprintf("203.0.113.%d/25", 131+i),
			To: back, Port: name, Length: time.Duration(181+10*i) * us})
		s.ServeWeb(server, name)
	}

	s.Route(laptop, "0.0.0.0/0", "192.0.2.1")
	s.Route(gateway, "0.0.0.0/0", "198.51.100.1")
	s.Route(carrier, "203.0.113.0/24", "198.51.100.6") // and the home's one address is on a link of its own
	s.Route(names, "0.0.0.0/0", "198.51.100.65")
	s.Route(wall, "0.0.0.0/0", "198.51.100.5")
	s.Route(proxy, "0.0.0.0/0", "203.0.113.1")
	s.Rules(gateway, homeRules)
	s.Rules(wall, serverRules)
	s.ServeNames(names, "198.51.100.100", map[string]string{"www.example.": "203.0.113.10"})
	s.ServeProxy(proxy, "203.0.113.131:80", "203.0.113.132:80", "203.0.113.133:80")
	return laptop, s.Err()
}
