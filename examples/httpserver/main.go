// Command httpserver serves a web page over a TCP/IP stack of its own.
//
//	go run ./examples/httpserver                 two hosts in this process; see http://127.0.0.1:8080
//	sudo go run ./examples/httpserver -tap wb0   a host behind a TAP device; see http://198.51.100.2
//
// This file is an HTTP server like any other: a listener, a handler, and an end in good order. The one difference is
// where the listener comes from, a stack.Stack and not package net. embedded.go is the network in memory, device.go the
// one that the kernel sees, and figure.go draws a connection as RFC 9293 does.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
	"github.com/seed87e66d9f/waybill/tcp"
)

// options are the command line.
type options struct {
	listen     string
	tap, tun   string
	water      bool
	addr, host string
	pcap       string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` of this machine to forward into the network in memory")
	flag.StringVar(&o.tap, "tap", "", "serve on the TAP device of this `name` instead, made if need be")
	flag.StringVar(&o.tun, "tun", "", "serve on the TUN device of this `name` instead, made if need be")
	flag.BoolVar(&o.water, "water", false, "open the device through github.com/songgao/water")
	flag.StringVar(&o.addr, "addr", "198.51.100.2/24,2001:db8:51::2/64", "our `prefixes` on the device")
	flag.StringVar(&o.host, "host", "198.51.100.1/24,2001:db8:51::1/64", "the kernel's `prefixes` on the device")
	flag.StringVar(&o.pcap, "pcap", "", "write what passes the server's device to this `file`, as pcapng")
	flag.Parse()

	// Notify also takes up an interrupt that was ignored when we started, as it is in the background of a script.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // whoever asks twice is not to wait
	if err := run(ctx, &o); err != nil {
		fmt.Fprintln(os.Stderr, "httpserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, o *options) error {
	set := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
	device := set["tap"] || set["tun"]
	switch {
	case flag.NArg() > 0:
		return fmt.Errorf("%q is not a flag; see -help", flag.Arg(0))
	case set["tap"] && set["tun"]:
		return errors.New("-tap and -tun: one device, please")
	case device && set["listen"]:
		return errors.New("-listen is for the network in memory; a device is reached at -addr, port 80")
	case !device && (o.water || set["addr"] || set["host"]):
		return errors.New("-water, -addr and -host go with -tap or -tun")
	case device:
		return runDevice(ctx, o)
	}
	return runEmbedded(ctx, o)
}

// capture has what passes d written to the file of -pcap, if there is one. The file is closed with the device.
func (o *options) capture(d link.Device) (link.Device, error) {
	if o.pcap == "" {
		return d, nil
	}
	f, err := os.Create(o.pcap)
	if err != nil {
		d.Close()
		return nil, err
	}
	return recorded{link.Capture(d, f), f}, nil
}

type recorded struct {
	link.Device
	file *os.File
}

func (r recorded) Changed() <-chan struct{} { return link.Changed(r.Device) }

func (r recorded) Close() error { return errors.Join(r.Device.Close(), r.file.Close()) }

// serve answers requests to port 80 of a host until ctx ends, then lets those that are under way finish. It calls ready
// once it listens, and ends as well where that returns an error.
func serve(ctx context.Context, host *stack.Stack, handler http.Handler, ready func() error) error {
	listener, err := host.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }() // as http.Serve(listener, handler), and Shutdown besides
	if err := ready(); err != nil {
		server.Close()
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	fmt.Println("closing")
	grace, cancel := context.WithTimeout(context.Background(), gracePeriod)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	// A kernel sends what a program leaves behind; our stack ends with us, so wait until the peers have it all.
	for unsent(host) && grace.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return nil
}

// unsent reports whether a peer has not yet acknowledged all that a host had to say, up to its FIN.
func unsent(host *stack.Stack) bool {
	for c := range host.Conns() {
		switch c.State {
		case tcp.Established, tcp.CloseWait, tcp.FinWait1, tcp.Closing, tcp.LastAck:
			return true
		}
	}
	return false
}

// gracePeriod is how long requests under way may take once we are told to end: a person at a terminal waits that long.
const gracePeriod = 3 * time.Second
