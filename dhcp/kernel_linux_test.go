package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// onTAP is a host on a TAP device, whose other end is the kernel's.
func onTAP(t *testing.T, addrs ...netip.Prefix) (*stack.Stack, *stack.Interface) {
	t.Helper()
	d, err := link.OpenTUN(link.TUNConfig{Name: "wb0", TAP: true})
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Config{})
	i, err := s.Attach(d, addrs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, i
}

// program starts a program that ends with the test, and logs what it said where the test fails.
func program(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(name, args...)
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, &out)
		}
	})
	return c
}

// until waits for something to become true.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 30 seconds:", what)
		}
	}
}

// programs skips a test that needs a program which is not there, or enters a namespace.
func programs(t *testing.T, names ...string) bool {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip(err)
		}
	}
	return netns.Enter(t, 3*time.Minute)
}

// Our client of dnsmasq: what it configures, renewal, a refusal, and that the lease is given back.
func TestKernelDnsmasq(t *testing.T) {
	if !programs(t, "dnsmasq", "ip") {
		return
	}
	s, i := onTAP(t)
	if err := link.ConfigureHost("wb0", []netip.Prefix{serverAddr}, 0); err != nil {
		t.Fatal(err)
	}
	leases := filepath.Join(t.TempDir(), "leases")
	serve := func(first string) *exec.Cmd {
		return program(t, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--group=",
			"--interface=wb0", "--except-interface=lo", "--bind-interfaces", "--pid-file=", "--log-facility=-", "--log-dhcp",
			"--dhcp-leasefile="+leases, "--dhcp-authoritative", "--no-ping", "--dhcp-range="+first+","+first+",255.255.255.0,2m",
			"--dhcp-option-force=58,3", "--dhcp-option-force=59,60", "--dhcp-option=26,1400", "--domain=lan.example",
			"--dhcp-option=121,203.0.113.0/25,198.51.100.2,0.0.0.0/0,198.51.100.1", "--host-record=printer.lan.example,203.0.113.7")
	}
	d := serve("198.51.100.100")
	c := Client{Stack: s, Interface: i, Hostname: "waybill"}
	granted := make(chan *Lease, 100)
	c.Changed = func(l *Lease) { granted <- l }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	next := func(what string) *Lease {
		t.Helper()
		select {
		case l := <-granted:
			return l
		case <-time.After(40 * time.Second):
			t.Fatal("not within 40 seconds:", what)
			return nil
		}
	}
	l := next("a lease")
	if l == nil || l.Addr != netip.MustParsePrefix("198.51.100.100/24") || l.Server != serverAddr.Addr() || l.MTU != 1400 ||
		!slices.Equal(l.DNS, []netip.Addr{serverAddr.Addr()}) || !slices.Equal(l.Search, []string{"lan.example"}) ||
		!slices.Equal(l.Routes, []Route{{elsewhere, otherAddr.Addr()}, {defaultRoute, serverAddr.Addr()}}) {
		t.Errorf("dnsmasq grants %+v", l)
	}
	if addrs, err := s.Resolver().LookupHost(t.Context(), "printer.lan.example"); err != nil || !slices.Equal(addrs, []string{"203.0.113.7"}) {
		t.Errorf("the printer is %v, %v", addrs, err)
	}
	for range 2 {
		if l = next("a renewal"); l == nil || l.Addr.Addr() != poolFirst {
			t.Errorf("renewed: %+v", l)
		}
	}
	d.Process.Kill()
	d.Wait()
	if err := os.Remove(leases); err != nil {
		t.Fatal(err)
	}
	serve("198.51.100.200")
	for l != nil { // renewals that were under way
		l = next("a refusal")
	}
	if l = next("another lease"); l == nil || l.Addr.Addr() != netip.MustParseAddr("198.51.100.200") {
		t.Errorf("after the refusal: %+v", l)
	}
	until(t, "the lease is in the file", func() bool { b, _ := os.ReadFile(leases); return strings.Contains(string(b), "198.51.100.200 waybill") })
	cancel()
	t.Log("the client ends with:", <-done)
	until(t, "the lease is gone from the file", func() bool { b, _ := os.ReadFile(leases); return !strings.Contains(string(b), "198.51.100.200") })
}

