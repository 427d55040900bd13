// Ceiling is how fast a stack in Go behind this device can be: a stub that serves the server's ports over IPv4 and
// checks nothing, keeps nothing to send again and has no timers. What it costs is system calls, headers, a map, and what
// the flags add.
//
//	-mode   vnet: a TUN with the virtio header; tap: a TAP with it; water: a TAP without, one packet a system call
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
	mode := flag.String("mode", "vnet", "vnet, tap or water")
	copies := flag.Bool("copy", false, "copy each payload once")
	app := flag.Bool("app", false, "echo from a goroutine of each connection")
	poll := flag.Bool("poll", false, "wait in the runtime's poller")
	var profile service.Profile
	profile.Flags()
	flag.Parse()

	fd, f, err := open(*dev, *mode)
	if err != nil {
		return err
	}
	read, err := tuntap.Reader(fd, *poll)
	if err != nil {
		return err
	}
	s := &stub{fd: fd, frame: f, copies: *copies, app: *app, conns: map[uint32]*conn{}}
	go s.loop(read)
	return profile.Run()
}

// open attaches to the device, and returns what stands in front of its IP packets.
func open(dev, mode string) (fd int, f frame, err error) {
	switch mode {
	case "vnet":
		fd, err = tuntap.Open(dev, tuntap.Vnet)
		return fd, frame{virtio: tuntap.HeaderLen}, err
	case "tap":
		fd, err = tuntap.OpenVnetTAP(dev)
		return fd, frame{virtio: tuntap.HeaderLen, ethernet: ethernetLen}, err
	case "water":
		fd, err = tuntap.Open(dev, tuntap.TAP)
		return fd, frame{ethernet: ethernetLen}, err
	}
	return -1, f, fmt.Errorf("mode %q is none of vnet, tap and water", mode)
}

// stub is the server.
type stub struct {
	frame
	fd          int
	copies, app bool
	conns       map[uint32]*conn // by the ports, ours last
	copied      [maxPacket]byte

	sending sync.Mutex // with -app others send as well
	out     [tuntap.HeaderLen + ethernetLen + maxPacket]byte
}

// conn is what cannot be left out of a connection.
type conn struct {
	station    [6]byte // the peer's, on a TAP
	peer       [4]byte
	port, ours uint16
	rcv        uint32 // next octet expected
	una, nxt   uint32 // oldest octet unacknowledged, next to send
	window     uint32
	scale      uint8
	segments   int      // that arrived
	work       chan int // with -app: octets to echo
}

func (s *stub) loop(read func([]byte) (int, error)) {
	b := make([]byte, s.len()+1<<16)
	for {
		n, err := read(b)
		if err != nil {
			fmt.Fprintln(os.Stderr, "read:", err)
			return
		}
		if n <= s.len() {
			continue
		}
		if s.ethernet == 0 {
			s.packet(nil, b[s.len():n])
			continue
		}
		switch h := b[s.virtio:n]; be.Uint16(h[12:]) {
		case typeIPv4:
			s.packet(h[6:12], h[ethernetLen:])
		case typeARP:
			s.resolve(h)
		}
	}
}

// resolve says at which station we are, if that is asked for.
func (s *stub) resolve(request []byte) {
	s.sending.Lock()
	defer s.sending.Unlock()
	if n := s.answer(s.out[:], request); n > 0 {
		s.write(n)
	}
}

// packet does what it must about a packet from a station.
func (s *stub) packet(station, b []byte) {
	p, ok := parse(b)
	if !ok {
		return
	}
	key := uint32(p.from)<<16 | uint32(p.to)
	if p.flags&syn != 0 {
		c := &conn{peer: p.src, port: p.from, ours: p.to, rcv: p.seq + 1, scale: windowScale(p.options)}
		copy(c.station[:], station)
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
	s.serve(c, p.text, inOrder)
}

func (s *stub) end(key uint32, c *conn) {
	delete(s.conns, key)
	if c.work != nil {
		close(c.work)
	}
}

// serve is the application.
func (s *stub) serve(c *conn, text []byte, inOrder bool) {
	switch c.ours {
	case service.Discard:
		if len(text) == 0 {
			return
		}
		// One acknowledgement answers several ordinary segments, as it does in a stack that reads on, once the peer's congestion
		// window is large enough not to wait for it.
		if c.segments++; c.segments < 10*ackEvery || c.segments%ackEvery == 0 || !inOrder || len(text) > mss {
			s.send(c, ack, nil, 0)
		}
	case service.Source:
		for {
			room := int(c.window) - int(c.nxt-c.una)
			if room <= 0 {
				return
			}
			if room = min(room, s.maxText()); room > mss {
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
		if options = synOptions; s.virtio == 0 {
			options = smallOptions
		}
	}
	head := s.len() + ipLen + tcpLen + len(options)
	if s.copies || c.ours == service.Echo {
		copy(s.out[head:], text)
	}
	s.build(s.out[:head+n], c, flags, options)
	s.write(head + n)
	c.nxt += uint32(n)
	if flags&(syn|fin) != 0 {
		c.nxt++
	}
}

// write sends the frame of n octets that stands in out.
func (s *stub) write(n int) {
	if _, err := unix.Write(s.fd, s.out[:n]); err != nil {
		fmt.Fprintln(os.Stderr, "write:", err)
	}
}
