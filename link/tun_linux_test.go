package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"golang.org/x/sys/unix"
)

var openers = []struct {
	name      string
	open      func(TUNConfig) (Device, error)
	noOffload bool
}{
	{"OpenTUN", OpenTUN, false},
	{"OpenTUN without offload", OpenTUN, true},
	{"OpenWater", OpenWater, false},
}

// listenUDP opens a socket of the kernel in the namespace. Its deadline only keeps a failing test from hanging.
func listenUDP(t *testing.T, a netip.Addr) (*net.UDPConn, uint16) {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c, c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func TestTUNCarriesPacketsOfTheKernel(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	for _, o := range openers {
		t.Run(o.name, func(t *testing.T) {
			d := opened(t, o.open, TUNConfig{NoOffload: o.noOffload, MTU: 1400})
			if c := d.Caps(); c.MTU != 1400 || c.Ethernet || c.Name == "" || len(d.Queues()) != 1 {
				t.Errorf("Caps %+v, %d queues, want a name, MTU 1400 and one queue", c, len(d.Queues()))
			}
			for _, a := range [][2]netip.Addr{{host4, station4}, {host6, station6}} {
				host, station := a[0], a[1]
				c, port := listenUDP(t, host)
				b := ipPacket(station, host, protoUDP, udpDatagram(7, port, []byte("to the kernel")), false)
				if n, err := d.Queues()[0].Write([]Packet{{Head: b[:20], Text: [][]byte{b[20:30], b[30:]}}}); n != 1 || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
				in := make([]byte, 100)
				n, from, err := c.ReadFromUDPAddrPort(in)
				if err != nil || string(in[:n]) != "to the kernel" || from != netip.AddrPortFrom(station, 7) {
					t.Fatalf("the kernel received %q from %v, %v", in[:n], from, err)
				}
				if _, err := c.WriteToUDPAddrPort([]byte("to the station"), from); err != nil {
					t.Fatal(err)
				}
				p, u := receiveTransport(t, d, protoUDP)
				if string(u[8:]) != "to the station" || binary.BigEndian.Uint16(u) != port {
					t.Errorf("the station received % x", p.Head)
				}
				if p.Offload.Valid != d.Caps().Checksum {
					t.Errorf("Offload is %+v, with Checksum %v in Caps", p.Offload, d.Caps().Checksum)
				}
			}
		})
	}
}

func TestTAPCarriesFramesOfTheKernel(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	for _, o := range openers {
		t.Run(o.name, func(t *testing.T) {
			d := opened(t, o.open, TUNConfig{TAP: true, NoOffload: o.noOffload})
			if c := d.Caps(); c.MTU != 1500 || !c.Ethernet || c.Addr.String() != "00:00:00:00:00:00" {
				t.Errorf("Caps %+v, want Ethernet, the kernel's MTU of 1500, and no address", c)
			}
			i, err := net.InterfaceByName(d.Caps().Name)
			if err != nil {
				t.Fatal(err)
			}
			c, port := listenUDP(t, netip.IPv4Unspecified())
			frame := append(i.HardwareAddr[:6:6], 2, 0, 0, 0, 0, 2, 0x08, 0x00)
			p := Packet{Head: frame, Text: [][]byte{
				ipPacket(station4, host4, protoUDP, udpDatagram(7, port, []byte("to the kernel")), d.Caps().Checksum),
			}}
			if d.Caps().Checksum {
				p.Offload = Offload{Partial: true, Start: 14 + 20, Offset: udpChecksum}
			}
			if n, err := d.Queues()[0].Write([]Packet{p}); n != 1 || err != nil {
				t.Fatalf("Write: %d, %v", n, err)
			}
			in := make([]byte, 100)
			if n, _, err := c.ReadFromUDPAddrPort(in); string(in[:n]) != "to the kernel" || err != nil {
				t.Fatalf("the kernel received %q, %v", in[:n], err)
			}
			broadcast := netip.MustParseAddrPort("198.51.100.255:9") // needs no ARP
			if _, err := c.WriteToUDPAddrPort([]byte("to all stations"), broadcast); err != nil {
				t.Fatal(err)
			}
			got, u := receiveTransport(t, d, protoUDP)
			if string(u[8:]) != "to all stations" || !bytes.Equal(got.Head[:6], bytes.Repeat([]byte{255}, 6)) {
				t.Errorf("the station received % x", got.Head)
			}
			if o := got.Offload; o.Partial && o.Start != 14+20 {
				t.Errorf("Start is %d, want 34, from the start of the frame", o.Start)
			}
		})
	}
}

func TestTUNSuperSegmentsOfTCP(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	for _, a := range []struct {
		host, station netip.Addr
		gso           GSO
		header        uint16
	}{{host4, station4, TCP4, 20}, {host6, station6, TCP6, 40}} {
		t.Run(a.gso.String(), func(t *testing.T) {
			d := opened(t, OpenTUN, TUNConfig{})
			l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.host, 0)))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			l.SetDeadline(time.Now().Add(20 * time.Second))
			port := l.Addr().(*net.TCPAddr).AddrPort().Port()
			o := Offload{Partial: true, Start: a.header, Offset: tcpChecksum}
			write := func(seq, ack uint32, flags byte, text []byte) {
				t.Helper()
				b := ipPacket(a.station, a.host, protoTCP, tcpSegment(7, port, seq, ack, flags, text), true)
				if n, err := d.Queues()[0].Write([]Packet{{Head: b, Offload: o}}); n != 1 || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
			}
			const iss, syn, ack = 1000, 2, 16
			write(iss, 0, syn, nil)
			_, s := receiveTransport(t, d, protoTCP)
			una := binary.BigEndian.Uint32(s[4:]) + 1
			o.GSO, o.Size, o.HeaderLen = a.gso, 1000, a.header+20
			text := bytes.Repeat([]byte("0123456789abcde\n"), 20<<10/16)
			write(iss+1, una, ack, text)
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			in := make([]byte, len(text))
			if _, err := io.ReadFull(c, in); err != nil || !bytes.Equal(in, text) {
				t.Fatalf("the kernel did not receive the super-segment: %v", err)
			}
			if _, err := c.Write(text); err != nil {
				t.Fatal(err)
			}
			for { // acknowledgements come first
				p, s := receiveTransport(t, d, protoTCP)
				if len(s) <= 20 {
					continue
				}
				// No MSS option was sent. RFC 9293 §3.7.1: 536 for IPv4, 1220 for IPv6.
				want := Offload{Partial: true, Valid: true, Start: a.header, Offset: tcpChecksum,
					GSO: a.gso, Size: map[GSO]uint16{TCP4: 536, TCP6: 1220}[a.gso], HeaderLen: a.header + 20}
				if p.Offload != want {
					t.Errorf("%d bytes from the kernel: %+v\nwant %+v", len(p.Head), p.Offload, want)
				}
				if n := len(s) - 20; !bytes.Equal(s[20:], text[:n]) {
					t.Errorf("the kernel sent other text than was written")
				}
				return
			}
		})
	}
}

