package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
	"time"
)

// reverse sends each request to the next of several servers, of those that are well. Until ctx ends it looks after them.
func reverse(ctx context.Context, t *http.Transport, addrs []string) http.Handler {
	b := &balancer{transport: t}
	for _, a := range addrs {
		to := &backend{addr: a}
		b.backends = append(b.backends, to)
		go b.check(ctx, to)
	}
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetXForwarded() }, Transport: b}
}

// A balancer is the http.RoundTripper of several backends.
type balancer struct {
	transport *http.Transport
	backends  []*backend
	turn      atomic.Uint32
}

type backend struct {
	addr string
	ill  atomic.Bool
}

// RoundTrip asks a backend. Where that fails, and a question does no harm twice, it asks another.
func (b *balancer) RoundTrip(r *http.Request) (*http.Response, error) {
	harmless := r.Body == nil && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	err := errors.New("no backend is well")
	for range b.backends {
		to := b.backends[int(b.turn.Add(1)-1)%len(b.backends)]
		if to.ill.Load() {
			continue
		}
		var answer *http.Response
		if answer, err = b.ask(r, to); err == nil || r.Context().Err() != nil {
			return answer, err
		}
		to.set(true, err)
		if !harmless {
			break
		}
	}
	return nil, err
}

// ask sends a request to a backend.
func (b *balancer) ask(r *http.Request, to *backend) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", to.addr
	return b.transport.RoundTrip(r)
}

// How often a backend is asked whether it is well, and how long it may take to say so.
const (
	checkEvery   = time.Second
	checkTimeout = 5 * time.Second
)

// check sees whether a backend is well, until ctx ends: whether it answers, and with no error of its own.
func (b *balancer) check(ctx context.Context, to *backend) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		asked, cancel := context.WithTimeout(ctx, checkTimeout)
		r, err := http.NewRequestWithContext(asked, http.MethodHead, "http://"+to.addr+"/", nil)
		if err == nil {
			var answer *http.Response
			if answer, err = b.transport.RoundTrip(r); err == nil {
				answer.Body.Close()
				if answer.StatusCode >= http.StatusInternalServerError {
					err = errors.New(answer.Status)
				}
			}
		}
		cancel()
		if ctx.Err() == nil {
			to.set(err != nil, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// set notes how a backend is.
func (to *backend) set(ill bool, err error) {
	if to.ill.Swap(ill) != ill {
		slog.Warn("backend", "addr", to.addr, "ill", ill, "err", err)
	}
}
