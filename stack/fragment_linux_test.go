package stack

import (
	"bytes"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"github.com/seed87e66d9f/waybill/link"
)

// TestKernelFragments: C137, C142, C165: the kernel's ping of 20,000 octets is answered over a link of 1500, and datagrams of
// 60,000 octets, and of the greatest length there is, travel both ways between the kernel's sockets and ours.
func TestKernelFragments(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d, err := link.OpenTUN(link.TUNConfig{Name: "wb0", TAP: true})
	if err != nil {
		t.Fatal(err)
	}
	s := host(t, d, Config{}, server4, server6)
	if err := link.ConfigureHost("wb0", []netip.Prefix{client4, client6}, 0); err != nil {
		t.Fatal(err)
	}
	families(t, func(t *testing.T, server netip.Prefix) {
		client := client4
		if server.Addr().Is6() {
			client = client6
		}
		for _, size := range []string{"1473", "20000", "65000"} {
			out, err := exec.Command("ping", "-c", "3", "-i", "0.2", "-W", "5", "-s", size, server.Addr().String()).CombinedOutput()
			if err != nil || !strings.Contains(string(out), " 0% packet loss") || strings.Contains(string(out), "wrong data") {
				t.Errorf("ping -s %s: %v\n%s", size, err, out)
			}
		}
		ours := bound(t, s, "udp", netip.AddrPortFrom(server.Addr(), 0).String())
		kernel, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(client.Addr(), 0)), ours.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer kernel.Close()
		b := make([]byte, 1<<16)
		longest := maxDatagram(server.Addr())
		if server.Addr().Is6() {
			longest -= 40 // the kernel's sockets refuse more
		}
		for n := range 20 {
			size := 60_000 + n
			if n == 19 {
				size = longest
			}
			want := []byte(randomText(uint64(n), size))
			deadline := time.Now().Add(patience)
			ours.SetDeadline(deadline)
			kernel.SetDeadline(deadline)
			if _, err := kernel.Write(want); err != nil {
				t.Fatalf("the kernel writes %d octets: %v", size, err)
			}
			k, from, err := ours.ReadFromUDPAddrPort(b)
			if err != nil || !bytes.Equal(b[:k], want) {
				t.Fatalf("%d octets from the kernel arrive as %d: %v; %v", size, k, err, s.Stats().Drops)
			}
			want = []byte(randomText(uint64(100+n), size))
			if _, err := ours.WriteToUDPAddrPort(want, from); err != nil {
				t.Fatalf("we write %d octets: %v", size, err)
			}
			if k, err = kernel.Read(b); err != nil || !bytes.Equal(b[:k], want) {
				t.Fatalf("%d octets from us arrive as %d: %v; %v", size, k, err, s.Stats().Drops)
			}
		}
	})
	if st := s.Stats(); st.FragmentsIn == 0 || st.FragmentsOut == 0 || st.Memory != 0 {
		t.Errorf("%d fragments came, %d left, %d octets are held", st.FragmentsIn, st.FragmentsOut, st.Memory)
	} else {
		t.Logf("%d fragments came, %d left; drops %v", st.FragmentsIn, st.FragmentsOut, st.Drops)
	}
}