func TestTUNSuperSegmentOfUDP(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d := opened(t, OpenTUN, TUNConfig{})
	if d.Caps().GSOUDP == 0 {
		t.Skip("this kernel does not segment UDP (before Linux 6.2)")
	}
	c, port := listenUDP(t, host4)
	text := bytes.Repeat([]byte("datagram"), 3500/8)
	b := ipPacket(station4, host4, protoUDP, udpDatagram(7, port, text), true)
	p := Packet{Head: b[:28], Text: [][]byte{b[28:]}, Offload: Offload{
		Partial: true, Start: 20, Offset: udpChecksum, GSO: UDP, Size: 1000, HeaderLen: 28}}
	if n, err := d.Queues()[0].Write([]Packet{p}); n != 1 || err != nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	in := make([]byte, 4000)
	for _, want := range []int{1000, 1000, 1000, len(text) - 3000} {
		if n, err := c.Read(in); n != want || err != nil {
			t.Fatalf("the kernel received a datagram of %d bytes, %v, want %d", n, err, want)
		}
	}
}

// The address is in use by a socket at once, which a tentative one could not be.
func TestConfigureHostWaitsForIPv6(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	for range 20 {
		d := opened(t, OpenTUN, TUNConfig{TAP: true})
		c, _ := listenUDP(t, host6)
		c.Close()
		d.Close()
	}
}

