package main

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/splice"
	"golang.org/x/crypto/ssh"
)

// endpoint is how RFC 4254 §7 says an address and a port.
type endpoint struct {
	Host string
	Port uint32
}

func (e endpoint) String() string { return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) }

// direct connects to where a client's ssh -L leads (RFC 4254 §7.2), and carries what both sides say.
func (c *client) direct(ctx context.Context, channel ssh.NewChannel) {
	var open struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(channel.ExtraData(), &open); err != nil {
		channel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	conn, err := c.host.DialContext(ctx, "tcp", endpoint{open.Host, open.Port}.String())
	if err != nil {
		channel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, requests, err := channel.Accept()
	carry(ctx, conn, ch, requests, err)
}

// forward listens where a client's ssh -R asks for (RFC 4254 §7.1), until it takes that back or leaves.
func (c *client) forward(ctx context.Context, requests <-chan *ssh.Request) {
	var carried sync.WaitGroup
	defer carried.Wait()
	listeners := map[endpoint]net.Listener{}
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for r := range requests {
		var at endpoint
		err := ssh.Unmarshal(r.Payload, &at)
		switch l := listeners[at]; {
		case err == nil && r.Type == "cancel-tcpip-forward" && l != nil:
			l.Close()
			delete(listeners, at)
			r.Reply(true, nil)
		case err == nil && r.Type == "tcpip-forward":
			l, err := c.host.Listen("tcp", at.String())
			if err != nil {
				r.Reply(false, nil)
				continue
			}
			at.Port = uint32(l.Addr().(*net.TCPAddr).Port)
			listeners[at] = l
			r.Reply(true, ssh.Marshal(struct{ Port uint32 }{at.Port})) // which is read where 0 was asked for
			carried.Go(func() {
				for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
					carried.Go(func() { c.forwarded(ctx, conn, at) })
				}
			})
		default: // such as keepalive@openssh.com, for which any reply will do
			r.Reply(false, nil)
		}
	}
}

// forwarded carries one who connected to at to the client.
func (c *client) forwarded(ctx context.Context, conn net.Conn, at endpoint) {
	from := conn.RemoteAddr().(*net.TCPAddr)
	open := append(ssh.Marshal(at), ssh.Marshal(endpoint{from.IP.String(), uint32(from.Port)})...)
	ch, requests, err := c.conn.OpenChannel("forwarded-tcpip", open)
	carry(ctx, conn, ch, requests, err)
}

// carry carries what a connection and a channel say to each other, if the channel was opened.
func carry(ctx context.Context, conn net.Conn, ch ssh.Channel, requests <-chan *ssh.Request, err error) {
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	splice.Splice(ctx, conn, stream{ch, conn}, splice.Config{})
}

// stream is a channel as a net.Conn, without deadlines.
type stream struct {
	ssh.Channel
	conn net.Conn
}

func (s stream) LocalAddr() net.Addr              { return s.conn.RemoteAddr() }
func (s stream) RemoteAddr() net.Addr             { return s.conn.LocalAddr() }
func (s stream) SetDeadline(time.Time) error      { return nil }
func (s stream) SetReadDeadline(time.Time) error  { return nil }
func (s stream) SetWriteDeadline(time.Time) error { return nil }
