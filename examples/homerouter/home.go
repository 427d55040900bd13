package main

import (
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/scene"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// The addresses of the hosts, for documentation (RFC 5737): 203.0.113.0/24 is outside, 198.51.100.0/24 at home.
const (
	phoneAddr   = "203.0.113.9/24"
	webAddr     = "203.0.113.80/24"
	wanAddr     = "203.0.113.1/24"
	lanAddr     = "198.51.100.1/24"
	serverAddr  = "198.51.100.10/24"
	laptopAddr  = "198.51.100.20/24"
	printerAddr = "198.51.100.30/24"
	gateway     = "198.51.100.1"
)

// rules are the router's: out everything may go, in what the forwarded port lets in.
const rules = `policy in drop
policy forward drop
allow in on lan
allow in icmp type echo-request limit 10/second burst 20
allow forward on lan via wan
allow forward state translated
nat on wan from 198.51.100.0/24
clamp mss on wan
forward tcp on wan port 8080 to `

// A home is the hosts that take part in stories, and what stands in their place.
type home struct {
	scene.Scene
	server         string      // where port 8080 is forwarded to
	wanTAP, lanTAP link.Device // stand in the place of the phone and of the laptop; nil: hosts of our own

	phone, laptop *stack.Stack
}

// build makes the home.
func (h *home) build() error {
	provider, lan, hub := h.Switch("provider's switch"), h.Switch("switch"), h.Hub("hub")
	h.Join(lan, "switch", hub, "hub", 550*time.Microsecond)

	if h.wanTAP != nil {
		h.Plug(h.wanTAP, provider, "phone")
	} else {
		h.phone = h.Host("phone", stack.Config{}, scene.Cable{Card: "eth0", MAC: 0x09, Addr: phoneAddr, To: provider, Port: "phone", Length: 10 * time.Millisecond})
	}
	web := h.Host("web server", stack.Config{}, scene.Cable{Card: "eth0", MAC: 0x80, Addr: webAddr, To: provider, Port: "web", Length: 13 * time.Millisecond})
	router := h.Host("router", stack.Config{Forwarding: stack.Forwarding{Enabled: true}},
		scene.Cable{Card: "wan", MAC: 0x01, Addr: wanAddr, To: provider, Port: "router", Length: 3 * time.Millisecond},
		scene.Cable{Card: "lan", MAC: 0x11, Addr: lanAddr, To: lan, Port: "router", Length: 100 * time.Microsecond})
	server := h.Host("server", stack.Config{}, scene.Cable{Card: "eth0", MAC: 0x10, Addr: serverAddr, To: lan, Port: "server", Length: 210 * time.Microsecond})
	if h.lanTAP != nil {
		h.Plug(h.lanTAP, lan, "laptop")
	} else {
		h.laptop = h.Host("laptop", stack.Config{DNS: []netip.AddrPort{netip.MustParseAddrPort(gateway + ":53")}},
			scene.Cable{Card: "eth0", MAC: 0x20, Addr: laptopAddr, To: lan, Port: "laptop", Length: 320 * time.Microsecond})
		h.Route(h.laptop, "0.0.0.0/0", gateway)
	}
	printer := h.Host("printer", stack.Config{}, scene.Cable{Card: "eth0", MAC: 0x30, Addr: printerAddr, To: hub, Port: "printer", Length: 430 * time.Microsecond})

	h.Route(server, "0.0.0.0/0", gateway)
	h.Route(printer, "0.0.0.0/0", gateway)
	h.Rules(router, rules+h.server)
	h.ServeNames(router, gateway, map[string]string{"www.example.": "203.0.113.80", "server.example.": "198.51.100.10", "printer.example.": "198.51.100.30"})
	h.ServeWeb(web, "web server")
	h.ServeWeb(server, "server")
	h.ServeWeb(printer, "printer")
	return h.Err()
}
