package main

import (
	"context"
	"flag"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// hosts are two on a wire that takes 10 ms there and back.
func hosts(t *testing.T) *stack.Stack {
	t.Helper()
	a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500, Delay: 5 * time.Millisecond})
	client, server := stack.New(stack.Config{}), stack.New(stack.Config{})
	t.Cleanup(func() { client.Close(); server.Close() })
	for _, x := range []struct {
		s    *stack.Stack
		d    link.Device
		a, b string
	}{{client, a, "198.51.100.1/24", "2001:db8:51::1/64"}, {server, b, "198.51.100.2/24", "2001:db8:51::2/64"}} {
		if _, err := x.s.Attach(x.d, netip.MustParsePrefix(x.a), netip.MustParsePrefix(x.b)); err != nil {
			t.Fatal(err)
		}
	}
	return client
}

// parsed is a command line.
func parsed(line string) *options {
	var o options
	flags := flag.NewFlagSet("ping", flag.ContinueOnError)
	o.register(flags)
	o.parse(flags, strings.Fields(line))
	return &o
}

// TestPing: what is printed is what Linux's ping prints, and whether somebody replied is known.
func TestPing(t *testing.T) {
	for _, x := range []struct {
		line    string
		replied bool
		want    string // a regular expression
	}{
		{"-c 3 -i 0.5", true, `^PING 198.51.100.2 \(198.51.100.2\) 56\(84\) bytes of data.
64 bytes from 198.51.100.2: icmp_seq=1 ttl=64 time=[12][05].0 ms
64 bytes from 198.51.100.2: icmp_seq=2 ttl=64 time=10.0 ms
64 bytes from 198.51.100.2: icmp_seq=3 ttl=64 time=10.0 ms

--- 198.51.100.2 ping statistics ---
3 packets transmitted, 3 received, 0% packet loss, time 1010ms
rtt min/avg/max/mdev = 10.000/[0-9.]+/[0-9.]+/[0-9.]+ ms
$`},
		{"2001:db8:51::2 -c 1 -s 3000 -t 9", true, `PING 2001:db8:51::2 \(2001:db8:51::2\) 3000\(3048\) bytes of data.
3008 bytes from 2001:db8:51::2: icmp_seq=1 ttl=64 time=\d+.0 ms
`},
		{"-6 -q -c 2", true, `bytes of data.

--- 2001:db8:51::2 ping statistics ---
2 packets transmitted, 2 received, 0% packet loss`},
		{"-c 2 198.51.100.77", false, `From 198.51.100.1 icmp_seq=1 Destination Host Unreachable
(?s:.*)2 packets transmitted, 0 received, \+2 errors, 100% packet loss, time \d+ms
$`},
		{"-c 1 203.0.113.1", false, `ping: sendmsg: network is unreachable`},
		{"-c 1 -M -s 2000", false, `ping: sendmsg: message too long`},
		{"-w 3 198.51.100.2", true, `[34] packets transmitted, [34] received`},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out strings.Builder
			replied, err := ping(context.Background(), &out, hosts(t), parsed(x.line))
			if err != nil || replied != x.replied || !regexp.MustCompile(x.want).MatchString(out.String()) {
				t.Errorf("ping %s: replied %v, %v\n%s\nwant\n%s", x.line, replied, err, out.String(), x.want)
			}
		})
	}
}

// TestRefuses: what makes no sense is an error before anything is sent.
func TestRefuses(t *testing.T) {
	for _, line := range []string{"-s 65508", "-s -1", "-i 0", "-W 0", "-t 256", "-Q 256", "-c -1", "-4 -6"} {
		if _, err := ping(context.Background(), nil, nil, parsed(line)); err == nil {
			t.Errorf("ping %s is no error", line)
		}
	}
}

// TestInterrupted: an interrupt ends it, with the summary.
func TestInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 2500*time.Millisecond)
		defer cancel()
		var out strings.Builder
		replied, err := ping(ctx, &out, hosts(t), parsed(""))
		if err != nil || !replied || !strings.Contains(out.String(), "3 packets transmitted, 3 received") {
			t.Errorf("%v, %v\n%s", replied, err, out.String())
		}
	})
}
