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

// parsed is a command line.
func parsed(line string) *options {
	var o options
	flags := flag.NewFlagSet("traceroute", flag.ContinueOnError)
	o.register(flags)
	o.parse(flags, strings.Fields(line))
	return &o
}

// TestTraceroute: the host on the same link is one hop away, by either kind of probe, and one that is silent costs the wait.
func TestTraceroute(t *testing.T) {
	for _, x := range []struct{ line, want string }{
		{"198.51.100.2", `^traceroute to 198.51.100.2 \(198.51.100.2\), 30 hops max, 60 byte packets
 1  198.51.100.2  [12][05].000 ms  10.000 ms  10.000 ms
$`},
		{"-I -q 2 198.51.100.2", `
 1  198.51.100.2  [12][05].000 ms  10.000 ms
$`},
		{"-6", `^traceroute to 2001:db8:51::2 \(2001:db8:51::2\), 30 hops max, 80 byte packets
 1  2001:db8:51::2  \d+.000 ms  10.000 ms  10.000 ms
$`},
		{"-6 -I", "\n 1  2001:db8:51::2  "},
		{"-m 2 -q 1 -w 1 198.51.100.77", "\n 1  \\*\n 2  \\*\n$"},
	} {
		synctest.Test(t, func(t *testing.T) {
			a, b := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500, Delay: 5 * time.Millisecond})
			client, server := stack.New(stack.Config{}), stack.New(stack.Config{})
			defer client.Close()
			defer server.Close()
			client.Attach(a, netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:51::1/64"))
			server.Attach(b, netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("2001:db8:51::2/64"))
			var out strings.Builder
			if err := trace(context.Background(), &out, client, parsed(x.line)); err != nil || !regexp.MustCompile(x.want).MatchString(out.String()) {
				t.Errorf("traceroute %s: %v\n%s\nwant\n%s", x.line, err, out.String(), x.want)
			}
		})
	}
}

// TestRefuses: what makes no sense is an error before anything is sent.
func TestRefuses(t *testing.T) {
	for _, line := range []string{"-f 0", "-m 256", "-f 3 -m 2", "-q 0", "-q 11", "-p 0", "-p 65500", "-w 0", "-s -1", "-4 -6"} {
		if err := trace(context.Background(), nil, nil, parsed(line)); err == nil {
			t.Errorf("traceroute %s is no error", line)
		}
	}
}
