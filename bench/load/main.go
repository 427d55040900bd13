// Load puts a stack under load with the kernel as peer, over each kind of device, and holds that nothing fails: no request,
// no connection, no octet. It needs root, and ab, wrk, nginx and ip in the path.
//
//	go build ./load && sudo ./load
//
// Everything happens in a network namespace of its own, takes some two minutes, and prints a line for each check. The
// status is 1 if one has failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// Where who is: the kernel's side and ours (RFC 5737, RFC 3849).
var (
	kernel4 = netip.MustParsePrefix("198.51.100.1/24")
	kernel6 = netip.MustParsePrefix("2001:db8:51::1/64")
	ours4   = netip.MustParsePrefix("198.51.100.2/24")
	ours6   = netip.MustParsePrefix("2001:db8:51::2/64")
)

// device is the interface's name.
const device = "t0"

// kinds are the devices, by the names that -devices takes.
var kinds = []kind{
	{"tap", link.OpenTUN, link.TUNConfig{Name: device, TAP: true}},
	{"tun", link.OpenTUN, link.TUNConfig{Name: device}},
	{"water", link.OpenWater, link.TUNConfig{Name: device, TAP: true}},
	{"queues", link.OpenTUN, link.TUNConfig{Name: device, Queues: 4}},
	{"tapqueues", link.OpenTUN, link.TUNConfig{Name: device, TAP: true, Queues: 4}},
}

type kind struct {
	name   string
	open   func(link.TUNConfig) (link.Device, error)
	config link.TUNConfig
}

// A check puts one load on a scene, and returns what there is to say of it.
type check struct {
	name string
	run  func(ctx context.Context, s *scene) (string, error)
}

var (
	serverChecks = []check{
		{"ab, 20,000 requests, 100 at a time", apacheBench},
		{"wrk, 256 connections, 10 s", wrk},
		{"200 MB down from waybill, IPv4", func(_ context.Context, s *scene) (string, error) { return download(s.kernelDial, s.url4+"/down") }},
		{"200 MB up to waybill, IPv4", func(_ context.Context, s *scene) (string, error) { return upload(s.kernelDial, s.url4+"/up") }},
		{"200 MB down from waybill, IPv6", func(_ context.Context, s *scene) (string, error) { return download(s.kernelDial, s.url6+"/down") }},
		{"200 MB up to waybill, IPv6", func(_ context.Context, s *scene) (string, error) { return upload(s.kernelDial, s.url6+"/up") }},
	}
	clientChecks = []check{
		{"to nginx, 20,000 requests, 100 connections", clientRequests},
		{"to nginx, 256 connections, 10 s", clientHolds},
		{"200 MB down from nginx", func(_ context.Context, s *scene) (string, error) {
			return download(s.stack.DialContext, s.nginx+"/down")
		}},
		{"200 MB up to net/http", func(_ context.Context, s *scene) (string, error) { return upload(s.stack.DialContext, s.http+"/up") }},
	}
	queueChecks = []check{{"64 connections, 4 MB each way at once", manyStreams}}
)

func main() {
	devices := flag.String("devices", "tap,tun,water,queues,tapqueues", "`kinds` of device")
	flag.Parse()
	err := errInside
	if os.Getenv(inside) == "" {
		err = enter()
	}
	if err == errInside {
		err = run(strings.Split(*devices, ","))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

const inside = "WAYBILL_LOAD_INSIDE"

var (
	errInside = errors.New("in the namespace already")
	errFailed = errors.New("some checks have failed")
)

// enter runs the program once more, in a network namespace of its own, which ends with it.
func enter() error {
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), inside+"=1")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if err := c.Run(); err != nil {
		return fmt.Errorf("in a network namespace: %w", err)
	}
	return nil
}

func run(devices []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	failed := false
	for _, k := range kinds {
		if !slices.Contains(devices, k.name) {
			continue
		}
		checks := slices.Concat(serverChecks, clientChecks)
		if k.config.Queues > 1 {
			checks = queueChecks
		}
		ok, err := k.measure(ctx, checks)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		failed = failed || !ok
	}
	if failed {
		return errFailed
	}
	return nil
}

// measure runs checks over one device.
func (k *kind) measure(ctx context.Context, checks []check) (ok bool, err error) {
	s, err := newScene(k)
	if err != nil {
		return false, err
	}
	defer s.close()
	ok = true
	for _, c := range checks {
		start := time.Now()
		figure, err := c.run(ctx, s)
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		verdict := "ok"
		if err != nil {
			verdict, ok = "FAILED", false
			figure = strings.TrimSpace(figure + " " + err.Error())
		}
		fmt.Printf("%-9s %-43s %-6s %5.1fs  %s\n", k.name, c.name, verdict, time.Since(start).Seconds(), figure)
		if err != nil {
			fmt.Printf("%+v\n", s.stack.Stats())
		}
	}
	return ok, nil
}

// attach opens the device of a kind, and makes a host behind it.
func (k *kind) attach() (*stack.Stack, error) {
	d, err := k.open(k.config)
	if err != nil {
		return nil, err
	}
	s := stack.New(stack.Config{})
	if _, err := s.Attach(d, ours4, ours6); err != nil {
		s.Close()
		return nil, err
	}
	if err := link.ConfigureHost(device, []netip.Prefix{kernel4, kernel6}, 0); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
