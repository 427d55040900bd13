package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/examples/internal/scene"
	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/narrate"
)

// A place is a network namespace of the kernel's, behind a TAP device.
type place struct {
	t      *testing.T
	space  int // descriptor
	device link.Device
}

// newPlace makes a namespace with a TAP device, its address, and a default route where a gateway is given.
func newPlace(t *testing.T, name, address, gateway string) *place {
	t.Helper()
	p := &place{t: t}
	err := onThread(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		if p.space, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		if p.device, err = link.OpenTUN(link.TUNConfig{Name: name, TAP: true}); err != nil {
			return err
		}
		return link.ConfigureHost(name, []netip.Prefix{netip.MustParsePrefix(address)}, 0)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p.space) })
	if gateway != "" {
		p.run("ip", "route", "add", "default", "via", gateway)
	}
	return p
}

// onThread runs f on a thread that ends with it.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func (p *place) in(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(p.space, unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

// run runs a program there, and returns what it prints.
func (p *place) run(args ...string) (out string) {
	p.t.Helper()
	err := p.in(func() error {
		b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		out = string(b)
		return err
	})
	if err != nil {
		p.t.Errorf("%v: %v\n%s", args, err, out)
	}
	return out
}

// bigFile is what the kernel's ends send each other.
const bigFile = 500 << 20

func big() io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{7}), bigFile) }

// serve starts a web server there: /big is the file, and all else says who asks.
func (p *place) serve(address string) {
	p.t.Helper()
	var l net.Listener
	err := p.in(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { l.Close() })
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Header().Set("Content-Length", fmt.Sprint(bigFile))
			io.Copy(w, big())
			return
		}
		fmt.Fprintln(w, "you come from", r.RemoteAddr)
	}))
}

// TestKernelAtBothEnds: the kernel is the phone and the laptop, and everything between is ours.
func TestKernelAtBothEnds(t *testing.T) {
	if !netns.Enter(t, 4*time.Minute) {
		return
	}
	phone := newPlace(t, "wan0", phoneAddr, "")
	laptop := newPlace(t, "lan0", laptopAddr, "198.51.100.1")
	h := &home{server: "198.51.100.20:80", wanTAP: phone.device, lanTAP: laptop.device}
	h.Instant = true
	if err := h.build(); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	phone.serve("203.0.113.9:80")
	laptop.serve("198.51.100.20:80")

	curl := []string{"curl", "-sS", "--max-time", "100"}
	for _, c := range []struct {
		name string
		from *place
		args []string
		want string
	}{
		{"curl from the phone, through the forwarded port", phone, append(curl, "http://203.0.113.1:8080/"), "you come from 203.0.113.9:"},
		{"curl from the laptop, masqueraded, to the phone", laptop, append(curl, "http://203.0.113.9/"), "you come from 203.0.113.1:"},
		{"curl from the laptop, masqueraded, to the web server", laptop, append(curl, "http://203.0.113.80/"), "you come from 203.0.113.1:"},
		{"curl from the laptop to the printer, at the hub", laptop, append(curl, "http://198.51.100.30/"), "I am the printer"},
		{"curl from the laptop by the external address", laptop, append(curl, "http://203.0.113.1:8080/"), "you come from 203.0.113.1:"},
		{"ping", laptop, []string{"ping", "-n", "-c", "3", "-i", "0.2", "203.0.113.80"}, " 0% packet loss"},
		{"ping to the router from outside", phone, []string{"ping", "-n", "-c", "3", "-i", "0.2", "203.0.113.1"}, " 0% packet loss"},
		{"traceroute", laptop, []string{"traceroute", "-n", "-q", "1", "203.0.113.9"}, " 1  198.51.100.1 "},
		{"dig", laptop, []string{"dig", "+short", "+time=5", "@198.51.100.1", "www.example"}, "203.0.113.80\n"},
	} {
		if _, err := exec.LookPath(c.args[0]); err != nil {
			t.Logf("%s: %v", c.name, err)
			continue
		}
		if got := c.from.run(c.args...); !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := phone.run("curl", "-s", "--max-time", "1", "-o", "/dev/null", "-w", "%{http_code}", "http://203.0.113.1:8080/"); got != "200" {
		t.Errorf("the forwarded port answers %q, want 200", got)
	}

	if _, err := exec.LookPath("vsftpd"); err == nil {
		kernelFTP(t, phone, laptop)
	}
	if _, err := exec.LookPath("nmap"); err == nil {
		got := phone.run("nmap", "-n", "-Pn", "-p-", "--min-rate", "5000", "203.0.113.1")
		if open := regexp.MustCompile(`(?m)^\d+/tcp +open\b`).FindAllString(got, -1); len(open) != 1 || !strings.HasPrefix(open[0], "8080/") {
			t.Errorf("nmap from outside finds other than port 8080 alone:\n%s", got)
		}
	}
	if _, err := exec.LookPath("iperf3"); err == nil {
		server := exec.Command("iperf3", "-s")
		if err := phone.in(server.Start); err != nil {
			t.Fatal(err)
		}
		defer server.Wait()
		defer server.Process.Kill()
		for _, way := range [][]string{nil, {"-R"}} {
			// It may not listen yet, or still be busy with the test before.
			got := laptop.run("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do iperf3 -c 203.0.113.9 -t 1 -f m "+strings.Join(way, "")+" && break; sleep 0.2; done")
			if !strings.Contains(got, "receiver") {
				t.Errorf("iperf3: %s", got)
			}
			for line := range strings.Lines(got) {
				if strings.Contains(line, "receiver") {
					t.Logf("iperf3 %v: %s", way, line)
				}
			}
		}
	}

	sum := sha256.New()
	io.Copy(sum, big())
	want := fmt.Sprintf("%x", sum.Sum(nil))
	for _, c := range []struct {
		name, url string
		from      *place
	}{{"in, through the forwarded port", "http://203.0.113.1:8080/big", phone}, {"out, masqueraded", "http://203.0.113.9/big", laptop}} {
		start := time.Now()
		got := c.from.run("sh", "-c", "curl -sS --max-time 100 "+c.url+" | sha256sum")
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: the file's sum is %s, want %s", c.name, got, want)
		}
		t.Logf("%s: 500 MiB in %v", c.name, time.Since(start))
	}
}

