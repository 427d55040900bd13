package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/splice"
	"github.com/seed87e66d9f/waybill/stack"
)

// runEmbedded is a network of two hosts inside of this process. It needs no rights and no device.
func runEmbedded(ctx context.Context, o *options) error {
	outside, err := net.Listen("tcp", o.listen) // the kernel's, for the browser
	if err != nil {
		return fmt.Errorf("%w (-listen chooses another address)", err)
	}
	defer outside.Close()

	rec := newRecorder()
	near, far := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
	if far, err = o.capture(far); err != nil {
		return err
	}
	client := stack.New(stack.Config{Trace: rec.client})
	defer client.Close()
	server := stack.New(stack.Config{Trace: rec.server})
	defer server.Close()
	if _, err := client.Attach(near, netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:51::1/64")); err != nil {
		return err
	}
	if _, err := server.Attach(far, netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("2001:db8:51::2/64")); err != nil {
		return err
	}

	forwarded := make(chan struct{})
	err = serve(ctx, server, page(server), func() error {
		fmt.Println("two hosts on an Ethernet in memory: client 198.51.100.1, server 198.51.100.2")
		n, err := fetch(ctx, client)
		if err != nil {
			return err
		}
		rec.wait(settleTime)
		fmt.Printf("the client fetched http://198.51.100.2/ (%d octets) from the server:\n\n%s\n", n, rec.figure())
		go func() {
			forward(outside, func() (net.Conn, error) { return client.DialContext(ctx, "tcp", "198.51.100.2:80") })
			close(forwarded)
		}()
		context.AfterFunc(ctx, func() { outside.Close() })
		at := strings.Replace(outside.Addr().String(), "[::]", "localhost", 1)
		fmt.Printf("serving at http://%s: what you ask for there passes through both hosts\n", at)
		return nil
	})
	if err != nil {
		return err
	}
	select {
	case <-forwarded:
	case <-time.After(gracePeriod):
	}
	return nil
}

// settleTime is how long the first connection may take to close on both sides, before it is drawn: it takes less than a
// millisecond, and we are to serve within a second.
const settleTime = 500 * time.Millisecond

// fetch loads the page once, over a connection that it opens and closes, and returns the page's length.
func fetch(ctx context.Context, client *stack.Stack) (int64, error) {
	transport := &http.Transport{DialContext: client.DialContext}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, "GET", "http://198.51.100.2/", nil)
	if err != nil {
		return 0, err
	}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	return io.Copy(io.Discard, answer.Body)
}

// forward carries each connection that l accepts to one that dial makes, until l is closed. It returns once all of
// them have ended, and nothing cuts short an answer that is on its way.
func forward(l net.Listener, dial func() (net.Conn, error)) {
	var carried sync.WaitGroup
	defer carried.Wait()
	for {
		in, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files: others may close some
			time.Sleep(10 * time.Millisecond)
			continue
		}
		carried.Go(func() {
			out, err := dial()
			if err != nil {
				in.Close()
				return
			}
			splice.Splice(context.Background(), in, out, splice.Config{HalfClosed: time.Minute})
		})
	}
}
