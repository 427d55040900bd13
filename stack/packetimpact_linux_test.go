package stack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// onKernel is a tester of the kernel, which has the stack's addresses at the other end of a TAP device.
type onKernel struct {
	tester
	frames chan []byte // of UDP to port 7, that the kernel has sent
}

// newOnKernel makes the device, for the family of an address.
func newOnKernel(t *testing.T, six bool) *onKernel {
	t.Helper()
	var devices []link.Device
	for k, addrs := range [][]netip.Prefix{{server4, second4, second6, server6}, {netip.MustParsePrefix("203.0.113.2/24"), netip.MustParsePrefix("2001:db8:113::2/64")}} {
		name := fmt.Sprintf("wb%d", k)
		d, err := link.OpenTUN(link.TUNConfig{Name: name, TAP: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := link.ConfigureHost(name, addrs, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		devices = append(devices, d)
	}
	kernel, err := net.InterfaceByName("wb0")
	if err != nil {
		t.Fatal(err)
	}
	h := &onKernel{tester{T: t, queue: devices[0].Queues()[0], eth: true, mac: testerMAC, us: client4.Addr(), peer: server4.Addr()}, make(chan []byte, 100)}
	h.ifc = &Interface{name: "wb0", mac: ethernet.Addr(kernel.HardwareAddr)}
	if six {
		h.us, h.peer = client6.Addr(), server6.Addr()
	}
	var ours []Addr
	all, _ := kernel.Addrs()
	for _, a := range all {
		ours = append(ours, Addr{Prefix: netip.MustParsePrefix(a.String())})
	}
	h.ifc.addrs.Store(&ours)
	do := func(format string, args ...any) {
		line := strings.Fields(fmt.Sprintf(format, args...))
		if out, err := exec.Command("ip", line...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", line, err, out)
		}
	}
	do("link set lo up")
	do("route replace default via %v dev wb0", h.us) // without one the kernel has no way to groups, nor to all
	for _, a := range []netip.Addr{h.us, testerLocal} {
		do("neigh replace %v lladdr %v dev wb0 nud permanent", a, net.HardwareAddr(testerMAC[:]))
	}
	go h.readFrames()
	return h
}

// readFrames keeps those of UDP to port 7.
func (h *onKernel) readFrames() {
	in := make([]link.Packet, 16)
	for {
		n, err := h.queue.Read(in)
		for _, p := range in[:n] {
			b := p.Head
			for _, t := range p.Text {
				b = append(slices.Clone(b), t...)
			}
			at := ethernet.HeaderLen + ipv4.MinHeaderLen
			if len(b) > at && b[ethernet.HeaderLen]>>4 == 6 {
				at = ethernet.HeaderLen + ipv6.HeaderLen
			}
			if len(b) > at+4 && b[at+2] == 0 && b[at+3] == 7 {
				h.frames <- slices.Clone(b)
			}
		}
		if err != nil {
			return
		}
	}
}

// TestKernelUDPMatrix holds the tables of TestUDPHears and TestUDPSpeaks against the kernel.
func TestKernelUDPMatrix(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if !netns.Enter(t, 2*time.Minute) {
		return
	}
	for _, six := range []bool{false, true} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[six], func(t *testing.T) {
			h := newOnKernel(t, six)
			for _, device := range []string{"", "wb0", "wb1"} {
				for _, x := range hearings {
					if device == "wb1" {
						x.hears = ""
					}
					if device != "" && (x.bind == "loopback" || x.bind == "link-local" || x.bind == "hosts" && six) {
						continue // which belong to a device already: the kernel refuses the one, and the other has the last word
					}
					h.hears(device, x.bind, x.hears)
					if device != "wb1" {
						h.speaks(device, x.bind)
					}
				}
			}
		})
	}
}

// bind makes a socket of the kernel's, or says why there is none.
func (h *onKernel) bind(device, bind string) (*net.UDPConn, bool) {
	at, ok := h.place(bind)
	if !ok {
		return nil, false
	}
	p, err := h.socket(device, at)
	if err != nil {
		h.Errorf("on %q, bound to %s: %v", device, bind, err)
		return nil, false
	}
	return p.(*net.UDPConn), true
}

// socket binds as the kernel does it: package net takes a group for all addresses.
func (h *onKernel) socket(device string, at netip.Addr) (net.PacketConn, error) {
	domain := syscall.AF_INET
	if h.us.Is6() {
		domain = syscall.AF_INET6
	}
	fd, err := syscall.Socket(domain, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	if device != "" {
		err = syscall.BindToDevice(fd, device)
	}
	var to syscall.Sockaddr = &syscall.SockaddrInet4{Port: 6000, Addr: as4(at)}
	if h.us.Is6() {
		six := &syscall.SockaddrInet6{Port: 6000}
		if at.IsValid() {
			six.Addr = at.As16()
		}
		if at.Zone() != "" {
			i, err := net.InterfaceByName(at.Zone())
			if err != nil {
				return nil, err
			}
			six.ZoneId = uint32(i.Index)
		}
		to = six
	}
	if err := errors.Join(err, syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1), syscall.Bind(fd, to)); err != nil {
		return nil, err
	}
	return net.FilePacketConn(file)
}

// as4 is an IPv4 address's octets, zeros where it is none.
func as4(a netip.Addr) (b [4]byte) {
	if a.Is4() {
		b = a.As4()
	}
	return b
}

func (h *onKernel) hears(device, bind, hears string) {
	u, ok := h.bind(device, bind)
	if !ok {
		return
	}
	defer u.Close()
	for _, dest := range destinations[:8] {
		to, ok := h.place(dest)
		if !ok {
			continue
		}
		to = to.WithZone("")
		h.mail(letter{dst: to, mac: station(to), proto: ipv4.ProtoUDP,
			text: udpText(netip.AddrPortFrom(h.us, 5000), netip.AddrPortFrom(to, 6000), dest)})
		want := slices.Contains(strings.Fields(hears), dest)
		wait := 20 * time.Millisecond // the kernel has it when Write returns
		if want {
			wait = patience
		}
		u.SetReadDeadline(time.Now().Add(wait))
		b := make([]byte, 100)
		if n, err := u.Read(b); want != (err == nil) || want && string(b[:n]) != dest {
			h.Errorf("on %q, bound to %s: what was sent to %s: %q, %v, want it %v", device, bind, dest, b[:n], err, want)
		}
	}
}

// departs reports where the kernel sends what we do not: see sender, and UDPConn.way. RFC 1122 §3.2.1.3 (g), RFC 4291 §2.5.3:
// neither 127.0.0.1 nor ::1 are ever seen on a wire.
func (h *onKernel) departs(device, bind, dest string) bool {
	if dest == "loopback" {
		return device != "" || bind == "link-local" || bind == "hosts" && h.us.Is6() // which is of a device
	}
	return bind == "loopback" && (h.us.Is6() || dest == "broadcast" || dest == "hosts" || dest == "group")
}

func (h *onKernel) speaks(device, bind string) {
	for _, dest := range destinations[3:] {
		to, ok := h.place(dest)
		if !ok || h.departs(device, bind, dest) {
			continue
		}
		if to.Zone() != "" { // a name is remembered for a minute, and the last device of that name is gone
			i, err := net.InterfaceByName(to.Zone())
			if err != nil {
				h.Fatal(err)
			}
			to = to.WithZone(fmt.Sprint(i.Index))
		}
		u, ok := h.bind(device, bind)
		if !ok {
			return
		}
		from, want := h.sender(bind, dest)
		_, err := u.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(to, 7))
		u.Close()
		var frame []byte
		wait := 20 * time.Millisecond
		if want == nil && dest != "loopback" && err == nil {
			wait = patience
		}
		select {
		case frame = <-h.frames:
		case <-time.After(wait):
		}
		src, _ := h.place(from)
		mac := station(to.WithZone(""))
		if mac.IsZero() {
			mac = h.mac
		}
		got := "nothing"
		if frame != nil {
			var e ethernet.Header
			e.Decode(frame)
			var s, d netip.Addr
			var hops uint8
			if to.Is4() {
				var ip ipv4.Header
				ip.Decode(frame[ethernet.HeaderLen:])
				s, d, hops = ip.Src, ip.Dst, ip.TTL
			} else {
				var ip ipv6.Header
				ip.Decode(frame[ethernet.HeaderLen:])
				s, d, hops = ip.Src, ip.Dst, ip.HopLimit
			}
			got = fmt.Sprint(s, d, e.Dst, hops)
		}
		hops := 64
		if to.IsMulticast() {
			hops = 1
		}
		expected := "nothing"
		if want == nil && dest != "loopback" {
			expected = fmt.Sprint(src.WithZone(""), to.WithZone(""), mac, hops)
		}
		if got != expected || !errors.Is(err, want) {
			h.Errorf("on %q, bound to %s, to %s: %s, %v; want %s, %v", device, bind, dest, got, err, expected, want)
		}
	}
}
