package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// units are the service's, in this directory.
var units = []struct {
	name         string
	capabilities string // all that the service may ever have
}{
	{"waybill-httpserver.service", "CAP_NET_ADMIN"},
	{"waybill-httpserver-fd.service", ""},
}

// TestUnits: systemd understands the units, and finds them hardened.
func TestUnits(t *testing.T) {
	needs(t, "systemd-analyze")
	for _, u := range units {
		t.Run(u.name, func(t *testing.T) {
			text, err := os.ReadFile(u.name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), "\nCapabilityBoundingSet="+u.capabilities+"\nAmbientCapabilities="+u.capabilities+"\n") {
				t.Errorf("the bounding and the ambient set are not %q:\n%s", u.capabilities, text)
			}
			// It looks for the program, and that is here.
			path := filepath.Join(t.TempDir(), u.name)
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "/usr/local/bin/httpserver", build(t))), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, command := range [][]string{
				{"systemd-analyze", "verify", path},
				// Of 0 to 10.0; below 2.0 is "OK", and a unit that says nothing is 9.6, "UNSAFE".
				{"systemd-analyze", "security", "--offline=true", "--threshold=19", path},
			} {
				var stderr strings.Builder
				c := exec.Command(command[0], command[1:]...)
				c.Stderr = &stderr
				if out, err := c.Output(); err != nil || stderr.Len() > 0 {
					t.Errorf("%s: %v, want no complaint\n%s%s", strings.Join(command, " "), err, out, &stderr)
				}
			}
		})
	}
}

// A manager is what the program knows of systemd: a socket that it tells its state to.
type manager struct {
	*net.UnixConn
	t *testing.T
}

func newManager(t *testing.T) *manager {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for path, mode := range map[string]os.FileMode{filepath.Dir(dir): 0o755, dir: 0o755, path: 0o666} { // it is for nobody, too
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", path)
	return &manager{c, t}
}

// expect reads what the program says next, and returns the descriptors that come with it.
func (m *manager) expect(want string) (fds []int) {
	m.t.Helper()
	m.SetReadDeadline(time.Now().Add(patience))
	b, oob := make([]byte, 1000), make([]byte, 1000)
	n, oobn, _, _, err := m.ReadMsgUnix(b, oob)
	if got := string(b[:max(n, 0)]); got != want || err != nil {
		m.t.Fatalf("the service manager is told %q, %v; want %q", got, err, want)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range messages {
		some, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			m.t.Fatal(err)
		}
		fds = append(fds, some...)
	}
	return fds
}

// nobody is a command that runs what follows as nobody, with some capabilities, as "+net_admin", and no way to more.
func nobody(capabilities string) []string {
	if capabilities != "" {
		capabilities = "," + capabilities
	}
	return []string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
		"--bounding-set=-all" + capabilities, "--inh-caps=-all" + capabilities, "--ambient-caps=-all" + capabilities}
}

// rights sees who the program is and which capabilities it has: the same set everywhere.
func (p *process) rights(capabilities uint64) {
	p.t.Helper()
	status, err := os.ReadFile("/proc/" + strconv.Itoa(p.Process.Pid) + "/status")
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		switch f := strings.Fields(line); f[0] {
		case "Uid:", "Gid:":
			for _, id := range f[1:] {
				if id != "65534" {
					p.t.Errorf("it runs as %v, want nobody", f)
				}
			}
		case "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:":
			if set, err := strconv.ParseUint(f[1], 16, 64); err != nil || set != capabilities {
				p.t.Errorf("%s %x, want %x", f[0], set, capabilities)
			}
		case "NoNewPrivs:":
			if f[1] != "1" {
				p.t.Error("it could get rights, by a program of root's")
			}
		}
	}
}

// inService runs the calling test in a namespace, as root who can be nobody.
func inService(t *testing.T) bool {
	t.Helper()
	needs(t, "setpriv", "curl")
	if os.Getuid() != 0 {
		t.Skip("to be nobody takes root")
	}
	return inNamespace(t)
}

// served fetches the page over both families.
func (p *process) served() {
	p.t.Helper()
	for _, url := range []string{"http://198.51.100.2/", "http://[2001:db8:51::2]/"} {
		if out := p.tool("curl", "-sSg", "-m", "10", url); out != indexHTML {
			p.t.Errorf("curl %s: %s", url, out)
		}
	}
}

