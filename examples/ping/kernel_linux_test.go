package main

import (
	"errors"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
)

// TestKernel: the program, run as its user does, reaches the kernel and a host behind it, and ends with ping's status.
func TestKernel(t *testing.T) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	netns.Behind(t, 1400, []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8:113::1/64")},
		[]netip.Prefix{netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("2001:db8:113::2/64")})
	program := filepath.Join(t.TempDir(), "ping")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, x := range []struct {
		line, want string
		status     int
	}{
		{"-c 3 -i 0.2 198.51.100.1", `64 bytes from 198.51.100.1: icmp_seq=3 ttl=64 time=`, 0},
		{"-c 3 -i 0.2 2001:db8:51::1", `64 bytes from 2001:db8:51::1: icmp_seq=3 ttl=64 time=`, 0},
		{"-c 2 -i 0.2 203.0.113.2", `64 bytes from 203.0.113.2: icmp_seq=2 ttl=63 time=`, 0},
		{"-c 2 -i 0.2 2001:db8:113::2", `64 bytes from 2001:db8:113::2: icmp_seq=2 ttl=63 time=`, 0},
		{"-c 2 -i 0.2 -s 20000 198.51.100.1", `20008 bytes from 198.51.100.1: icmp_seq=2 ttl=64 time=`, 0},
		{"-c 1 -t 1 203.0.113.2", `From 198.51.100.1 icmp_seq=1 Time to live exceeded`, 1},
		{"-c 1 -M -s 1472 203.0.113.2", `From 198.51.100.1 icmp_seq=1 Frag needed and DF set \(mtu = 1400\)`, 1},
		{"-c 1 203.0.113.77", `From 198.51.100.1 icmp_seq=1 Destination Host Unreachable`, 1},
		{"-c 1 192.0.2.1", `From 198.51.100.1 icmp_seq=1 Destination Net Unreachable`, 1},
		{"-c 1 -s 70000 198.51.100.1", `ping: -s 70000`, 2},
		{"-c x", `invalid value "x" for flag -c`, 2},
	} {
		c := exec.Command(program, append([]string{"-tap", "wb0"}, strings.Fields(x.line)...)...)
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if c.ProcessState.ExitCode() != x.status || !regexp.MustCompile(x.want).Match(out) {
			t.Errorf("ping %s: status %d, want %d\n%s\nwant %s", x.line, c.ProcessState.ExitCode(), x.status, out, x.want)
		}
	}
}
