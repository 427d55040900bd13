package main

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
)

// TestKernel: the program, run as its user does, finds the kernel on the way to a host behind it.
func TestKernel(t *testing.T) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	netns.Behind(t, 1500, []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("2001:db8:113::1/64")},
		[]netip.Prefix{netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("2001:db8:113::2/64")})
	program := filepath.Join(t.TempDir(), "traceroute")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, x := range []struct{ line, want string }{
		{"203.0.113.2", "\n 1  198.51.100.1(  [0-9.]+ ms){3}\n 2  203.0.113.2(  [0-9.]+ ms){3}\n$"},
		{"-I 203.0.113.2", "\n 1  198.51.100.1(  [0-9.]+ ms){3}\n 2  203.0.113.2(  [0-9.]+ ms){3}\n$"},
		{"2001:db8:113::2", "\n 1  2001:db8:51::1(  [0-9.]+ ms){3}\n 2  2001:db8:113::2(  [0-9.]+ ms){3}\n$"},
		{"-I 2001:db8:113::2", "\n 1  2001:db8:51::1(  [0-9.]+ ms){3}\n 2  2001:db8:113::2(  [0-9.]+ ms){3}\n$"},
		{"-q 1 192.0.2.1", "\n 1  198.51.100.1  [0-9.]+ ms( !N)?\n"},
	} {
		out, err := exec.Command(program, append([]string{"-tap", "wb0"}, strings.Fields(x.line)...)...).CombinedOutput()
		if err != nil || !regexp.MustCompile(x.want).Match(out) {
			t.Errorf("traceroute %s: %v\n%s\nwant %s", x.line, err, out, x.want)
		}
	}
}