// kernelFTP: the laptop gets a file from the phone, whose server says where the connection for it goes to. Two of the ways
// to say that are the client's to use behind a router that masquerades: RFC 959's PASV and RFC 2428's EPSV.
func kernelFTP(t *testing.T, phone, laptop *place) {
	dir, err := os.MkdirTemp("", "homerouter") // whoever serves may read it, which a test's own directory forbids
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	file, config, empty := filepath.Join(dir, "file"), filepath.Join(dir, "vsftpd.conf"), filepath.Join(dir, "empty")
	b := make([]byte, 10<<20)
	rand.NewChaCha8([32]byte{8}).Read(b)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(empty, 0o755), os.WriteFile(file, b, 0o644), os.WriteFile(config, []byte(strings.Join([]string{
		"listen=YES", "background=NO", "seccomp_sandbox=NO", "isolate_network=NO", "isolate=NO", "anonymous_enable=YES",
		"no_anon_password=YES", "local_enable=NO", "anon_root=" + dir, "secure_chroot_dir=" + empty, "vsftpd_log_file=/dev/null", "",
	}, "\n")), 0o644)); err != nil {
		t.Fatal(err)
	}
	server := exec.Command("vsftpd", config)
	if err := phone.in(server.Start); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	want := fmt.Sprintf("%x", sha256.Sum256(b))
	for _, how := range []string{"--disable-epsv", "--ftp-pasv"} {
		got := laptop.run("sh", "-c", "curl -sS --max-time 60 --retry 20 --retry-delay 1 --retry-connrefused "+how+" ftp://203.0.113.9/file | sha256sum")
		if !strings.HasPrefix(got, want) {
			t.Errorf("FTP, curl %s: the file's sum is %s, want %s", how, got, want)
		}
	}
}

// TestKernelManyConnections: ten thousand connections through the router at once, masqueraded, between two processes on the
// kernel's sockets.
func TestKernelManyConnections(t *testing.T) {
	if !netns.Enter(t, 4*time.Minute) {
		return
	}
	phone := newPlace(t, "wan0", phoneAddr, "")
	laptop := newPlace(t, "lan0", laptopAddr, "198.51.100.1")
	h := &home{server: "198.51.100.20:80", wanTAP: phone.device, lanTAP: laptop.device}
	h.Instant = true
	if err := h.build(); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	end := func(role string) *exec.Cmd {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), roleEnv+"="+role+" 203.0.113.9:7")
		return c
	}
	server := end("server")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.in(server.Start); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal("the server does not listen:", err)
	}
	start := time.Now()
	var said []byte
	err = laptop.in(func() (err error) {
		said, err = end("client").CombinedOutput()
		return err
	})
	if want := fmt.Sprintf("%d connections", manyConns); err != nil || !strings.HasPrefix(string(said), want) {
		t.Errorf("the client: %v\n%s", err, said)
	}
	t.Logf("%s in %v", bytes.TrimSpace(said), time.Since(start))
}

// TestKernelHomework: what the kernel at both ends does is told as well.
func TestKernelHomework(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	phone := newPlace(t, "wan0", phoneAddr, "")
	n := narrate.New()
	h := &home{server: "198.51.100.10:80", wanTAP: phone.device}
	h.Instant, h.Narrator = true, n
	if err := h.build(); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	n.Forget()
	if got := phone.run("curl", "-sS", "--max-time", "20", "http://203.0.113.1:8080/"); !strings.Contains(got, "I am the server") {
		t.Errorf("curl: %q", got)
	}
	var b strings.Builder
	if err := scene.Tell(&b, n); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"translation: the destination 203.0.113.1:8080 becomes 198.51.100.10:80", "translation: the source 198.51.100.10:80 becomes 203.0.113.1:8080",
		`"GET / HTTP/1.1"`, `"HTTP/1.1 200 OK"`, "The close"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
