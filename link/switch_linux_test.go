package link

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/netns"
	"golang.org/x/sys/unix"
)

// A netspace is a network namespace of the kernel, that lives as long as its descriptor.
type netspace struct {
	t  *testing.T
	fd int
}

func newNetspace(t *testing.T) *netspace {
	t.Helper()
	n := &netspace{t: t, fd: -1}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("a network namespace: %v", err)
	}
	t.Cleanup(func() { unix.Close(n.fd) })
	return n
}

// in runs f on a thread in the namespace: sockets, devices and processes that f makes are in there.
func (n *netspace) in(f func() error) {
	n.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := unix.Setns(n.fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
}

// run runs a program in the namespace, and returns what it prints.
func (n *netspace) run(args ...string) (out string) {
	n.t.Helper()
	n.in(func() error {
		b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%v: %w\n%s", args, err, b)
		}
		out = string(b)
		return nil
	})
	return out
}

// tap is a TAP device in the namespace, with the addresses 198.51.100.n and 2001:db8::n.
func (n *netspace) tap(c TUNConfig, host int) (d Device) {
	n.t.Helper()
	n.in(func() (err error) {
		c.TAP = true
		if d, err = OpenTUN(c); err != nil {
			return err
		}
		return ConfigureHost(d.Caps().Name, hostPrefixes(host), 0)
	})
	return d
}

func hostPrefixes(n int) []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(hostAddr(n, false), 24), netip.PrefixFrom(hostAddr(n, true), 64)}
}

func hostAddr(n int, v6 bool) netip.Addr {
	if v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", n))
	}
	return netip.MustParseAddr(fmt.Sprintf("198.51.100.%d", n))
}

// copyTCP sends n octets of noise from the kernel of one namespace to that of another, and compares their hashes.
func copyTCP(t *testing.T, from, to *netspace, addr netip.Addr, n int64) {
	t.Helper()
	var l net.Listener
	to.in(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		return err
	})
	defer l.Close()
	type result struct {
		n   int64
		sum []byte
		err error
	}
	got := make(chan result, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			got <- result{err: err}
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		h := sha256.New()
		n, err := io.Copy(h, c)
		got <- result{n, h.Sum(nil), err}
	}()
	h := sha256.New()
	start := time.Now()
	from.in(func() error {
		c, err := net.DialTimeout("tcp", l.Addr().String(), time.Minute)
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		_, err = io.CopyN(io.MultiWriter(c, h), rand.NewChaCha8([32]byte{1}), n)
		return err
	})
	r := <-got
	if r.err != nil || r.n != n || !bytes.Equal(r.sum, h.Sum(nil)) {
		t.Fatalf("%d octets to %v: %d arrived, sha256 equal: %v, %v", n, addr, r.n, bytes.Equal(r.sum, h.Sum(nil)), r.err)
	}
	t.Logf("%d MB to %v: %.1f Gb/s with both hashes", n>>20, addr, float64(n)*8/time.Since(start).Seconds()/1e9)
}

// Three hosts of the kernel at a switch: two with all offloads, one with none.
func TestSwitchBetweenKernels(t *testing.T) {
	if !netns.Enter(t, 4*time.Minute) {
		return
	}
	sw := NewSwitch(SwitchConfig{})
	hosts := map[string]*netspace{}
	ports := map[string]*Port{}
	for i, name := range []string{"", "a", "b", "bare"} {
		if name == "" {
			continue
		}
		hosts[name] = newNetspace(t)
		p, err := sw.Attach(hosts[name].tap(TUNConfig{Name: name, NoOffload: name == "bare"}, i), PortConfig{})
		if err != nil {
			t.Fatal(err)
		}
		ports[name] = p
	}
	for _, to := range []string{"198.51.100.2", "198.51.100.3", "2001:db8::2", "2001:db8::3"} {
		if out := hosts["a"].run("ping", "-c", "2", "-i", "0.2", "-W", "10", to); !strings.Contains(out, " 0% packet loss") {
			t.Errorf("ping %s:\n%s", to, out)
		}
	}
	if ports["a"].Stats().Flooded == 0 || ports["bare"].Stats().FramesOut == 0 {
		t.Error("no broadcast of ARP was flooded")
	}
	before := ports["bare"].Stats().OctetsOut
	for _, v6 := range []bool{false, true} {
		copyTCP(t, hosts["a"], hosts["b"], hostAddr(2, v6), 200<<20)
	}
	if n := ports["bare"].Stats().OctetsOut - before; n > 1<<20 {
		t.Errorf("%d octets went to the host that they were not for", n)
	}
	if f := ports["b"].Stats(); f.FramesOut > 400<<20/8000 {
		t.Errorf("%d frames to b for 400 MB: super-segments were cut on the way", f.FramesOut)
	}
	for _, v6 := range []bool{false, true} {
		copyTCP(t, hosts["a"], hosts["bare"], hostAddr(3, v6), 50<<20)
		copyTCP(t, hosts["bare"], hosts["b"], hostAddr(2, v6), 50<<20)
		sendUDPSegments(t, hosts["a"], hosts["bare"], hostAddr(3, v6))
		sendUDPSegments(t, hosts["a"], hosts["b"], hostAddr(2, v6))
	}
	if err := sw.Close(); err != nil {
		t.Error(err)
	}
	for name, p := range ports {
		if s := p.Stats(); s.Uncut+s.Failed+s.TooLong+s.Malformed+s.Full > 0 {
			t.Errorf("port %s: %+v", name, s)
		}
	}
	if out := hosts["bare"].run("cat", "/proc/net/snmp"); udpErrors(out) != "0" {
		t.Errorf("the kernel without offload found UDP checksums wrong:\n%s", out)
	}
}

