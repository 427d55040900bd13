// Package scene is what examples are made of that show a network from outside: hosts, switches, hubs and cables, all in
// memory and all reporting to one narrator, and the programs that run on the hosts.
package scene

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/firewall"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/narrate"
	"github.com/seed87e66d9f/waybill/stack"
)

// A Scene is a network in the making, and then at work. Its first error is kept, and what comes after it does nothing: Err
// says it once all is built.
type Scene struct {
	Narrator *narrate.Narrator         // hears what the devices report; nil: nobody does
	Instant  bool                      // cables take no time
	Random   func() func([]byte) error // makes the source of random octets of each host; nil: crypto/rand

	parts []io.Closer // in the order in which they end
	err   error
}

// A Socket is where a cable can be plugged in: a link.Switch or a link.Hub.
type Socket interface {
	Port(link.PipeConfig, link.PortConfig) (link.Device, error)
	Attach(link.Device, link.PortConfig) (*link.Port, error)
}

// A Cable leads from a card of a host to a socket. What happens at two devices does not happen at once if no two cables are
// of the same length.
type Cable struct {
	Card   string // the name of the card
	MAC    byte   // the end of the card's address: 02:00:00:00:00:…
	Addr   string // the prefix of the card
	To     Socket
	Port   string        // the name of the socket
	Length time.Duration // how long a frame takes
}

// A card is an Ethernet card with an address of its own.
type card struct {
	link.Device
	name string
	addr ethernet.Addr
}

func (c card) Caps() link.Caps {
	caps := c.Device.Caps()
	caps.Name, caps.Addr = c.name, c.addr
	return caps
}

// Switch makes a switch.
func (s *Scene) Switch(name string) *link.Switch {
	var c link.SwitchConfig
	if s.Narrator != nil {
		c.Trace = s.Narrator.Switch(name)
	}
	sw := link.NewSwitch(c)
	s.parts = append(s.parts, sw)
	return sw
}

// Hub makes a hub.
func (s *Scene) Hub(name string) *link.Hub {
	var c link.HubConfig
	if s.Narrator != nil {
		c.Trace = s.Narrator.Hub(name)
	}
	h := link.NewHub(c)
	s.parts = append(s.parts, h)
	return h
}

// Host makes a host with its cards, and plugs in their cables.
func (s *Scene) Host(name string, c stack.Config, cables ...Cable) *stack.Stack {
	c.NoDAD = true // nobody else is here
	if s.Random != nil {
		c.Rand = s.Random()
	}
	if s.Narrator != nil {
		c = s.Narrator.Stack(name, c)
	}
	h := stack.New(c)
	s.parts = slices.Insert(s.parts, 0, io.Closer(h)) // hosts end before what joins them
	for _, k := range cables {
		if s.err != nil {
			break
		}
		var d link.Device
		if d, s.err = k.To.Port(s.wire(k.Length), link.PortConfig{Name: k.Port}); s.err == nil {
			_, s.err = h.Attach(card{d, k.Card, ethernet.Addr{2, 0, 0, 0, 0, k.MAC}}, netip.MustParsePrefix(k.Addr))
		}
	}
	return h
}

// Plug plugs a device in that belongs to no host of the scene.
func (s *Scene) Plug(d link.Device, to Socket, port string) {
	_, err := to.Attach(d, link.PortConfig{Name: port})
	s.note(err)
}

// Join lays a cable between two sockets: the port of each has the name of the other.
func (s *Scene) Join(a Socket, nameA string, b Socket, nameB string, length time.Duration) {
	near, far := link.Pipe(s.wire(length))
	s.Plug(near, a, nameB)
	s.Plug(far, b, nameA)
}

// wire is a cable of Ethernet as most are: IEEE 802.3 §3.2.7 has 1500 octets in a frame.
func (s *Scene) wire(length time.Duration) link.PipeConfig {
	c := link.PipeConfig{Ethernet: true, MTU: 1500, GSO: 65535, Delay: length}
	if s.Instant {
		c.Delay = 0
	}
	return c
}

// Route gives a host a route, to a prefix by a gateway.
func (s *Scene) Route(h *stack.Stack, dst, via string) {
	if s.err == nil {
		s.err = h.AddRoute(netip.MustParsePrefix(dst), netip.MustParseAddr(via), nil)
	}
}

// Rules gives a host a firewall.
func (s *Scene) Rules(h *stack.Stack, text string) {
	if s.err != nil {
		return
	}
	r, err := firewall.Parse(text)
	if err == nil {
		err = h.SetFirewall(r)
	}
	s.note(err)
}

func (s *Scene) note(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Err is the first error there was.
func (s *Scene) Err() error { return s.err }

// Close ends the scene.
func (s *Scene) Close() error {
	var errs []error
	for _, p := range s.parts {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// settle is longer than what is under way takes to arrive.
const settle = 200 * time.Millisecond

// Settle waits until nothing is under way any more.
func Settle() { time.Sleep(settle) }

// maxTold is how many conversations are told: a page or three each.
const maxTold = 20

// Tell writes what happened to all conversations, but to the first ones only where they are many.
func Tell(w io.Writer, n *narrate.Narrator) error {
	all := n.Conversations()
	if more := len(all) - maxTold; more > 0 {
		defer fmt.Fprintf(w, "There were %d more.\n", more)
	}
	for _, c := range all[:min(len(all), maxTold)] {
		if err := n.Tell(w, c); err != nil {
			return err
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
	}
	return nil
}

// Seeded is a Scene.Random that gives the same octets in each run, and other ones for each host.
func Seeded(seed byte) func() func([]byte) error {
	key := [32]byte{seed}
	return func() func([]byte) error {
		key[1]++
		r := rand.NewChaCha8(key)
		var mu sync.Mutex
		return func(b []byte) error {
			mu.Lock()
			defer mu.Unlock()
			_, err := r.Read(b)
			return err
		}
	}
}
