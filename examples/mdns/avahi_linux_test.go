package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/seed87e66d9f/waybill/internal/netns"
	wire "github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

const avahiConfig = `[server]
host-name=kernelhost
use-ipv4=yes
use-ipv6=yes
enable-dbus=no
allow-interfaces=wb0
[publish]
publish-workstation=yes
`

// TestAvahi: avahi-daemon, on the kernel's side of a TAP device, tells its addresses and its services, and the
// kernel's side finds the address of our name.
func TestAvahi(t *testing.T) {
	for _, p := range []string{"avahi-daemon", "unshare"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	if !netns.Enter(t, 3*time.Minute) {
		return
	}
	d, err := wire.OpenTUN(wire.TUNConfig{Name: "wb0", TAP: true, MTU: 1500})
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Config{})
	defer s.Close()
	if _, err := s.Attach(d, netip.MustParsePrefix("198.51.100.2/24"), netip.MustParsePrefix("2001:db8:51::2/64")); err != nil {
		t.Fatal(err)
	}
	kernel := []netip.Prefix{netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("2001:db8:51::1/64")}
	if err := wire.ConfigureHost("wb0", kernel, 0); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "avahi.conf")
	if err := os.WriteFile(file, []byte(avahiConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	// It keeps its number in /run, where there may be another's.
	avahi := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs run /run && mkdir -p /run/avahi-daemon && exec avahi-daemon --no-drop-root --no-chroot --no-rlimits -f "$0"`, file)
	var log page
	avahi.Stdout, avahi.Stderr = &log, &log
	if err := avahi.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		avahi.Process.Kill()
		avahi.Wait()
		if t.Failed() {
			t.Logf("avahi-daemon: %s", strings.Join(log.lines(), ""))
		}
	}()

	var out page
	l, err := join(s, "waybill.local", &out)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	ctx, stop := context.WithCancel(context.Background())
	asked := make(chan error, 1)
	go func() {
		asked <- l.ask(ctx, []string{"kernelhost.local", "_services._dns-sd._udp.local", "_workstation._tcp.local"})
	}()
	want := []string{"kernelhost.local. A 198.51.100.1\n", "kernelhost.local. AAAA ", "_services._dns-sd._udp.local. PTR _workstation._tcp.local.\n",
		"_workstation._tcp.local. PTR kernelhost"}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		text, missing := strings.Join(out.lines(), ""), ""
		for _, w := range want {
			if !strings.Contains(text, w) {
				missing = w
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nobody said %q, but\n%s", missing, text)
		}
	}
	stop()
	if err := <-asked; err != nil {
		t.Error(err)
	}

	// RFC 6762 §6.7: the kernel's side asks as a resolver does that knows no multicast DNS.
	u, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(kernel[0].Addr(), 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	u.SetDeadline(time.Now().Add(time.Minute))
	q, err := question([]string{"waybill.local."})
	if err == nil {
		_, err = u.WriteToUDPAddrPort(q, groups[0])
	}
	b := make([]byte, 1500)
	n, from, err2 := u.ReadFromUDPAddrPort(b)
	var m dnsmessage.Message
	if err := errors.Join(err, err2, m.Unpack(b[:n])); err != nil || from.Addr() != netip.MustParseAddr("198.51.100.2") {
		t.Fatalf("from %v: %v", from, err)
	}
	if r, ok := m.Answers[0].Body.(*dnsmessage.AResource); !ok || netip.AddrFrom4(r.A) != from.Addr() {
		t.Errorf("%+v", m)
	}
}
