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

// The same dnsmasq as an IPv6 router, in each of its ways to advertise: a host configures itself by what it says, without
// DHCPv6, be it offered (RFC 4861 §4.2, the M and O flags) or not.
func TestKernelDnsmasqAdvertises(t *testing.T) {
	if !programs(t, "dnsmasq", "ip") {
		return
	}
	router, printer := netip.MustParsePrefix("2001:db8:51::1/64"), "2001:db8:77::7"
	for _, mode := range []string{"ra-only", "slaac", "ra-stateless"} {
		t.Run(mode, func(t *testing.T) {
			s, i := onTAP(t)
			if err := link.ConfigureHost("wb0", []netip.Prefix{router}, 0); err != nil {
				t.Fatal(err)
			}
			first := "2001:db8:51::"
			if mode == "slaac" { // with a pool of DHCPv6's besides
				first = "2001:db8:51::1000,2001:db8:51::1fff"
			}
			program(t, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root", "--group=",
				"--interface=wb0", "--except-interface=lo", "--bind-interfaces", "--pid-file=", "--log-facility=-", "--log-dhcp",
				"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--enable-ra", "--dhcp-range="+first+","+mode+",64,2h",
				"--ra-param=wb0,mtu:1400,high,4,600", "--dhcp-option=option6:domain-search,lan.example", "--host-record=printer.lan.example,"+printer)
			if err := i.Autoconfigure(stack.AutoConfig{}); err != nil {
				t.Fatal(err)
			}
			var ours stack.Addr
			until(t, "an address of the prefix", func() bool {
				for _, a := range i.Addrs() {
					if router.Contains(a.Prefix.Addr()) && a.State == stack.AddrValid {
						ours = a
					}
				}
				return ours.Prefix.IsValid()
			})
			if left := time.Until(ours.ValidUntil); ours.Deprecated || left < time.Hour || left > 2*time.Hour {
				t.Errorf("%+v, want it valid for two hours", ours)
			}
			routers := slices.Collect(s.Routers())
			if len(routers) != 1 || routers[0].Preference != "high" || !routers[0].IP.IsLinkLocalUnicast() || time.Until(routers[0].Expires) > 600*time.Second {
				t.Fatalf("routers %+v, want one of high preference, for ten minutes", routers)
			}
			if !slices.ContainsFunc(slices.Collect(s.Routes()), func(r stack.Route) bool {
				return r.Dst.Bits() == 0 && r.Dst.Addr().Is6() && r.Via == routers[0].IP
			}) {
				t.Errorf("routes %+v, want a default route by %v", slices.Collect(s.Routes()), routers[0].IP)
			}
			want := []netip.AddrPort{netip.AddrPortFrom(routers[0].IP.WithZone(i.Name()), 53)} // dnsmasq's choice, where nobody names another
			if got := slices.Collect(s.NameServers()); !slices.Equal(got, want) {
				t.Errorf("name servers %v, want %v", got, want)
			}
			c, err := s.Dial("udp", "printer:631") // RFC 8106: whom to ask, and in which domain
			if err != nil {
				t.Fatal(err)
			}
			if to, from := c.RemoteAddr().(*net.UDPAddr).IP.String(), c.LocalAddr().(*net.UDPAddr).IP.String(); to != printer || from != ours.Prefix.Addr().String() {
				t.Errorf("the printer is %s, asked from %s, want %s and %v", to, from, printer, ours.Prefix.Addr())
			}
			c.Close()
			if mtu, err := s.PathMTU(router.Addr()); mtu != 1400 || err != nil {
				t.Errorf("the path carries %d octets, %v, want 1400 as the router says", mtu, err)
			}
		})
	}
}

// dhclientScript does what a Debian host's does, but for the files of the machine, and then says so.
const dhclientScript = `#!/bin/sh
case $reason in
BOUND|RENEW|REBIND|REBOOT) ip -4 addr replace "$new_ip_address/24" dev wb0 ;;
RELEASE|EXPIRE|FAIL|STOP) ip -4 addr flush dev wb0 ;;
esac
echo "$reason $new_ip_address $new_subnet_mask routers=$new_routers dns=$new_domain_name_servers mtu=$new_interface_mtu" >>%[1]s
`

// udhcpcScript is the same for BusyBox's client.
const udhcpcScript = `#!/bin/sh
case $1 in
bound|renew) ip -4 addr replace "$ip/24" dev wb0 ;;
deconfig) ip -4 addr flush dev wb0; ip link set dev wb0 up ;;
esac
echo "$1 $ip $subnet routers=$router dns=$dns mtu=$mtu" >>%[1]s
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
