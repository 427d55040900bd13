package stack_test

import (
	"bytes"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/stack"
)

// onVLAN makes a host on a VLAN of a trunk.
func onVLAN(t *testing.T, trunk *link.Trunk, id uint16, addrs ...string) *stack.Stack {
	t.Helper()
	d, err := trunk.VLAN(id)
	if err != nil {
		t.Fatal(err)
	}
	s := stack.New(stack.Config{})
	t.Cleanup(func() { s.Close() })
	var all []netip.Prefix
	for _, a := range addrs {
		all = append(all, netip.MustParsePrefix(a))
	}
	if _, err := s.Attach(d, all...); err != nil {
		t.Fatal(err)
	}
	return s
}

// trunkOf makes a trunk of a device, and closes it with the test.
func trunkOf(t *testing.T, d link.Device) *link.Trunk {
	t.Helper()
	trunk, err := link.NewTrunk(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { trunk.Close() })
	return trunk
}

// carry sends so many octets from one host to another, compares them, and says how long that took.
func carry(t *testing.T, from, to *stack.Stack, addr string, octets int) time.Duration {
	t.Helper()
	l, err := to.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sent := make([]byte, octets)
	for k := range sent {
		sent[k] = byte(k ^ k>>8 ^ k>>16)
	}
	start := time.Now()
	go func() {
		c, err := from.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Error(err)
			l.Close()
			return
		}
		c.Write(sent)
		c.Close()
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d octets of %d have come, %v", len(got), octets, err)
	}
	return time.Since(start)
}

// IEEE 802.1Q between stacks: VLANs with the same addresses share a wire and know nothing of each other, and super-segments cross it
// whole.
func TestVLANs(t *testing.T) {
	for _, wire := range []link.PipeConfig{{Ethernet: true, MTU: 1500}, {Ethernet: true, MTU: 1500, GSO: 65535}} {
		a, b := link.Pipe(wire)
		near, far := trunkOf(t, a), trunkOf(t, b)
		for _, id := range []uint16{7, 4094, 0} {
			client := onVLAN(t, near, id, "198.51.100.1/24", "2001:db8:51::1/64")
			server := onVLAN(t, far, id, "198.51.100.2/24", "2001:db8:51::2/64")
			for _, addr := range []string{"198.51.100.2:80", "[2001:db8:51::2]:80"} {
				carry(t, client, server, addr, 4<<20)
			}
			if s := server.Stats(); wire.GSO > 0 && s.BytesIn/s.PacketsIn < 5000 || len(s.Drops) > 0 && s.Drops["vlan"] > 0 {
				t.Errorf("VLAN %d: %d octets in %d packets, %v", id, s.BytesIn, s.PacketsIn, s.Drops)
			}
		}
		if n, f := near.Stats(), far.Stats(); n.Malformed+f.Malformed+n.Nested+f.Nested != 0 {
			t.Errorf("dropped: %+v, %+v", n, f)
		}
	}
}
