// Ceiling is how fast a stack in Go behind this device can be: a stub that serves the server's ports over IPv4 and
// checks nothing, keeps nothing to send again and has no timers. What it costs is system calls, headers, a map, and what
// the flags add.
//
//	-copy   one copy of every payload, which a socket's Read or Write cannot do without
//	-app    the echo is made by a goroutine of each connection, as an application stands behind a socket
//	-poll   the device is read under the runtime's poller, instead of in a thread that blocks in read(2)
//
// -copy alone is the ceiling of bulk transfer, all three together that of round trips.
package main

import (
	"flag"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/bench/internal/service"
	"github.com/seed87e66d9f/waybill/bench/internal/tuntap"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ceiling:", err)
		os.Exit(1)
	}
}

func run() error {
	dev := flag.String("dev", "tun0", "`name` of the interface")
	mode := flag.String("mode", "vnet", "vnet, as there is no higher ceiling")
	copies := flag.Bool("copy", false, "copy each payload once")
	app := flag.Bool("app", false, "echo from a goroutine of each connection")
	poll := flag.Bool("poll", false, "wait in the runtime's poller")
	var profile service.Profile
	profile.Flags()
	flag.Parse()

	if *mode != string(tuntap.Vnet) {
		return fmt.Errorf("mode %q: only vnet", *mode)
	}
	fd, err := tuntap.Open(*dev, tuntap.Vnet)
	if err != nil {
		return err
	}
	read, err := tuntap.Reader(fd, *poll)
	if err != nil {
		return err
	}
	s := &stub{fd: fd, copies: *copies, app: *app, conns: map[uint32]*conn{}}
	go s.loop(read)
	return profile.Run()
}

// stub is the server.
type stub struct {
	fd          int
	copies, app bool
	conns       map[uint32]*conn // by the ports, ours last
	copied      [maxPacket]byte

	sending sync.Mutex // with -app others send as well
	out     [tuntap.HeaderLen + maxPacket]byte
}

// conn is what cannot be left out of a connection.
type conn struct {
	peer       [4]byte
	port, ours uint16
	rcv        uint32 // next octet expected
	una, nxt   uint32 // oldest octet unacknowledged, next to send
	window     uint32
	scale      uint8
	work       chan int // with -app: octets to echo
}

func (s *stub) loop(read func([]byte) (int, error)) {
	b := make([]byte, tuntap.HeaderLen+1<<16)
	for {
		n, err := read(b)
		if err != nil {
			fmt.Fprintln(os.Stderr, "read:", err)
			return
		}
		if n > tuntap.HeaderLen {
			s.packet(b[tuntap.HeaderLen:n])
		}
	}
}

// packet does what it must about a packet.
func (s *stub) packet(b []byte) {
	p, ok := parse(b)
	if !ok {
		return
	}
	key := uint32(p.from)<<16 | uint32(p.to)
	if p.flags&syn != 0 {
		c := &conn{peer: p.src, port: p.from, ours: p.to, rcv: p.seq + 1, scale: windowScale(p.options)}
		s.conns[key] = c
		s.send(c, syn|ack, nil, 0)
		return
	}
	c := s.conns[key]
	if c == nil {
		return
	}
	if p.flags&rst != 0 {
		s.end(key, c)
		return
	}
	s.sending.Lock()
	c.una, c.window = p.ack, uint32(p.window)<<c.scale
	inOrder := p.seq == c.rcv
	if inOrder {
		c.rcv += uint32(len(p.text))
	}
	s.sending.Unlock()
	if s.copies {
		copy(s.copied[:], p.text)
	}
	if inOrder && p.flags&fin != 0 {
		c.rcv++
		s.send(c, fin|ack, nil, 0)
		s.end(key, c)
		return
	}
	s.serve(c, p.text)
}

func (s *stub) end(key uint32, c *conn) {
	delete(s.conns, key)
	if c.work != nil {
		close(c.work)
	}
}

// serve is the application.
func (s *stub) serve(c *conn, text []byte) {
	switch c.ours {
	case service.Discard:
		if len(text) > 0 {
			s.send(c, ack, nil, 0)
		}
	case service.Source:
		for {
			room := int(c.window) - int(c.nxt-c.una)
			if room <= 0 {
				return
			}
			if room = min(room, maxText); room > mss {
				room -= room % mss
			}
			s.send(c, ack, s.copied[:room], room)
		}
	case service.Echo:
		if len(text) == 0 {
			return
		}
		if !s.app {
			s.send(c, ack|psh, text, len(text))
			return
		}
		if c.work == nil {
			c.work = make(chan int, 64) // more than a client that waits for its answer leaves there
			go func() {
				for n := range c.work {
					s.send(c, ack|psh, nil, n)
				}
			}()
		}
		c.work <- len(text)
	}
}

// send sends a segment of n octets, which are those of text where -copy asks for a copy, else whatever is there.
func (s *stub) send(c *conn, flags uint8, text []byte, n int) {
	s.sending.Lock()
	defer s.sending.Unlock()
	var options []byte
	if flags&syn != 0 {
		options = synOptions
	}
	head := tuntap.HeaderLen + ipLen + tcpLen + len(options)
	if s.copies || c.ours == service.Echo {
		copy(s.out[head:], text)
	}
	build(s.out[:head+n], c, flags, options)
	if _, err := unix.Write(s.fd, s.out[:head+n]); err != nil {
		fmt.Fprintln(os.Stderr, "write:", err)
	}
	c.nxt += uint32(n)
	if flags&(syn|fin) != 0 {
		c.nxt++
	}
}
