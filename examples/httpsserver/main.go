// Command httpsserver serves HTTPS, HTTP/1.1 and HTTP/2, over a TCP/IP stack of its own, and sends those to it who come by
// HTTP.
//
//	go run ./examples/httpsserver                 two hosts in this process; try curl -k https://127.0.0.1:8443
//	sudo go run ./examples/httpsserver -tap wb0   a host behind a TAP device; try curl -k https://198.51.100.2
//
// Its certificate is made at the start, in memory (certificate.go). -ca writes it to a file, for a client to trust:
// curl --cacert FILE in place of curl -k.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
)

func main() {
	network := host.Register(flag.CommandLine,
		host.Port{Port: 443, Kernel: "127.0.0.1:8443", Flag: "listen", Try: trySecure},
		host.Port{Port: 80, Kernel: "127.0.0.1:8080", Flag: "http", Try: tryPlain})
	ca := flag.String("ca", "", "write the certificate to this `file`, for clients to trust")
	flag.Parse()
	network.Main(func(ctx context.Context, h *host.Host) error {
		certificate, err := newCertificate(h.Addrs())
		if err == nil && *ca != "" {
			err = os.WriteFile(*ca, encode(certificate), 0o644)
		}
		if err != nil {
			return err
		}
		// On a device nobody asks for another port than 443.
		_, outside, _ := net.SplitHostPort(flag.Lookup("listen").Value.String())
		return serve(ctx, h, certificate, outside, h.Ready)
	})
}

// serve answers requests to the ports 443 and 80 of a host until ctx ends, then lets those that are under way finish.
// It calls ready once it listens. Port 443 has the number outside where this machine forwards it.
func serve(ctx context.Context, h *host.Host, certificate tls.Certificate, outside string, ready func() error) error {
	https, err := h.Listen("tcp", ":443")
	if err != nil {
		return err
	}
	http80, err := h.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	secure := newServer(http.HandlerFunc(page))
	secure.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}}
	plain := newServer(redirect(outside))
	defer secure.Close()
	defer plain.Close()
	ended := make(chan error, 2)
	go func() { ended <- secure.ServeTLS(https, "", "") }()
	go func() { ended <- plain.Serve(http80) }()
	if err := ready(); err != nil {
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	for _, s := range []*http.Server{plain, secure} {
		if s.Shutdown(h.Grace) != nil {
			slog.Warn("requests under way were cut short")
		}
	}
	return nil
}

func newServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
}

// page tells who asks how the request came.
func page(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s, %s, %s\n", r.Proto, tls.VersionName(r.TLS.Version), tls.CipherSuiteName(r.TLS.CipherSuite))
	fmt.Fprintf(w, "resumed session: %v\n", r.TLS.DidResume)
	fmt.Fprintf(w, "%s %s from %s\n", r.Method, r.URL, r.RemoteAddr)
}

// redirect sends who asks for http://name/… to https://name/…, and who came to a port that is not HTTP's own to the port
// outside.
func redirect(outside string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.Host
		if bare, _, err := net.SplitHostPort(r.Host); err == nil {
			name = net.JoinHostPort(bare, outside)
		}
		// RFC 9110 §15.4.9: 308 leaves the method as it is.
		http.Redirect(w, r, "https://"+name+r.URL.RequestURI(), http.StatusPermanentRedirect)
	})
}

func trySecure(at netip.AddrPort) string { return "curl -k " + url("https", at) }
func tryPlain(at netip.AddrPort) string  { return "curl -kL " + url("http", at) }

// url is how a shell is told of the page at an address.
func url(scheme string, at netip.AddrPort) string {
	name := strings.TrimSuffix(at.String(), map[string]string{"http": ":80", "https": ":443"}[scheme])
	if at.Addr().Is6() {
		return "-g '" + scheme + "://" + name + "/'" // brackets mean something to shells, and to curl
	}
	return scheme + "://" + name + "/"
}