func TestTUNReadReturnsAllThatIsReady(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d := opened(t, OpenTUN, TUNConfig{})
	c, _ := listenUDP(t, host4)
	const sent = 40
	for i := range sent {
		if _, err := c.WriteToUDPAddrPort([]byte{byte(i)}, netip.AddrPortFrom(station4, 9)); err != nil {
			t.Fatal(err)
		}
	}
	p := make([]Packet, 64)
	n, err := d.Queues()[0].Read(p)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, p := range p[:n] {
		if p.Head[0] == 0x45 && p.Head[9] == protoUDP {
			if b := p.Head[28]; int(b) != got {
				t.Errorf("packet %d of the batch is number %d", got, b)
			}
			got++
		}
	}
	if got != sent {
		t.Errorf("one Read returned %d of the %d packets that were ready", got, sent)
	}
	// With nothing ready, it waits. However late the packet comes, the answer must be the same.
	time.AfterFunc(10*time.Millisecond, func() { c.WriteToUDPAddrPort([]byte{sent}, netip.AddrPortFrom(station4, 9)) })
	if _, u := receiveTransport(t, d, protoUDP); u[8] != sent {
		t.Errorf("read number %d, want %d", u[8], sent)
	}
}

func TestTUNCloseEndsAReadAndFreesTheInterface(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	for _, o := range openers {
		d, err := o.open(TUNConfig{NoOffload: o.noOffload}) // down: nothing to read
		if err != nil {
			t.Fatal(err)
		}
		q := d.Queues()[0]
		read := make(chan error)
		go func() {
			_, err := q.Read(make([]Packet, 1))
			read <- err
		}()
		for range 2 {
			if err := d.Close(); err != nil {
				t.Errorf("%s: Close: %v", o.name, err)
			}
		}
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: Read: %v, want net.ErrClosed", o.name, err)
		}
		if _, err := q.Write([]Packet{{Head: make([]byte, 40)}}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: Write: %v, want net.ErrClosed", o.name, err)
		}
		if _, err := net.InterfaceByName(d.Caps().Name); err == nil {
			t.Errorf("%s: %s is still there", o.name, d.Caps().Name)
		}
	}
}

func TestTUNDownDropsAndCounts(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	b := ipPacket(station4, host4, protoUDP, udpDatagram(7, 9, nil), false)
	for _, o := range openers {
		d, err := o.open(TUNConfig{NoOffload: o.noOffload, MTU: 1400})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := d.Queues()[0].Write([]Packet{{Head: b}, {Head: b}}); n != 2 || err != nil {
			t.Errorf("%s: Write while down: %d, %v, want 2 taken", o.name, n, err)
		}
		if tun, ok := d.(*tun); ok {
			tun.Queues()[0].Write([]Packet{{Head: make([]byte, 1401)}})
			if got, want := tun.Stats(), (Stats{Down: 2, TooLong: 1}); got != want {
				t.Errorf("Stats: %+v, want %+v", got, want)
			}
		}
		d.Close()
	}
}

