// Handshake shows how TCP connections open and close, as it happens: two hosts in this process, a wire in memory that
// takes 30 ms and loses what the story asks for, and each segment drawn in the notation of RFC 9293 when it departs and
// when it arrives, with the states of both sides. It needs no root.
//
//	go run ./examples/handshake            # all stories
//	go run ./examples/handshake lost-SYN   # one of them
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// A story is one connection, from open to close.
type story struct {
	name, title string
	lose        func(s *tcp.Segment, n int) bool // whether the wire loses the n-th segment with these flags
	play        func(client, server *stack.Stack) error
}

var stories = []story{
	{"plain", "three-way open, four-way close", nil, inTurn},
	{"lost-SYN", "the SYN is lost: it goes again after 1 s", first(tcp.SYN), inTurn},
	{"lost-SYN-ACK", "the SYN-ACK is lost: the SYN goes again, and meets one that was sent again on its own account", first(tcp.SYN | tcp.ACK), inTurn},
	{"lost-FIN", "the first FIN of either side is lost: a tail loss probe repeats it", first(tcp.FIN | tcp.ACK), inTurn},
	{"simultaneous-open", "both sides open at once", nil, bothOpen},
	{"simultaneous-close", "both sides close at once", nil, bothClose},
	{"refused", "nobody listens", nil, refused},
}

// first loses the first segment that has just these flags.
func first(f tcp.Flags) func(*tcp.Segment, int) bool {
	return func(s *tcp.Segment, n int) bool { return s.Flags == f && n == 1 }
}

// The two ends: addresses for documentation (RFC 5737).
var (
	clientEnd = netip.MustParseAddrPort("198.51.100.1:50000")
	serverEnd = netip.MustParseAddrPort("198.51.100.2:80")
)

func main() {
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: handshake [STORY...]\nstories: %s\n", strings.Join(names(), ", "))
	}
	flag.Parse()
	for _, name := range flag.Args() {
		if !slices.Contains(names(), name) {
			flag.Usage()
			os.Exit(2)
		}
	}
	for _, s := range stories {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), s.name) {
			continue
		}
		if err := tell(os.Stdout, s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func names() (all []string) {
	for _, s := range stories {
		all = append(all, s.name)
	}
	return all
}

// tell plays a story and draws it on w.
func tell(w io.Writer, s story) error {
	d := &drawing{w: w, start: time.Now(), first: map[netip.AddrPort]tcp.Seq{}}
	fmt.Fprintf(w, "%s: %s\n\n", s.name, s.title)
	d.row("", "client", "", "server")
	near, far := link.Pipe(link.PipeConfig{Delay: 30 * time.Millisecond})
	client := stack.New(stack.Config{Trace: d.client})
	defer client.Close()
	server := stack.New(stack.Config{Trace: d.server})
	defer server.Close()
	for _, h := range []struct {
		s    *stack.Stack
		wire link.Device
		end  netip.AddrPort
	}{{client, near, clientEnd}, {server, far, serverEnd}} {
		lossy := &lossyWire{Device: h.wire, lose: s.lose, lost: d.lost, seen: map[tcp.Flags]int{}}
		if _, err := h.s.Attach(lossy, netip.PrefixFrom(h.end.Addr(), 24)); err != nil {
			return err
		}
	}
	if err := s.play(client, server); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return nil
}

// settle is longer than any retransmission that a story waits for.
const settle = 5 * time.Second

// connect opens the connection from the client's side.
func connect(client, server *stack.Stack) (c, s *stack.TCPConn, err error) {
	l, err := server.ListenTCP("tcp", serverEnd)
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	if c, err = client.DialTCP(ctx, "tcp", clientEnd, serverEnd); err != nil {
		return nil, nil, err
	}
	s, err = l.AcceptTCP()
	return c, s, err
}

// inTurn is a client that asks, a server that answers and closes when the client has closed.
func inTurn(client, server *stack.Stack) error {
	c, s, err := connect(client, server)
	if err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if _, err := io.ReadAll(s); err != nil { // until the client's FIN
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if _, err := io.ReadAll(c); err != nil {
		return err
	}
	return until(s, tcp.Closed)
}

// bothOpen opens from both sides: RFC 9293 figure 7.
func bothOpen(client, server *stack.Stack) error {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	opened := make(chan error)
	go func() {
		_, err := server.DialTCP(ctx, "tcp", serverEnd, clientEnd)
		opened <- err
	}()
	_, err := client.DialTCP(ctx, "tcp", clientEnd, serverEnd)
	if err2 := <-opened; err == nil {
		err = err2
	}
	return err
}

// bothClose closes from both sides: RFC 9293 figure 13.
func bothClose(client, server *stack.Stack) error {
	c, s, err := connect(client, server)
	if err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	if err := until(c, tcp.TimeWait); err != nil {
		return err
	}
	return until(s, tcp.TimeWait)
}

// refused connects to a port where nobody listens.
func refused(client, _ *stack.Stack) error {
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	if c, err := client.DialTCP(ctx, "tcp", clientEnd, serverEnd); err == nil {
		return fmt.Errorf("connected to nobody: %v", c.RemoteAddr())
	}
	return nil
}

// until waits for a connection to come into a state. There is no call that waits for that, since programs have no use
// for it, so it looks every few milliseconds.
func until(c *stack.TCPConn, want tcp.State) error {
	for deadline := time.Now().Add(settle); ; time.Sleep(5 * time.Millisecond) {
		state := c.Info().State
		if state == want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v is in %v, not %v", c.LocalAddr(), state, want)
		}
	}
}
