// Command dnsserver answers DNS queries over a TCP/IP stack of its own, by UDP and by TCP.
//
//	go run ./examples/dnsserver                 two hosts in this process; try dig @127.0.0.1 -p 5300 www.example
//	sudo go run ./examples/dnsserver -tap wb0   a host behind a TAP device; try dig @198.51.100.2 www.example
//
// It knows what a small text says (zone.txt, or -zone FILE). zone.go turns a query into its answer; this file carries both.
package main

import (
	"context"
	_ "embed"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"github.com/seed87e66d9f/waybill/stack"
)

//go:embed zone.txt
var exampleZone string

func main() {
	const kernel = "127.0.0.1:5300"
	network := host.Register(flag.CommandLine,
		host.Port{Port: 53, Network: "udp", Kernel: kernel, Flag: "listen", Try: try},
		host.Port{Port: 53, Network: "tcp", Kernel: kernel, Flag: "listen"})
	file := flag.String("zone", "", "answer from this `file`; see zone.txt of the example")
	flag.Parse()
	network.Main(func(ctx context.Context, h *host.Host) error {
		text := exampleZone
		if *file != "" {
			b, err := os.ReadFile(*file)
			if err != nil {
				return err
			}
			text = string(b)
		}
		z, err := parseZone(text)
		if err != nil {
			return err
		}
		return serve(ctx, h, z, h.Ready)
	})
}

// try is the command that asks for a name.
func try(at netip.AddrPort) string {
	return fmt.Sprintf("dig @%v -p %d www.example", at.Addr(), at.Port())
}

// serve answers queries to port 53 of a host until ctx ends. It calls ready once it listens.
func serve(ctx context.Context, h *host.Host, z zone, ready func() error) error {
	packets, err := h.ListenPacket("udp", ":53")
	if err != nil {
		return err
	}
	listener, err := h.ListenTCP("tcp", netip.AddrPortFrom(netip.Addr{}, 53))
	if err != nil {
		return err
	}
	// What was asked until ctx ends is answered, and what was asked by TCP until Grace does.
	context.AfterFunc(ctx, func() {
		packets.SetReadDeadline(time.Now())
		listener.Close()
	})
	var serving sync.WaitGroup
	defer serving.Wait()
	defer packets.Close()
	serving.Go(func() { acceptTCP(ctx, h.Grace, listener, z) })
	ended := make(chan error, 1)
	serving.Go(func() { ended <- serveUDP(packets, z) })
	if err := ready(); err != nil {
		listener.Close()
		return err
	}
	if err := <-ended; ctx.Err() == nil {
		listener.Close()
		return err
	}
	return nil
}

// serveUDP answers datagrams, each of which is a query, until a read fails.
func serveUDP(packets net.PacketConn, z zone) error {
	query := make([]byte, 1<<16)
	for {
		n, from, err := packets.ReadFrom(query)
		if err != nil {
			return err
		}
		if answer := z.answer(query[:n], false); answer != nil {
			_, err := packets.WriteTo(answer, from)
			slog.Debug("answered", "by", "UDP", "to", from, "octets", len(answer), "err", err)
		}
	}
}

// acceptTCP answers connections until the listener is closed, and returns once they have ended.
func acceptTCP(ctx, grace context.Context, l *stack.TCPListener, z zone) {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return
		}
		serving.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.CloseRead() })() // no further query
			defer context.AfterFunc(grace, func() { conn.Close() })()
			err := serveTCP(conn, z)
			slog.Debug("closed", "by", "TCP", "to", conn.RemoteAddr(), "err", err)
		})
	}
}

// idleTimeout is how long a client may take for a query or for reading an answer: RFC 7766 §6.2.3 speaks of "a few seconds".
const idleTimeout = 10 * time.Second

// serveTCP answers the queries of a connection, of which each has its length in front (RFC 1035 §4.2.2).
func serveTCP(conn net.Conn, z zone) error {
	for {
		conn.SetDeadline(time.Now().Add(idleTimeout))
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return err
		}
		query := make([]byte, binary.BigEndian.Uint16(length[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return err
		}
		answer := z.answer(query, true)
		if answer == nil {
			return fmt.Errorf("%d octets that are no query", len(query))
		}
		// Length and answer leave together (RFC 7766 §8).
		if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return err
		}
	}
}
