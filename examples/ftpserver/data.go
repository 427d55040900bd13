package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/stack"
)

// The ports of passive data connections, which a firewall before the server would be told.
const (
	passivePort  = 2122
	passiveCount = 16
)

// passive listens for the next data connection, and returns the port, or 0 if none of the range is free.
func (s *session) passive() uint16 {
	s.forget()
	for port := uint16(passivePort); port < passivePort+passiveCount; port++ {
		l, err := s.host.ListenTCP("tcp", netip.AddrPortFrom(addr(s.control.LocalAddr()), port))
		if err == nil {
			s.listener = l
			return port
		}
	}
	return 0
}

// forget takes back what the last PASV, EPSV, PORT or EPRT agreed on.
func (s *session) forget() {
	if s.listener != nil {
		s.listener.Close()
	}
	s.listener, s.active = nil, 0
}

// port does what PORT, with h1,h2,h3,h4,p1,p2, or EPRT, with |family|address|port| (RFC 2428 §2), asks.
func (s *session) port(verb, arg string) string {
	f := strings.Split(arg, (arg + "|")[:1])
	if f4 := strings.Split(arg, ","); verb == "PORT" && len(f4) == 6 {
		high, err := strconv.ParseUint(f4[4], 10, 8)
		low, err2 := strconv.ParseUint(f4[5], 10, 8)
		if err == nil && err2 == nil {
			f = []string{"", "1", strings.Join(f4[:4], "."), strconv.FormatUint(high<<8|low, 10), ""}
		}
	}
	if len(f) != 5 {
		return "501 that is no address and port"
	}
	a, err := netip.ParseAddr(f[2])
	port, err2 := strconv.ParseUint(f[3], 10, 16)
	// RFC 2577 §3: "it is suggested that servers not open data connections to TCP ports less than 1024", nor do we to
	// another host than the client, at which it would bounce an attack off us.
	switch {
	case errors.Join(err, err2) != nil:
		return "501 that is no address and port"
	case a != addr(s.control.RemoteAddr()).WithZone("") || port < 1024:
		return "504 only to your own address, and to no port below 1024"
	}
	s.forget()
	s.active = uint16(port)
	return "200 so be it"
}

// transfer makes the data connection that was agreed on and has move use it.
func (s *session) transfer(move func(c net.Conn) error) string {
	defer s.forget()
	if s.listener == nil && s.active == 0 {
		return "425 where to? PASV, EPSV, PORT or EPRT first"
	} else if s.reply("150 here it comes") != nil {
		return "426 are you there?"
	}
	c, err := s.data()
	if err != nil {
		return "425 no data connection"
	}
	defer c.Close()
	defer context.AfterFunc(s.host.Grace, func() { c.Close() })()
	if err := move(c); err != nil {
		c.SetLinger(0) // the end of the connection says that this was all, a reset does not
		return "426 broken off"
	}
	return "226 that was all"
}

func (s *session) data() (*stack.TCPConn, error) {
	ctx, cancel := context.WithTimeout(s.host.Grace, time.Minute)
	defer cancel()
	peer, listener := addr(s.control.RemoteAddr()), s.listener
	if listener == nil {
		// RFC 959 §3.2: "The server-process default data port is the port adjacent to the control connection port (i.e., L-1)."
		from := netip.AddrPortFrom(addr(s.control.LocalAddr()), 20)
		return s.host.DialTCP(ctx, "tcp", from, netip.AddrPortFrom(peer, s.active))
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		c, err := listener.AcceptTCP()
		if err != nil || addr(c.RemoteAddr()) == peer {
			return c, err
		}
		c.Close() // a stranger is not to get the client's file
	}
}

func addr(a net.Addr) netip.Addr { return a.(*net.TCPAddr).AddrPort().Addr() }
