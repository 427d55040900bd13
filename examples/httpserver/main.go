// Command httpserver serves a web page over a TCP/IP stack of its own.
//
//	go run ./examples/httpserver                 two hosts in this process; see http://127.0.0.1:8080
//	sudo go run ./examples/httpserver -tap wb0   a host behind a TAP device; see http://198.51.100.2
//
// This file is an HTTP server like any other: a listener, a handler, and an end in good order. The one difference is
// where the listener comes from, a stack.Stack and not package net; the flags choose which (package host, which all
// examples share). figure.go draws a connection as RFC 9293 does.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"github.com/seed87e66d9f/waybill/stack"
)

func main() {
	network := host.Register(flag.CommandLine, host.Port{Port: 80, Kernel: "127.0.0.1:8080", Flag: "listen", Try: try})
	flag.Parse()
	var rec *recorder
	if network.InMemory() {
		rec = newRecorder()
		network.Client.Trace, network.Server.Trace = rec.client, rec.server
	}
	network.Main(func(ctx context.Context, h *host.Host) error { return serve(ctx, h, page(h.Stack), rec) })
}

// serve answers requests to port 80 of a host until ctx ends, then lets those that are under way finish. Before, it has
// rec draw a connection, unless that is nil.
func serve(ctx context.Context, h *host.Host, handler http.Handler, rec *recorder) error {
	listener, err := h.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           logged(handler),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	defer server.Close()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }() // as http.Serve(listener, handler), and Shutdown besides
	if rec != nil {
		if err := show(ctx, h.Client, rec); err != nil {
			return err
		}
	}
	if err := h.Ready(); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	if server.Shutdown(h.Grace) != nil {
		slog.Warn("requests under way were cut short")
	}
	return nil
}

// logged logs what is asked for.
func logged(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		handler.ServeHTTP(w, r)
		slog.Debug("request", "method", r.Method, "url", r.URL, "from", r.RemoteAddr, "took", time.Since(begin))
	})
}

// try is the command that fetches the page.
func try(at netip.AddrPort) string {
	name := at.String()
	if at.Port() == 80 { // HTTP's own
		if name = at.Addr().String(); at.Addr().Is6() {
			name = "[" + name + "]"
		}
	}
	if at.Addr().Is6() {
		return fmt.Sprintf("curl -g 'http://%s/'", name)
	}
	return fmt.Sprintf("curl http://%s/", name)
}

// settleTime is how long the first connection may take to close on both sides, before it is drawn: it takes less than a
// millisecond, and we are to serve within a second.
const settleTime = 500 * time.Millisecond

// show has the other host in memory load the page once, over a connection that it opens and closes, and draws that.
func show(ctx context.Context, client *stack.Stack, rec *recorder) error {
	fmt.Println("two hosts on an Ethernet in memory: client 198.51.100.1, server 198.51.100.2")
	transport := &http.Transport{DialContext: client.DialContext}
	request, err := http.NewRequestWithContext(ctx, "GET", "http://198.51.100.2/", nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	transport.CloseIdleConnections()
	if err != nil {
		return err
	}
	rec.wait(settleTime)
	fmt.Printf("the client fetched http://198.51.100.2/ (%d octets) from the server:\n\n%s\n", n, rec.figure())
	return nil
}
