package scene

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/stack"
)

// Think is how long the programs take for what they do. All that is on its way has arrived then, so that each step is seen by
// itself, and yet an answer travels with the acknowledgement of the question: RFC 9293 §3.8.6.3 has that wait for 500 ms at most.
const Think = 30 * time.Millisecond

// Ask asks the web server at address for a page, as curl does, and closes once it has it.
func Ask(ctx context.Context, s *stack.Stack, address string) error {
	c, err := s.DialContext(ctx, "tcp4", address)
	if err != nil {
		return err
	}
	defer c.Close()
	time.Sleep(Think)
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", address); err != nil {
		return err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	page, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %q, %w", r.Status, page, err)
	}
	time.Sleep(2 * Think) // until the server has closed its side as well
	return nil
}

// ServeWeb answers each connection to port 80 of a host with a page that says who asks whom.
func (s *Scene) ServeWeb(h *stack.Stack, name string) {
	s.serve(h, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		time.Sleep(Think)
		page := fmt.Sprintf("I am the %s, at %v, and you come from %v.\n", name, c.LocalAddr(), c.RemoteAddr())
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(page), page)
		time.Sleep(Think)
	})
}

// ServeProxy passes each connection to port 80 of a host on to one of several web servers, in turn.
func (s *Scene) ServeProxy(h *stack.Stack, servers ...string) {
	var turn atomic.Uint32
	s.serve(h, func(front net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(front))
		if err != nil {
			return
		}
		time.Sleep(Think)
		back, err := h.Dial("tcp4", servers[int(turn.Add(1)-1)%len(servers)])
		if err != nil {
			io.WriteString(front, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		defer back.Close()
		time.Sleep(Think)
		r.Close = true
		if r.Write(back) != nil {
			return
		}
		answer, err := http.ReadResponse(bufio.NewReader(back), r)
		if err != nil {
			return
		}
		page, err := io.ReadAll(answer.Body)
		if err != nil {
			return
		}
		time.Sleep(Think)
		answer.Body = io.NopCloser(bytes.NewReader(page))
		answer.Write(front)
		time.Sleep(Think)
	})
}

// serve has answer deal with each connection to port 80 of a host, and closes it then.
func (s *Scene) serve(h *stack.Stack, answer func(net.Conn)) {
	if s.err != nil {
		return
	}
	l, err := h.Listen("tcp4", ":80")
	if err != nil {
		s.err = err
		return
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				answer(c)
				c.Close()
			}()
		}
	}()
}

// nameTTL is for how many seconds a name may be remembered.
const nameTTL = 300

// ServeNames answers at an address of a host what is asked for names by DNS (RFC 1035). Each name ends with a dot.
func (s *Scene) ServeNames(h *stack.Stack, at string, names map[string]string) {
	if s.err != nil {
		return
	}
	c, err := h.ListenPacket("udp4", netip.AddrPortFrom(netip.MustParseAddr(at), 53).String())
	if err != nil {
		s.err = err
		return
	}
	go serveNames(c, names)
}

func serveNames(c net.PacketConn, names map[string]string) {
	query := make([]byte, 512) // RFC 1035 §4.2.1: longer messages are cut
	for {
		n, from, err := c.ReadFrom(query)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(query[:n]) != nil || m.Response || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Authoritative, m.Additionals = true, true, nil
		a, ok := names[q.Name.String()]
		switch {
		case !ok:
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: nameTTL}
			m.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()}}}
		}
		if b, err := m.Pack(); err == nil {
			time.Sleep(Think)
			c.WriteTo(b, from)
		}
	}
}
