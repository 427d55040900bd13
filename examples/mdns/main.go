// Command mdns asks a link for names under .local, and answers for one of its own, by multicast DNS (RFC 6762) over a TCP/IP
// stack of its own.
//
//	go run ./examples/mdns                                  one host in this process asks the other for its name
//	sudo go run ./examples/mdns -tap wb0 kernelhost.local   a host behind a TAP device asks, and answers for waybill.local
//	sudo go run ./examples/mdns -tap wb0 -wait 1h           it answers for an hour; try avahi-resolve -n waybill.local
//
// There is no server: a question goes to a group, and who knows the answer says it to the group. A name is asked for its
// addresses, or where it is a service, such as _services._dns-sd._udp.local or _ssh._tcp.local, for who offers it (RFC 6763).
// answer.go is about what messages say; this file carries them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"github.com/seed87e66d9f/waybill/stack"
)

// groups is whom everybody asks (RFC 6762 §3).
var groups = []netip.AddrPort{
	netip.MustParseAddrPort("224.0.0.251:5353"),
	netip.MustParseAddrPort("[ff02::fb]:5353"),
}

func main() {
	network := host.Register(flag.CommandLine)
	network.Quiet = true
	wait := flag.Duration("wait", 3*time.Second, "for how long to listen")
	name := flag.String("name", "waybill.local", "the name to answer for")
	flag.Parse()
	names := flag.Args()
	err := network.Run(context.Background(), func(ctx context.Context, h *host.Host) error {
		ctx, stop := context.WithTimeout(ctx, *wait)
		defer stop()
		from, ours := h.Stack, *name
		if h.Client != nil { // in memory: the one host asks, the other answers
			from, ours = h.Client, ""
			if len(names) == 0 {
				names = []string{*name}
			}
			server, err := join(h.Stack, *name, io.Discard)
			if err != nil {
				return err
			}
			defer server.close()
		} else if err := h.Ready(); err != nil {
			return err
		}
		l, err := join(from, ours, os.Stdout)
		if err != nil {
			return err
		}
		defer l.close()
		return l.ask(ctx, names)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "mdns:", err)
		os.Exit(1)
	}
}

// link is a host on the link: a socket in the group of each family.
type link struct {
	stack   *stack.Stack
	name    string // of the host itself
	out     io.Writer
	sockets []*stack.UDPConn
	reading sync.WaitGroup

	mu    sync.Mutex
	asked []string
	said  map[string]bool
}

// join begins to listen, and to answer for a name; the empty name is nobody's.
func join(s *stack.Stack, name string, out io.Writer) (*link, error) {
	if _, err := dnsmessage.NewName(canonical(name)); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	l := &link{stack: s, name: canonical(name), out: out, said: map[string]bool{}}
	for _, g := range groups {
		u, err := s.ListenMulticastUDP("udp", nil, g)
		if err != nil {
			l.close()
			return nil, err
		}
		l.sockets = append(l.sockets, u)
		// RFC 6762 §11: "All Multicast DNS responses (including responses sent via unicast) SHOULD be sent with IP TTL set to 255."
		u.SetMulticastTTL(255)
		u.SetMulticastHopLimit(255)
		u.SetHopLimit(255)
	}
	for k, u := range l.sockets {
		l.reading.Go(func() { l.read(u, groups[k]) })
	}
	return l, nil
}

// close leaves the groups, and waits until nothing is read any more.
func (l *link) close() {
	for _, u := range l.sockets {
		u.Close()
	}
	l.reading.Wait()
}

// ask asks for names until ctx ends: at once, a second later, and so on ever more rarely (RFC 6762 §5.2).
func (l *link) ask(ctx context.Context, names []string) error {
	l.mu.Lock()
	for _, n := range names {
		l.asked = append(l.asked, canonical(n))
	}
	l.mu.Unlock()
	for pause := time.Second; ; pause *= 2 {
		if len(names) > 0 {
			query, err := question(l.asked)
			if err != nil {
				return err
			}
			if err := l.send(query); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// send sends a message to the groups of both families. One of them is enough.
func (l *link) send(b []byte) error {
	sent := false
	var errs []error
	for k, u := range l.sockets {
		_, err := u.WriteToUDPAddrPort(b, groups[k])
		sent = sent || err == nil
		errs = append(errs, err)
	}
	if sent {
		return nil
	}
	return errors.Join(errs...)
}

// read takes what others say to a group: questions are answered, and answers printed.
func (l *link) read(u *stack.UDPConn, group netip.AddrPort) {
	b := make([]byte, 9000) // RFC 6762 §17: the most that a message can have
	for {
		n, p, err := u.ReadPacket(b)
		if err != nil {
			return
		}
		reply, answers := l.understand(b[:n], p)
		for _, a := range answers {
			l.print(a)
		}
		switch {
		case reply == nil:
		case p.From.Port() == group.Port():
			u.WriteToUDPAddrPort(reply, group)
		default: // RFC 6762 §6.7: who asks from another port listens there alone
			u.WriteToUDPAddrPort(reply, p.From)
		}
	}
}

// print prints an answer to one of our questions, once.
func (l *link) print(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.asked {
		if canonical(a.name) == n && !l.said[a.String()] {
			l.said[a.String()] = true
			fmt.Fprintln(l.out, a)
		}
	}
}