// dhclientScript does what a Debian host's does, but for the files of the machine.
const dhclientScript = `#!/bin/sh
echo "$reason $new_ip_address $new_subnet_mask routers=$new_routers dns=$new_domain_name_servers mtu=$new_interface_mtu" >>%[1]s
case $reason in
BOUND|RENEW|REBIND|REBOOT) ip -4 addr replace "$new_ip_address/24" dev wb0 ;;
RELEASE|EXPIRE|FAIL|STOP) ip -4 addr flush dev wb0 ;;
esac
`

// udhcpcScript is the same for BusyBox's client.
const udhcpcScript = `#!/bin/sh
echo "$1 $ip $subnet routers=$router dns=$dns mtu=$mtu" >>%[1]s
case $1 in
bound|renew) ip -4 addr replace "$ip/24" dev wb0 ;;
deconfig) ip -4 addr flush dev wb0; ip link set dev wb0 up ;;
esac
`

// BusyBox's udhcpc of our server.
func TestKernelUdhcpc(t *testing.T) {
	if !programs(t, "udhcpc", "ip") {
		return
	}
	s := newServed(t, udhcpcScript, 16*time.Second) // the shortest that it believes
	d := program(t, "udhcpc", "-f", "-R", "-i", "wb0", "-s", s.script, "-x", "hostname:debian", "-O", "mtu")
	s.leased(t, "bound", "renew")
	if err := d.Process.Signal(syscall.SIGTERM); err != nil { // it releases, and ends
		t.Fatal(err)
	}
	until(t, "released", s.released)
}

// ISC's dhclient, which is Debian's, of our server.
func TestKernelDhclient(t *testing.T) {
	if !programs(t, "dhclient", "ip") {
		return
	}
	s := newServed(t, dhclientScript, 10*time.Second)
	dir := t.TempDir()
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte("request subnet-mask, routers, domain-name-servers, interface-mtu;\nsend host-name \"debian\";\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"-4", "-v", "-cf", conf, "-sf", s.script, "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "wb0"}
	d := program(t, "dhclient", append([]string{"-d"}, args...)...)
	s.leased(t, "BOUND", "RENEW")
	d.Process.Kill()
	d.Wait()
	if out, err := exec.Command("dhclient", append([]string{"-r"}, args...)...).CombinedOutput(); err != nil {
		t.Errorf("dhclient -r: %v: %s", err, out)
	}
	until(t, "released", s.released)
}

// served is our server, and the script of a client that is to be served.
type served struct {
	*Server
	stack       *stack.Stack
	script, log string
}

func newServed(t *testing.T, script string, lease time.Duration) *served {
	t.Helper()
	host, i := onTAP(t, serverAddr)
	if out, err := exec.Command("ip", "link", "set", "dev", "wb0", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := t.TempDir()
	s := &served{serverOn(i, serverAddr), host, filepath.Join(dir, "script"), filepath.Join(dir, "log")}
	s.Lease = lease
	if err := os.WriteFile(s.script, fmt.Appendf(nil, script, s.log), 0o755); err != nil {
		t.Fatal(err)
	}
	go s.Serve(t.Context())
	return s
}

// said reports whether the client's script was called so.
func (s *served) said(want string) bool {
	b, _ := os.ReadFile(s.log)
	return strings.Contains(string(b), want)
}

func (s *served) released() bool {
	b := s.Bindings()
	return len(b) == 1 && b[0].State == Free
}

// leased waits until the client has a lease, which it uses, and has renewed it.
func (s *served) leased(t *testing.T, bound, renewed string) {
	t.Helper()
	bound += " 198.51.100.100 255.255.255.0 routers=198.51.100.1 dns=198.51.100.53 mtu=1400"
	until(t, bound, func() bool { return s.said(bound) })
	l, err := s.stack.Listen("tcp", "198.51.100.1:80")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if p, err := l.Accept(); err != nil || p.RemoteAddr().(*net.TCPAddr).IP.String() != "198.51.100.100" {
		t.Errorf("accepted %v, %v", p, err)
	}
	if b := s.Bindings(); len(b) != 1 || b[0].State != Leased || b[0].Hostname != "debian" {
		t.Errorf("the server has %+v", b)
	}
	until(t, renewed, func() bool { return s.said(renewed + " 198.51.100.100") })
}
