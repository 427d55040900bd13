package stack_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/ethernet"
	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// tagSeen is a frame that a packet socket has read, with the tag that the kernel took off it; -1: none.
type tagSeen struct {
	tag   int
	frame []byte
}

// packetSocket reads and writes the frames of an interface as AF_PACKET does.
func packetSocket(t *testing.T, name string) (write func([]byte), read func() tagSeen) {
	t.Helper()
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	proto := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: i.Index})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	write = func(b []byte) {
		if _, err := unix.Write(fd, b); err != nil {
			t.Fatal(err)
		}
	}
	read = func() tagSeen {
		b, oob := make([]byte, 70000), make([]byte, 200)
		n, m, _, _, err := unix.Recvmsg(fd, b, oob, 0)
		if err != nil {
			t.Fatal(err)
		}
		seen := tagSeen{-1, b[:n]}
		all, err := unix.ParseSocketControlMessage(oob[:m])
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			// struct tpacket_auxdata: status, len, snaplen of 4 octets, mac, net, vlan_tci, vlan_tpid of 2
			if status := binary.NativeEndian.Uint32(c.Data); c.Header.Type == unix.PACKET_AUXDATA && status&unix.TP_STATUS_VLAN_VALID != 0 {
				seen.tag = int(binary.NativeEndian.Uint16(c.Data[16:]))
			}
		}
		return seen
	}
	return write, read
}

// IEEE 802.1Q with the kernel's packet socket, which writes frames with a tag, and sees ours, with theirs: who asks in our VLAN is
// answered there, with priority or without, and who asks in another is not. tshark finds the tags where they belong.
func TestKernelVLAN(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip(err)
	}
	if !netns.Enter(t, 3*time.Minute) {
		return
	}
	file := filepath.Join(t.TempDir(), "vlan.pcapng")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := link.OpenTUN(link.TUNConfig{Name: "wb0", TAP: true, MTU: 1500})
	if err != nil {
		t.Fatal(err)
	}
	if err := link.ConfigureHost("wb0", nil, 0); err != nil {
		t.Fatal(err)
	}
	trunk := trunkOf(t, link.Capture(d, w))
	s := onVLAN(t, trunk, 7, "198.51.100.2/24")
	write, read := packetSocket(t, "wb0")
	us := ethernet.Addr{2, 0, 0x5e, 0x10, 0, 1}
	ask := func(tag uint16, from string) {
		b := make([]byte, 60)
		h := ethernet.Header{Dst: ethernet.Broadcast, Src: us, Type: ethernet.TypeARP, Tagged: true, VLAN: tag}
		q := ethernet.ARP{Op: ethernet.OpRequest, SenderHW: us, SenderIP: netip.MustParseAddr(from), TargetIP: netip.MustParseAddr("198.51.100.2")}
		q.Encode(b[h.Encode(b):])
		write(b)
	}
	ask(8, "198.51.100.8")
	ask(7, "198.51.100.7")
	ask(5<<13|7, "198.51.100.57")
	for _, want := range []string{"198.51.100.7", "198.51.100.57"} {
		for {
			f := read()
			var h ethernet.Header
			var a ethernet.ARP
			n, err := h.Decode(f.frame)
			if err != nil || h.Dst != us || a.Decode(f.frame[n:]) != nil {
				continue
			}
			if a.TargetIP.String() != want || f.tag != 7 && (f.tag != -1 || h.VLAN != 7) {
				t.Errorf("an answer to %v with tag %#x, %+v; want one to %s with 7", a.TargetIP, f.tag, h, want)
			}
			break
		}
	}
	if n := trunk.Stats().Unknown; n < 1 {
		t.Errorf("%d frames of an unknown VLAN", n)
	}
	s.Close()
	trunk.Close()
	w.Close()
	out, err := exec.Command("tshark", "-r", file, "-Y", "arp.opcode == 2 && frame.packet_flags_direction == 2", "-T", "fields", "-e", "vlan.id", "-e", "vlan.priority", "-e", "arp.dst.proto_ipv4").Output()
	if want := "7\t0\t198.51.100.7\n7\t0\t198.51.100.57\n"; err != nil || string(out) != want {
		t.Errorf("tshark sees %q, %v, want %q", out, err, want)
	}
}

// Super-segments with a tag through the kernel: between two TAP devices on its bridge they stay whole, and for one without offloads it
// cuts them, tag and all.
func TestKernelVLANSuperSegments(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	if !netns.Enter(t, 3*time.Minute) {
		return
	}
	run := func(line string) {
		t.Helper()
		args := strings.Fields(line)
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	run("ip link add br0 type bridge mcast_snooping 0")
	run("ip link set br0 up")
	var trunks []*link.Trunk
	for _, name := range []string{"wb0", "wb1", "wb2"} {
		c := link.TUNConfig{Name: name, TAP: true, MTU: 1500}
		open := link.OpenTUN
		if name == "wb2" {
			open = link.OpenWater
		}
		d, err := open(c)
		if err != nil {
			t.Fatal(err)
		}
		run("ip link set " + name + " master br0")
		run("ip link set " + name + " up")
		trunks = append(trunks, trunkOf(t, d))
	}
	client := onVLAN(t, trunks[0], 7, "198.51.100.1/24", "2001:db8:51::1/64")
	for k, whole := range []bool{true, false} {
		server := onVLAN(t, trunks[k+1], 7, []string{"198.51.100.2/24", "198.51.100.3/24"}[k], []string{"2001:db8:51::2/64", "2001:db8:51::3/64"}[k])
		for _, addr := range [][]string{{"198.51.100.2:80", "[2001:db8:51::2]:80"}, {"198.51.100.3:80", "[2001:db8:51::3]:80"}}[k] {
			const octets = 32 << 20
			before := server.Stats()
			took := carry(t, client, server, addr, octets)
			after := server.Stats()
			size := (after.BytesIn - before.BytesIn) / (after.PacketsIn - before.PacketsIn)
			t.Logf("%s: %.1f Gbit/s, packets of %d octets", addr, octets*8/took.Seconds()/1e9, size)
			if whole && size < 5000 || !whole && size > 1600 {
				t.Errorf("packets of %d octets", size)
			}
			for reason, n := range after.Drops {
				if strings.HasPrefix(reason, "bad-") && n > before.Drops[reason] {
					t.Errorf("%d × %s", n, reason)
				}
			}
		}
	}
}
