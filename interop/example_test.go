package interop

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// example builds a program of ../examples and runs it on a TAP, whose other end is the kernel's in this namespace, until the
// test ends. It returns once the program is reached at a TCP port of both families' addresses.
func example(t *testing.T, name, port string, args ...string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = filepath.Join("..", "examples", name)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", build, err, out)
	}
	// Or the kernel's IPv6 would begin a second later.
	os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
	daemon(t, append([]string{program, "-tap", "wb0"}, args...)...)
	for _, f := range families {
		awaitPort(t, net.JoinHostPort(f.ours, port))
	}
}