// udpErrors is InCsumErrors of /proc/net/snmp.
func udpErrors(snmp string) string {
	var names []string
	for line := range strings.Lines(snmp) {
		f := strings.Fields(line)
		if f[0] != "Udp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i, n := range names {
			if n == "InCsumErrors" {
				return f[i]
			}
		}
	}
	return "absent"
}

// sendUDPSegments has the kernel send one super-segment of UDP (udp(7), UDP_SEGMENT), and compares the datagrams.
func sendUDPSegments(t *testing.T, from, to *netspace, addr netip.Addr) {
	t.Helper()
	var c *net.UDPConn
	to.in(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
		return err
	})
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	text := make([]byte, 20500)
	rand.NewChaCha8([32]byte{2}).Read(text)
	from.in(func() error {
		s, err := net.Dial("udp", c.LocalAddr().String())
		if err != nil {
			return err
		}
		defer s.Close()
		raw, err := s.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		var option error
		if err := raw.Control(func(fd uintptr) {
			option = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1000)
		}); err != nil || option != nil {
			return fmt.Errorf("UDP_SEGMENT: %v, %w", err, option)
		}
		_, err = s.Write(text)
		return err
	})
	in := make([]byte, 4000)
	for at := 0; at < len(text); at += 1000 {
		n, err := c.Read(in)
		if err != nil || !bytes.Equal(in[:n], text[at:min(at+1000, len(text))]) {
			t.Fatalf("datagram %d to %v: %d octets, %v", at/1000, addr, n, err)
		}
	}
}

// Two hosts of the kernel in VLAN 10, each at a switch of its own, and a trunk between the switches: super-segments get a tag
// there and lose it again, in one piece or cut.
func TestSwitchTrunkBetweenKernels(t *testing.T) {
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	for _, gso := range []int{65535, 0} {
		x, y := NewSwitch(SwitchConfig{}), NewSwitch(SwitchConfig{})
		a, b := newNetspace(t), newNetspace(t)
		left, right := Pipe(PipeConfig{Ethernet: true, MTU: 1500, GSO: gso, Queue: 8192})
		var ports []*Port
		for _, p := range []struct {
			sw *Switch
			d  Device
			c  PortConfig
		}{
			{x, a.tap(TUNConfig{}, 1), PortConfig{VLAN: 10}}, {x, left, PortConfig{Trunk: []uint16{10, 20}}},
			{y, right, PortConfig{Trunk: []uint16{10, 20}}}, {y, b.tap(TUNConfig{}, 2), PortConfig{VLAN: 10}},
		} {
			q, err := p.sw.Attach(p.d, p.c)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, q)
		}
		for _, v6 := range []bool{false, true} {
			copyTCP(t, a, b, hostAddr(2, v6), 50<<20)
			copyTCP(t, b, a, hostAddr(1, v6), 50<<20)
		}
		for i, p := range ports {
			if s := p.Stats(); s.Uncut+s.Failed+s.NestedTag+s.WrongVLAN+s.TooLong > 0 {
				t.Errorf("port %d, super-segments on the trunk up to %d: %+v", i, gso, s)
			}
		}
		s := ports[1].Stats()
		if whole := s.OctetsOut/s.FramesOut > 2000; whole != (gso > 0) {
			t.Errorf("%d octets a frame on a trunk that takes super-segments up to %d", s.OctetsOut/s.FramesOut, gso)
		}
		if err := errors.Join(x.Close(), y.Close()); err != nil {
			t.Error(err)
		}
	}
}

// The link of a station goes down: what was learnt there is forgotten.
func TestSwitchForgetsStationsOfALinkThatIsDown(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d := opened(t, OpenTUN, TUNConfig{TAP: true, Name: "flaky"})
	sw := NewSwitch(SwitchConfig{})
	defer sw.Close()
	p, err := sw.Attach(d, PortConfig{})
	if err != nil {
		t.Fatal(err)
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, p.Stats())
			}
		}
	}
	c, _ := listenUDP(t, netip.IPv4Unspecified())
	if _, err := c.WriteToUDPAddrPort([]byte("to all"), netip.MustParseAddrPort("198.51.100.255:9")); err != nil {
		t.Fatal(err)
	}
	wait("the kernel's station is not learnt", func() bool { return p.Stats().Stations == 1 })
	setUp(t, "flaky", false)
	wait("the station is not forgotten", func() bool { return p.Stats().Stations == 0 })
	other, err := sw.Port(PipeConfig{}, PortConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Queues()[0].Write([]Packet{{Head: frame(ethernet.Broadcast, mac(1), "to a link that is down")}})
	wait("the frame is not counted as lost", func() bool { return p.Stats().Down == 1 })
}