func TestTUNQueuesAndDescriptors(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d := opened(t, OpenTUN, TUNConfig{Name: "many%d", Queues: 3})
	if d.Caps().Name != "many0" || len(d.Queues()) != 3 {
		t.Fatalf("%q with %d queues, want many0 with 3", d.Caps().Name, len(d.Queues()))
	}
	c, port := listenUDP(t, host4)
	for i, q := range d.Queues() {
		b := ipPacket(station4, host4, protoUDP, udpDatagram(7, port, []byte{byte(i)}), false)
		q.Write([]Packet{{Head: b}})
		if n, err := c.Read(b); n != 1 || err != nil || b[0] != byte(i) {
			t.Errorf("queue %d: the kernel received % x, %v", i, b[:n], err)
		}
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenTUN(TUNConfig{FD: fd}); !errors.Is(err, syscall.EBADFD) {
		t.Errorf("a descriptor that is not attached: %v, want EBADFD", err)
	}
	if _, err := attach(fd, "given", unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR); err != nil {
		t.Fatal(err)
	}
	g, err := OpenTUN(TUNConfig{FD: fd, MTU: 9000})
	if err != nil {
		t.Fatal(err)
	}
	if c := g.Caps(); c.Name != "given" || !c.Ethernet || c.MTU != 9000 || c.GSO4 == 0 {
		t.Errorf("adopted: %+v, want a TAP device called given, MTU 9000, with GSO", c)
	}
	g.Close()
	if err := unix.SetNonblock(fd, true); err != unix.EBADF {
		t.Errorf("the descriptor after Close: %v, want EBADF", err)
	}
}

func TestTUNErrors(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	busy, err := OpenTUN(TUNConfig{Name: "busy"})
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	tests := []struct {
		name string
		c    TUNConfig
		want error
		text string
	}{
		{"a name of 16 bytes", TUNConfig{Name: "sixteen-bytes-ab"}, syscall.EINVAL, "longer than 15"},
		{"a name with a slash", TUNConfig{Name: "a/b"}, syscall.EINVAL, "contains"},
		{"a name in use", TUNConfig{Name: "busy"}, syscall.EBUSY, "busy"},
		{"an interface of another kind", TUNConfig{Name: "lo"}, syscall.EINVAL, "lo"},
		{"an MTU too small", TUNConfig{MTU: 67}, syscall.EINVAL, "MTU 67"},
		{"an MTU too large", TUNConfig{MTU: 65536}, syscall.EINVAL, "MTU 65536"},
		{"an MTU too large for TAP", TUNConfig{TAP: true, MTU: 65535}, syscall.EINVAL, "MTU"},
		{"fewer than no queues", TUNConfig{Queues: -1}, syscall.EINVAL, "queues"},
		{"no descriptor", TUNConfig{FD: 999}, syscall.EBADF, "descriptor 999"},
	}
	for _, tt := range tests {
		for _, o := range openers {
			want := tt.want
			if o.name == "OpenWater" && tt.c.FD != 0 {
				want = errors.ErrUnsupported
			}
			tt.c.NoOffload = o.noOffload
			before := descriptors(t)
			_, err := o.open(tt.c)
			if !errors.Is(err, want) || want == tt.want && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%s, %s: %v, want %v, and %q in the text", o.name, tt.name, err, want, tt.text)
			}
			if after := descriptors(t); after != before && o.name != "OpenWater" { // water leaks one
				t.Errorf("%s, %s: %d descriptors open, %d before", o.name, tt.name, after, before)
			}
		}
	}
	if err := ConfigureHost("nosuch", []netip.Prefix{netip.PrefixFrom(host4, 24)}, 0); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("ConfigureHost of no interface: %v, want ENODEV", err)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestConfigureHostAddsEveryAddress(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d, err := OpenTUN(TUNConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var addrs []netip.Prefix
	for _, s := range []string{"198.51.100.1/24", "203.0.113.1/28", "2001:db8::1/64", "2001:db8:1::1/48"} {
		addrs = append(addrs, netip.MustParsePrefix(s))
	}
	if err := ConfigureHost(d.Caps().Name, addrs, 1300); err != nil {
		t.Fatal(err)
	}
	i, err := net.InterfaceByName(d.Caps().Name)
	if err != nil || i.MTU != 1300 || i.Flags&net.FlagUp == 0 {
		t.Errorf("%+v, %v, want it up with MTU 1300", i, err)
	}
	has, err := i.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range addrs {
		found := false
		for _, a := range has {
			found = found || a.String() == want.String()
		}
		if !found {
			t.Errorf("%v is not among %v", want, has)
		}
	}
}

// TestTUNWriteOfNothing: a packet of no octets is the system's to refuse, which it does but where it is asked to write no piece.
func TestTUNWriteOfNothing(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	for _, o := range openers {
		d := opened(t, o.open, TUNConfig{NoOffload: o.noOffload})
		n, err := d.Queues()[0].Write([]Packet{{}})
		if refused := n == 0 && errors.Is(err, syscall.EINVAL); refused == o.noOffload {
			t.Errorf("%s: %d packets sent, %v", o.name, n, err)
		}
	}
}
