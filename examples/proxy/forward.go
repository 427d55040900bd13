package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/seed87e66d9f/waybill/splice"
)

// forward connects to whom the client names: by CONNECT for a tunnel, else by a whole URL. What is in a tunnel when ctx
// ends is reset.
func forward(ctx context.Context, t *http.Transport) http.Handler {
	plain := &httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {}, // the request says where to
		Transport: t,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect:
			tunnel(ctx, t, w, r)
		case r.URL.IsAbs():
			plain.ServeHTTP(w, r)
		default:
			http.Error(w, "this is a proxy: ask it for http://name/", http.StatusBadRequest)
		}
	})
}

// How long connecting may take, and how long nothing may pass through a tunnel.
const (
	dialTimeout = 30 * time.Second
	idleTimeout = 10 * time.Minute
)

// tunnel carries octets between the client and whom it names (RFC 9110 §9.3.6).
func tunnel(ctx context.Context, t *http.Transport, w http.ResponseWriter, r *http.Request) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout) // the request's context ends with a client's half-close
	defer cancel()
	out, err := t.DialContext(dialing, "tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		out.Close()
		return
	}
	early, _ := buffered.Reader.Peek(buffered.Reader.Buffered()) // a client need not wait for our answer
	if _, err = io.WriteString(in, "HTTP/1.1 200 Connection established\r\n\r\n"); err == nil {
		_, err = out.Write(early)
	}
	if err != nil {
		in.Close()
		out.Close()
		return
	}
	passed, err := splice.Splice(ctx, in, out, splice.Config{Idle: idleTimeout})
	slog.Debug("tunnel", "to", r.Host, "sent", passed.AToB, "received", passed.BToA, "err", err)
}
