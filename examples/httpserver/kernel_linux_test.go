package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
)

// namespaceEnv names the test that runs once more in a namespace, to itself.
const namespaceEnv = "WAYBILL_TEST_NAMESPACE"

// missing skips a test that lacks something of the system's, but never where CI is set.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// needs looks for the tools that a test runs.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, "needs %s: %v", tool, err)
		}
	}
}

// inNamespace runs the calling test once more, in a process with a network of its own, and reports whether this is
// that process.
func inNamespace(t *testing.T) bool {
	t.Helper()
	t.Setenv(programEnv, build(t))
	return netns.Enter(t, time.Minute)
}

// again is the calling test in another process, started by command.
func again(t *testing.T, command ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(command[0], append(command[1:], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=60s")...)
	c.Env = append(os.Environ(), namespaceEnv+"="+t.Name(), programEnv+"="+build(t))
	return c
}

func finish(t *testing.T, c *exec.Cmd) {
	t.Helper()
	out, err := c.CombinedOutput()
	switch exit := (*exec.ExitError)(nil); {
	case errors.As(err, &exit):
		t.Fatalf("in a namespace: %v\n%s", err, out)
	case err != nil:
		missing(t, "no namespace: %v", err)
	default:
		t.Logf("in a namespace:\n%s", out)
	}
}

// tool runs a tool and returns what it prints.
func (p *process) tool(command ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Env = append(os.Environ(), "no_proxy=*")
	out, err := c.CombinedOutput()
	if err != nil {
		p.t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
	return string(out)
}

// onDevice starts the program on a device and runs the commands that it prints.
func onDevice(t *testing.T, args ...string) *process {
	t.Helper()
	p := start(t, append([]string{build(t)}, args...)...)
	p.until("serving on wb0;")
	for _, want := range []string{"  curl http://198.51.100.2/", "  ping -c 3 198.51.100.2", "  curl -g 'http://[2001:db8:51::2]/'", "  ping -6 -c 3 2001:db8:51::2"} {
		line := p.until("  ")
		if line != want+"\n" {
			t.Errorf("it prints %q, want %q", line, want)
		}
		out := p.tool("sh", "-c", strings.NewReplacer("curl", "curl -sS -m 10", "-c 3", "-c 1").Replace(line))
		if strings.Contains(line, "curl") && out != indexHTML || strings.Contains(line, "ping") && !strings.Contains(out, " 0% packet loss") {
			t.Errorf("%s: got\n%s", strings.TrimSpace(line), out)
		}
	}
	return p
}

// load is ab's 5000 requests, 50 at a time.
func (p *process) load(url string) {
	p.t.Helper()
	out := p.tool("ab", "-q", "-n", "5000", "-c", "50", "-r", url)
	for _, want := range []string{`Complete requests: +5000\n`, `Failed requests: +0\n`} {
		if !regexp.MustCompile(want).MatchString(out) {
			p.t.Errorf("ab %s: no %q in\n%s", url, want, out)
		}
	}
	if strings.Contains(out, "Non-2xx") {
		p.t.Errorf("ab %s: not all answers were the page\n%s", url, out)
	}
	if rate := regexp.MustCompile(`Requests per second:.*`).FindString(out); rate != "" {
		p.t.Log(url, rate)
	}
}

func testDevice(t *testing.T, args ...string) {
	needs(t, "curl", "ping", "ab")
	if !inNamespace(t) {
		return
	}
	p := onDevice(t, args...)
	p.load("http://198.51.100.2/")
	p.load("http://[2001:db8:51::2]/")
	p.signal(syscall.SIGINT)
	p.end()
}

func TestKernelTAP(t *testing.T)      { testDevice(t, "-tap", "wb0") }
func TestKernelTUN(t *testing.T)      { testDevice(t, "-tun", "wb0") }
func TestKernelTAPWater(t *testing.T) { testDevice(t, "-tap", "wb0", "-water") }
func TestKernelTUNWater(t *testing.T) { testDevice(t, "-tun", "wb0", "-water") }

func TestKernelAddresses(t *testing.T) {
	needs(t, "curl")
	if !inNamespace(t) {
		return
	}
	p := start(t, build(t), "-tun", "wb0", "-addr", "203.0.113.2/24, 203.0.113.3/24,2001:db8:7::2/64", "-host", "203.0.113.1/24")
	p.until("serving on wb0;")
	p.until("  (2001:db8:7::2 is on no network of the kernel's side; see -host)")
	for _, a := range []string{"203.0.113.2", "203.0.113.3"} {
		if out := p.tool("curl", "-sS", "-m", "10", "http://"+a); out != indexHTML {
			t.Errorf("curl %s: %s", a, out)
		}
	}
	p.signal(syscall.SIGTERM)
	p.end()
}

func TestKernelErrors(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	fails(t, "longer than 15 bytes", build(t), "-tap", "wb01234567890123")
	fails(t, "address", build(t), "-tap", "wb0", "-addr", "198.51.100.0/24") // the network's own
	p := start(t, build(t), "-tap", "wb0")
	p.until("serving on wb0;")
	fails(t, "in use", build(t), "-tap", "wb0")
	fails(t, "busy", build(t), "-tap", "wb0", "-water")
	fails(t, "another kind", build(t), "-tun", "wb0")
	p.signal(syscall.SIGTERM)
	p.end()
}

// otherTUN is a command that runs what follows as nobody, where /dev/net holds what the shell script made of it.
func otherTUN(t *testing.T, script string) []string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("another /dev/net/tun takes root to make")
	}
	needs(t, "unshare", "setpriv", "mount", "mknod")
	command := []string{"unshare", "-m", "sh", "-c", "mount -t tmpfs -o mode=755 tmpfs /dev/net && " + script + ` && exec "$@"`, "sh",
		"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}
	if out, err := exec.Command(command[0], append(command[1:], "true")...).CombinedOutput(); err != nil {
		missing(t, "no mount namespace with a device: %v\n%s", err, out)
	}
	return command
}

// TestUnprivileged is a TAP for who is not root: all it takes is a /dev/net/tun that may be read and written.
func TestUnprivileged(t *testing.T) {
	needs(t, "curl", "ping")
	if os.Getenv(namespaceEnv) == t.Name() {
		p := onDevice(t, "-tap", "wb0")
		p.signal(syscall.SIGINT)
		p.end()
		return
	}
	nobody := otherTUN(t, "mknod -m 666 /dev/net/tun c 10 200")
	self := copyTo(t, filepath.Dir(build(t)))
	finish(t, again(t, append(nobody, "unshare", "-Urn", self)...))
}

// copyTo copies this test's binary to where nobody may execute it, and returns its path.
func copyTo(t *testing.T, dir string) string {
	t.Helper()
	in, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, "test.exe"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err == nil {
		_, err = io.Copy(out, in)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

func TestUnprivilegedErrors(t *testing.T) {
	for _, c := range []struct {
		name, script string
		namespace    bool
		want         string
	}{
		{"root's alone", "mknod -m 600 /dev/net/tun c 10 200", false, "is for root alone"},
		{"root's alone, in a namespace", "mknod -m 600 /dev/net/tun c 10 200", true, "is for root alone"},
		{"everybody's, no namespace", "mknod -m 666 /dev/net/tun c 10 200", false, "unshare -Urn"},
		{"none", "true", false, "this system has no /dev/net/tun"},
	} {
		for _, water := range []string{"", "-water"} {
			t.Run(c.name+water, func(t *testing.T) {
				command := otherTUN(t, c.script)
				if c.namespace {
					command = append(command, "unshare", "-Urn")
				}
				command = append(command, build(t), "-tap", "wb0")
				if water != "" {
					command = append(command, water)
				}
				fails(t, c.want, command...)
			})
		}
	}
}
