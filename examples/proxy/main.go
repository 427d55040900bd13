// Command proxy is two proxies over a TCP/IP stack of its own: a forward proxy at port 3128, which connects to whom its
// clients name, and a reverse proxy at port 80, in front of servers that share the work.
//
//	go run ./examples/proxy                 two hosts in this process; try curl http://127.0.0.1:8080
//	sudo go run ./examples/proxy -tap wb0   a host behind a TAP device; try curl http://198.51.100.2
//
// Without -backends the servers are three of this program's own. forward.go and reverse.go hold a proxy each. Both
// connect by a stack.Stack's DialContext, where others use that of a net.Dialer, and are all else of the standard library.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
)

func main() {
	network := host.Register(flag.CommandLine,
		host.Port{Port: 80, Kernel: "127.0.0.1:8080", Flag: "reverse", Try: tryReverse},
		host.Port{Port: 3128, Kernel: "127.0.0.1:3128", Flag: "forward", Try: tryForward})
	list := flag.String("backends", "", "`addresses` with ports, one comma between two, of the servers behind the reverse proxy")
	flag.Func("dns", "on a device, ask the name server at this `address`, such as 198.51.100.1:53", func(s string) error {
		a, err := netip.ParseAddrPort(s)
		network.Server.DNS = append(network.Server.DNS, a)
		return err
	})
	flag.Parse()
	network.Main(func(ctx context.Context, h *host.Host) (err error) {
		backends := strings.Split(*list, ",")
		if *list == "" {
			if backends, err = ownBackends(h); err != nil {
				return err
			}
		}
		return serve(ctx, h, backends, h.Ready)
	})
}

func tryReverse(at netip.AddrPort) string { return fmt.Sprintf("curl -g 'http://%v/'", at) }

// tryForward asks the forward proxy for the page of the reverse one, which it always reaches.
func tryForward(at netip.AddrPort) string {
	return fmt.Sprintf("curl -g -x 'http://%v' http://198.51.100.2/", at)
}

// ownBackends are three servers, on the other host in memory, or on ours where there is no other.
func ownBackends(h *host.Host) (addrs []string, err error) {
	there, name := h.Client, "198.51.100.1"
	if there == nil {
		there, name = h.Stack, "127.0.0.1"
	}
	for i := range 3 {
		l, err := there.Listen("tcp", fmt.Sprintf("%s:%d", name, 8001+i))
		if err != nil {
			return nil, err
		}
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "this is", l.Addr()) }))
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

// serve is a proxy in both ways until ctx ends, then lets the requests that are under way finish. It calls ready once it
// listens.
func serve(ctx context.Context, h *host.Host, backends []string, ready func() error) error {
	transport := &http.Transport{DialContext: h.DialContext, MaxIdleConnsPerHost: 100}
	defer transport.CloseIdleConnections()
	ended := make(chan error, 2)
	var servers []*http.Server
	for address, handler := range map[string]http.Handler{":80": reverse(ctx, transport, backends), ":3128": forward(h.Grace, transport)} {
		l, err := h.Listen("tcp", address)
		if err != nil {
			return err
		}
		s := &http.Server{
			Handler:           fullDuplex(handler),
			ReadHeaderTimeout: time.Minute,
			ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		}
		defer s.Close()
		go func() { ended <- s.Serve(l) }()
		servers = append(servers, s)
	}
	if err := ready(); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	for _, s := range servers {
		if s.Shutdown(h.Grace) != nil {
			slog.Warn("requests under way were cut short")
		}
	}
	return nil
}

// fullDuplex has a server leave the rest of a request's body to handler where the answer begins first. Else it would read
// up to 256 KiB of it away, which a proxy has yet to pass on.
func fullDuplex(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			slog.Warn("answers may cut their requests short", "err", err)
		}
		handler.ServeHTTP(w, r)
	})
}
