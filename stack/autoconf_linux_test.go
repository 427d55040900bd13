package stack

import (
	"fmt"
	"io"
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
)

// radvdConf is a configuration of two routers on one link: that of wb0 has what is told, that of wb1 is of low preference.
func radvdConf(lifetime int, prefixes string) string {
	return fmt.Sprintf(`interface wb0 {
	AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime %d; AdvDefaultPreference high;
	AdvCurHopLimit 99; AdvLinkMTU 1400;
	%s
	route 2001:db8:77::/48 { AdvRouteLifetime 600; };
	RDNSS 2001:db8:aa::1 { AdvRDNSSLifetime 600; };
	DNSSL example.com { AdvDNSSLLifetime 600; };
};
interface wb1 {
	AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 600; AdvDefaultPreference low; AdvCurHopLimit 99;
};
`, lifetime, prefixes)
}

// TestKernelRadvd: two routers that radvd advertises, one of which renumbers the link and then stops to serve; and Debian's
// ndisc6 and ping against the addresses that the stack has made.
func TestKernelRadvd(t *testing.T) {
	for _, tool := range []string{"radvd", "ndisc6", "ping"} {
		if _, err := exec.LookPath(tool); err != nil && os.Getenv("CI") == "" {
			t.Skip(err)
		}
	}
	if !netns.Enter(t, time.Minute) {
		return
	}
	for name, value := range map[string]string{"all/forwarding": "1", "default/accept_dad": "0"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	s := New(Config{})
	t.Cleanup(func() { s.Close() })
	near, far := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1500})
	ports := []link.Queue{far.Queues()[0]}
	for k, addr := range []netip.Prefix{netip.MustParsePrefix("2001:db8:aa::1/64"), netip.MustParsePrefix("2001:db8:cc::1/64")} {
		name := fmt.Sprintf("wb%d", k)
		d, err := link.OpenWater(link.TUNConfig{Name: name, TAP: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		if err := link.ConfigureHost(name, []netip.Prefix{addr}, 0); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, d.Queues()[0])
	}
	hub(ports)
	i, err := s.Attach(near)
	if err != nil {
		t.Fatal(err)
	}
	const old, next = "prefix 2001:db8:aa::/64 { AdvValidLifetime 7200; AdvPreferredLifetime %d; };", "prefix 2001:db8:bb::/64 { AdvValidLifetime 7200; AdvPreferredLifetime 3600; };"
	conf := filepath.Join(t.TempDir(), "radvd.conf")
	write := func(text string) {
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(radvdConf(600, fmt.Sprintf(old, 3600)))
	radvd := exec.Command("radvd", "-n", "-C", conf, "-p", conf+".pid", "-m", "stderr")
	var said strings.Builder
	radvd.Stderr = &said
	if err := radvd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- radvd.Wait() }()
	if err := i.Autoconfigure(AutoConfig{}); err != nil {
		t.Fatal(err)
	}
	until := func(what string, true func() bool) {
		t.Helper()
		for end := time.Now().Add(patience); !true(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				radvd.Process.Kill()
				t.Fatalf("%s: not so after %v\naddresses %+v\nroutes %+v\n%s", what, patience, i.Addrs(), slices.Collect(s.Routes()), said.String())
			}
		}
	}
	address := func(in string, deprecated bool) (a netip.Addr) {
		for _, x := range i.Addrs() {
			if netip.MustParsePrefix(in).Contains(x.Prefix.Addr()) && x.State == AddrValid && x.Deprecated == deprecated {
				a = x.Prefix.Addr()
			}
		}
		return a
	}
	routers := func() (n int) {
		for range s.Routers() {
			n++
		}
		return n
	}
	until("two routers and an address", func() bool { return routers() == 2 && address("2001:db8:aa::/64", false).IsValid() })
	if l := i.live.Load(); l.hop6 != 99 || l.mtu6 != 1400 {
		t.Errorf("hop limit %d, MTU %d; want 99, 1400", l.hop6, l.mtu6)
	}
	if got := slices.Collect(s.NameServers()); len(got) != 1 || got[0] != netip.MustParseAddrPort("[2001:db8:aa::1]:53") {
		t.Errorf("name servers: %v", got)
	}
	first := ""
	for r := range s.Routes() {
		if r.Dst.Bits() == 0 && first == "" {
			first = r.Via.String()
		}
	}
	if wb0, err := net.InterfaceByName("wb0"); err == nil {
		if addrs, _ := wb0.Addrs(); !strings.Contains(fmt.Sprint(addrs), first+"/64") {
			t.Errorf("the default route is over %v, want that of high preference, of %v", first, addrs)
		}
	}
	ours := address("2001:db8:aa::/64", false)
	// ndisc6's exit status says nothing to go by
	if out, _ := exec.Command("ndisc6", "-1", "-q", ours.String(), "wb0").CombinedOutput(); !strings.EqualFold(strings.TrimSpace(string(out)), i.HardwareAddr().String()) {
		t.Errorf("ndisc6 says %q, want %v", out, i.HardwareAddr())
	}
	if out, err := exec.Command("ping", "-6", "-c", "2", "-i", "0.2", "-W", "5", ours.String()).CombinedOutput(); err != nil || !strings.Contains(string(out), "ttl=99") {
		t.Errorf("ping: %v\n%s", err, out)
	}
	c := echoOver(t, s)
	write(radvdConf(600, fmt.Sprintf(old, 0)+next))
	radvd.Process.Signal(syscall.SIGHUP)
	until("renumbered", func() bool {
		return address("2001:db8:aa::/64", true) == ours && address("2001:db8:bb::/64", false).IsValid()
	})
	c("after the link was renumbered")
	write(radvdConf(0, next))
	radvd.Process.Signal(syscall.SIGHUP)
	until("a router with lifetime 0 is gone", func() bool { return routers() == 1 })
	radvd.Process.Signal(syscall.SIGTERM) // it says good-bye
	until("no router is left", func() bool { return routers() == 0 })
	<-exited
	c("after the routers have gone")
}

// hub sends what comes in at one port out of all others.
func hub(ports []link.Queue) {
	for k, in := range ports {
		go func() {
			p := make([]link.Packet, 16)
			for {
				n, err := in.Read(p)
				for _, x := range p[:n] {
					for j, out := range ports {
						if j != k {
							out.Write([]link.Packet{{Head: x.Head, Text: x.Text}})
						}
					}
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// echoOver connects to a server of the kernel's, and returns what sends a word there and waits for it to come back.
func echoOver(t *testing.T, s *Stack) func(when string) {
	l, err := net.Listen("tcp", "[2001:db8:aa::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	c, err := s.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); l.Close() })
	echo := func(when string) {
		t.Helper()
		c.SetDeadline(time.Now().Add(patience))
		b := make([]byte, 7)
		if _, err := io.WriteString(c, "waybill"); err != nil {
			t.Errorf("%s: %v", when, err)
		} else if _, err := io.ReadFull(c, b); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	echo("at once")
	return echo
}
