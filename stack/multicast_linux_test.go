package stack

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
	"github.com/seed87e66d9f/waybill/link"
)

// until repeats f until it is content, or too much time has passed.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

// output is what a program prints.
func output(t *testing.T, args ...string) string {
	t.Helper()
	var complaints strings.Builder
	c := exec.Command(args[0], args[1:]...)
	c.Stderr = &complaints
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%q: %v\n%s%s", args, err, out, &complaints)
	}
	return string(out)
}

// C149, C194 with the kernel: its bridge asks for the groups of its ports (RFC 4541), and forwards to those that have joined. What it
// knows of us, what its sockets and ours hear of each other, and what tshark says of our reports, are as they should be.
func TestKernelMulticast(t *testing.T) {
	for _, p := range []string{"ip", "bridge", "tshark"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	if !netns.Enter(t, 3*time.Minute) {
		return
	}
	file := filepath.Join(t.TempDir(), "reports.pcapng")
	w, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := link.OpenTUN(link.TUNConfig{Name: "wb0", TAP: true, MTU: 1500})
	if err != nil {
		t.Fatal(err)
	}
	s := host(t, link.Capture(d, w), Config{}, server4, server6)
	for _, line := range []string{
		"ip link add br0 type bridge mcast_snooping 1 mcast_igmp_version 3 mcast_mld_version 2",
		"ip link set br0 type bridge mcast_querier 1 mcast_startup_query_interval 100 mcast_startup_query_count 4 mcast_query_response_interval 200",
		"ip link set wb0 master br0", "ip link set wb0 up",
		"ip link set br0 addrgenmode none", "ip addr add fe80::b/64 dev br0 nodad", // an address to ask from at once
		"ip addr add " + client4.String() + " dev br0", "ip addr add " + client6.String() + " dev br0 nodad", "ip link set br0 up",
	} {
		output(t, strings.Fields(line)...)
	}
	br0, err := net.InterfaceByName("br0")
	if err != nil {
		t.Fatal(err)
	}
	specific, group6 := group4.Next(), netip.MustParseAddr("ff12::db8:1") // of a link, so that the kernel minds the zone
	u := bound(t, s, "udp", ":5000")
	for _, err := range []error{u.JoinGroup(nil, group4), u.JoinGroup(nil, group6), u.JoinSourceSpecificGroup(nil, specific, client4.Addr())} {
		if err != nil {
			t.Fatal(err)
		}
	}
	known := func() string { return output(t, "bridge", "-d", "mdb", "show", "dev", "br0") }
	has := func(lines string, words ...string) bool {
		for line := range strings.Lines(lines) {
			all := strings.Contains(line, "port wb0")
			for _, word := range words {
				all = all && strings.Contains(line, word)
			}
			if all {
				return true
			}
		}
		return false
	}
	until(t, "the bridge knows our groups", func() bool {
		k := known()
		return has(k, "grp "+group4.String()) && has(k, "grp "+group6.String()) && has(k, "grp "+specific.String(), "src "+client4.Addr().String())
	})

	for _, group := range []netip.Addr{group4, group6, specific} {
		from, to := client4.Addr(), net.UDPAddrFromAddrPort(at(group))
		if group.Is6() {
			from, to.Zone = client6.Addr(), "br0"
		}
		theirs, err := net.ListenMulticastUDP("udp", br0, to)
		if err != nil {
			t.Fatal(err)
		}
		theirs.SetReadDeadline(time.Now().Add(40 * time.Second))
		u.SetReadDeadline(time.Now().Add(40 * time.Second))
		var c *net.UDPConn
		until(t, "the kernel has a route", func() bool {
			c, err = net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), to)
			return err == nil
		})
		if _, err := c.Write([]byte("kernel")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, p, err := u.ReadPacket(b)
		if err != nil || string(b[:n]) != "kernel" || p.To != group || p.From.Addr() != from {
			t.Errorf("read %q, %+v, %v", b[:n], p, err)
		}
		n, _, err = theirs.ReadFromUDP(b) // its own, which comes back there as here
		if err != nil || string(b[:n]) != "kernel" {
			t.Errorf("the kernel read %q, %v", b[:n], err)
		}
		u.SetMulticastLoopback(false)
		if _, err := u.WriteToUDPAddrPort([]byte("waybill"), at(group)); err != nil {
			t.Fatal(err)
		}
		n, peer, err := theirs.ReadFromUDP(b)
		if err != nil || string(b[:n]) != "waybill" || peer.Port != 5000 {
			t.Errorf("the kernel read %q from %v, %v", b[:n], peer, err)
		}
		theirs.Close()
		c.Close()
	}

	asked4, asked6 := ipv4.GroupRecord{Type: ipv4.ModeIsExclude, Group: group4}, ipv6.GroupRecord{Type: ipv6.ModeIsExclude, Group: group6}
	until(t, "the bridge's queries are answered", func() bool {
		b, err := os.ReadFile(file)
		return err == nil && bytes.Contains(b, asked4.Append(nil)) && bytes.Contains(b, asked6.Append(nil))
	})
	u.LeaveGroup(nil, group4)
	u.LeaveSourceSpecificGroup(nil, specific, client4.Addr())
	until(t, "the bridge knows that we have left", func() bool {
		k := known()
		return !has(k, "grp "+group4.String()) && !has(k, "grp "+specific.String()) && has(k, "grp "+group6.String())
	})
	s.Close()
	w.Close()
	reportsByTshark(t, file)
}