// TestServiceHandedOver is waybill-httpserver-fd.service, with this test as systemd: one who may opens the TAP and hands it
// over, and nobody, without any capability, serves on it.
func TestServiceHandedOver(t *testing.T) {
	if !inService(t) {
		return
	}
	systemd := newManager(t)
	opener := start(t, build(t), "-tap", "wb0", "-store")
	fds := systemd.expect("FDSTORE=1\nFDNAME=wb0")
	opener.end()
	if len(fds) != 1 {
		t.Fatalf("%d descriptors came with it, want 1", len(fds))
	}
	tap := os.NewFile(uintptr(fds[0]), "wb0")
	fails(t, "busy", build(t), "-tap", "wb0", "-store") // it is kept

	for range 2 { // restarted, it is handed the same TAP
		command := append(nobody(""), build(t), "-fd", "3", "-log", "debug", "-grace", "1m")
		p := startWith(t, []*os.File{tap}, command...)
		systemd.expect("READY=1")
		p.rights(0)
		p.served()
		p.drains(systemd)
	}
}

// TestServiceCapability is waybill-httpserver.service: with CAP_NET_ADMIN alone, nobody makes the TAP and serves.
func TestServiceCapability(t *testing.T) {
	if os.Getenv(namespaceEnv) == t.Name() {
		const netAdmin = 1 << 12 // capabilities(7)
		systemd := newManager(t)
		p := start(t, append(nobody("+net_admin"), build(t), "-tap", "wb0", "-log", "debug", "-grace", "1m")...)
		systemd.expect("READY=1")
		p.rights(netAdmin)
		p.served()
		p.drains(systemd)
		return
	}
	needs(t, "setpriv", "curl", "unshare", "mount", "mknod")
	if os.Getuid() != 0 {
		t.Skip("to be nobody takes root")
	}
	// /dev/net/tun as udev makes it, in a mount namespace, and a network namespace of root's.
	finish(t, again(t, "unshare", "-mn", "sh", "-c",
		`mount -t tmpfs -o mode=755 tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"`, "sh", os.Args[0]))
}

// drains terminates the program while a request is under way, which is answered still, and sees that it ends in good
// order and says so.
func (p *process) drains(systemd *manager) {
	p.t.Helper()
	slow, err := net.Dial("tcp", "198.51.100.2:80")
	if err != nil {
		p.t.Fatal(err)
	}
	defer slow.Close()
	slow.SetDeadline(time.Now().Add(patience))
	// The server reads what belongs to a request before it answers.
	io.WriteString(slow, "GET / HTTP/1.1\r\nHost: 198.51.100.2\r\nContent-Length: 1\r\n\r\n")
	idle, err := net.Dial("tcp", "198.51.100.2:80") // and is not held up by who asks nothing more
	if err != nil {
		p.t.Fatal(err)
	}
	defer idle.Close()
	answers := bufio.NewReader(idle)
	for range 100 { // so the other, which came before, was taken up: a server that is closing would not wait for its rest
		io.WriteString(idle, "GET / HTTP/1.1\r\nHost: 198.51.100.2\r\n\r\n")
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			p.t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			p.t.Fatal(err)
		}
	}

	p.signal(syscall.SIGTERM)
	systemd.expect("STOPPING=1")
	for refused := false; !refused; { // what is new is not taken any more
		c, err := net.Dial("tcp", "198.51.100.2:80")
		if refused = err != nil; !refused {
			c.Close()
		}
	}
	slow.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := slow.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		p.t.Fatalf("before all of the request was sent: %d octets, %v; want no answer yet, and no end", n, err)
	}
	slow.SetDeadline(time.Now().Add(patience))
	io.WriteString(slow, "x")
	answer, err := http.ReadResponse(bufio.NewReader(slow), nil)
	if err != nil {
		p.t.Fatalf("a request under way: %v", err)
	}
	body, err := io.ReadAll(answer.Body)
	if string(body) != indexHTML || err != nil {
		p.t.Errorf("a request under way is answered with %q, %v; want the page", body, err)
	}
	rest, _ := io.ReadAll(p.stdout)
	p.said.Write(rest)
	if err := p.Wait(); err != nil {
		p.t.Errorf("ended with %v, want exit status 0\n%s%s", err, &p.said, &p.stderr)
	}
	for _, want := range []string{"level=INFO msg=serving device=wb0", "level=DEBUG msg=request method=GET url=/ from=198.51.100.1:", "level=INFO msg=closing grace=1m0s", "level=INFO msg=closed late=false"} {
		if !strings.Contains(p.stderr.String(), want) {
			p.t.Errorf("it did not log %q:\n%s", want, &p.stderr)
		}
	}
}