// reportsByTshark has tshark look at our reports.
func reportsByTshark(t *testing.T, file string) {
	ours := func(filter string) []string {
		return strings.Fields(output(t, "tshark", "-r", file, "-o", "ip.check_checksum:TRUE", "-Y", filter+" && frame.packet_flags_direction == 2", "-T", "fields", "-e", "frame.number"))
	}
	igmp, mld := ours("igmp.type == 0x22"), ours("icmpv6.type == 143")
	for _, c := range []struct {
		filter string
		want   int // -1: some
	}{
		{"igmp.type == 0x22 && ip.opt.type == 148 && ip.ttl == 1 && ip.dst == 224.0.0.22 && eth.dst == 01:00:5e:00:00:16 && ip.dsfield.dscp == 48", len(igmp)},
		{"icmpv6.type == 143 && ipv6.opt.router_alert == 0 && ipv6.hlim == 1 && ipv6.dst == ff02::16 && eth.dst == 33:33:00:00:00:16", len(mld)},
		{"igmp.checksum.status == 1 && ip.checksum.status == 1 && igmp", len(igmp)},
		{"icmpv6.type == 143 && icmpv6.checksum.status == 1", len(mld)},
		{"_ws.malformed", 0},
		{"igmp.record_type == 4 && igmp.maddr == 233.252.0.1", -1},  // TO_EX
		{"igmp.record_type == 5 && igmp.saddr == 198.51.100.1", -1}, // ALLOW
		{"igmp.record_type == 2 && igmp.maddr == 233.252.0.1", -1},  // IS_EX: the bridge has asked
		{"igmp.record_type == 3 && igmp.maddr == 233.252.0.1", -1},  // TO_IN
		{"igmp.record_type == 6 && igmp.saddr == 198.51.100.1", -1}, // BLOCK
		{"icmpv6.mldr.mar.record_type == 4 && icmpv6.mldr.mar.multicast_address == ff12::db8:1", -1},
		{"icmpv6.mldr.mar.record_type == 2 && icmpv6.mldr.mar.multicast_address == ff12::db8:1", -1},
	} {
		if got := len(ours(c.filter)); got != c.want && !(c.want < 0 && got > 0) {
			t.Errorf("tshark: %d frames with %s, want %d; -1: some", got, c.filter, c.want)
		}
	}
	t.Logf("%d IGMPv3 and %d MLDv2 reports", len(igmp), len(mld))
}
