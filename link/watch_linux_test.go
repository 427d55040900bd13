package link

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/internal/netns"
	"golang.org/x/sys/unix"
)

// setUp switches an interface on or off, as "ip link set" does.
func setUp(t *testing.T, name string, up bool) {
	t.Helper()
	fd, err := ioctlSocket(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r)
	}
	if err != nil {
		t.Fatal(err)
	}
	flags := r.Uint16() &^ unix.IFF_UP
	if up {
		flags |= unix.IFF_UP
	}
	r.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		t.Fatal(err)
	}
}

// until reads Caps whenever they have changed, until they are what ok wants.
func until(t *testing.T, d Device, what string, ok func(Caps) bool) Caps {
	t.Helper()
	for {
		if c := d.Caps(); ok(c) {
			return c
		}
		if _, open := <-Changed(d); !open {
			t.Fatalf("%s: the channel is closed, and Caps are %+v", what, d.Caps())
		}
	}
}

// A device whose interface goes to another network namespace is not heard of any more, and works on there.
func TestTUNMovesToAnotherNamespace(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d, err := OpenTUN(TUNConfig{Name: "wb0"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	setUp(t, "wb0", true)
	until(t, d, "up", func(c Caps) bool { return !c.Down })
	there := exec.Command("cat")
	there.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	stay, err := there.StdinPipe()
	if err == nil {
		err = there.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer there.Wait()
	defer stay.Close()
	if out, err := exec.Command("ip", "link", "set", "wb0", "netns", strconv.Itoa(there.Process.Pid)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The kernel switches it off there and then, and says so, before it says that it is gone.
	if c := until(t, d, "moved", func(c Caps) bool { return c.Flaps > 0 && !c.Down }); c.MTU == 0 {
		t.Errorf("in its new place it has %+v", c)
	}
}

// Caps follow the interface, of which Changed tells, through a capture as well, until the device is closed.
func TestTUNChanged(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	dev, err := OpenTUN(TUNConfig{Name: "wb0"})
	if err != nil {
		t.Fatal(err)
	}
	if c := dev.Caps(); !c.Down || c.Flaps != 0 {
		t.Errorf("a device that nobody has switched on: %+v", c)
	}
	d := Capture(dev, new(bytes.Buffer))
	if Changed(d) == nil {
		t.Fatal("the capture hides Changed")
	}
	setUp(t, "wb0", true)
	before := until(t, d, "up", func(c Caps) bool { return !c.Down })
	if err := setMTU("wb0", 1300); err != nil {
		t.Fatal(err)
	}
	after := until(t, d, "MTU 1300", func(c Caps) bool { return c.MTU == 1300 })
	if before.MTU = 1300; after != before {
		t.Errorf("Caps %+v, want %+v", after, before)
	}
	if n, err := d.Queues()[0].Write([]Packet{{Head: make([]byte, 1301)}}); n != 1 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	if n := dev.(*tun).Stats().TooLong; n != 1 {
		t.Errorf("%d packets of 1301 octets were too long, want 1", n)
	}
	setUp(t, "wb0", false)
	until(t, d, "down", func(c Caps) bool { return c.Down && c.Flaps == 1 })
	setUp(t, "wb0", true)
	until(t, d, "up again", func(c Caps) bool { return !c.Down && c.Flaps == 1 })
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	for range Changed(d) { // ends
	}
}

// A device that is adopted is watched as well, and so is one of several queues.
func TestTUNChangedQueues(t *testing.T) {
	if !netns.Enter(t, time.Minute) {
		return
	}
	d := opened(t, OpenTUN, TUNConfig{Name: "wb0", Queues: 2})
	until(t, d, "up", func(c Caps) bool { return !c.Down })
}

// A pipe's Caps do not change.
func TestChangedNil(t *testing.T) {
	a, b := Pipe(PipeConfig{})
	defer a.Close()
	defer b.Close()
	if Changed(a) != nil || Changed(Capture(b, new(bytes.Buffer))) != nil {
		t.Error("a pipe has a channel")
	}
}

// linkMessage is a message of rtnetlink(7) on interface index.
func linkMessage(kind uint16, family byte, index, flags uint32, attrs ...byte) []byte {
	n := unix.SizeofNlMsghdr + unix.SizeofIfInfomsg + len(attrs)
	b := make([]byte, n-len(attrs), n)
	binary.NativeEndian.PutUint32(b, uint32(n))
	binary.NativeEndian.PutUint16(b[4:], kind)
	b[unix.SizeofNlMsghdr] = family
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], index)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+8:], flags)
	return append(b, attrs...)
}

func mtuAttr(mtu uint32) []byte {
	b := binary.NativeEndian.AppendUint16(nil, 8)
	b = binary.NativeEndian.AppendUint16(b, unix.IFLA_MTU)
	return binary.NativeEndian.AppendUint32(b, mtu)
}

// What is said of other interfaces, or of this one as a port of a bridge, changes nothing; of several messages the last counts.
func TestLinkMessages(t *testing.T) {
	const lower = unix.IFF_UP | unix.IFF_LOWER_UP
	up := linkMessage(unix.RTM_NEWLINK, unix.AF_UNSPEC, 7, lower, mtuAttr(1400)...)
	for _, x := range []struct {
		name string
		b    []byte
		want linkState
		ok   bool
	}{
		{"nothing", nil, linkState{}, false},
		{"up", up, linkState{1400, false}, true},
		{"without carrier", linkMessage(unix.RTM_NEWLINK, unix.AF_UNSPEC, 7, unix.IFF_UP, mtuAttr(1400)...), linkState{1400, true}, true},
		{"without MTU", linkMessage(unix.RTM_NEWLINK, unix.AF_UNSPEC, 7, lower), linkState{0, false}, true},
		{"gone", linkMessage(unix.RTM_DELLINK, unix.AF_UNSPEC, 7, lower), linkState{0, true}, true},
		{"another interface", linkMessage(unix.RTM_NEWLINK, unix.AF_UNSPEC, 8, lower), linkState{}, false},
		{"a bridge's port", linkMessage(unix.RTM_DELLINK, unix.AF_BRIDGE, 7, lower), linkState{}, false},
		{"up, then gone", append(append([]byte{}, up...), linkMessage(unix.RTM_DELLINK, unix.AF_UNSPEC, 7, 0)...), linkState{1400, true}, true},
		{"cut off", up[:len(up)-1], linkState{}, false},
		{"a short attribute", linkMessage(unix.RTM_NEWLINK, unix.AF_UNSPEC, 7, lower, 6, 0, unix.IFLA_MTU, 0, 1, 1, 0, 0), linkState{}, true},
		{"an attribute beyond the end", linkMessage(unix.RTM_NEWLINK, unix.AF_UNSPEC, 7, lower, 99, 0, unix.IFLA_MTU, 0), linkState{}, true},
	} {
		w := &linkWatch{index: 7}
		if got, ok := w.parse(x.b); got != x.want || ok != x.ok {
			t.Errorf("%s: %+v, %v; want %+v, %v", x.name, got, ok, x.want, x.ok)
		}
		for n := range x.b { // no panic, whatever is missing
			w.parse(x.b[:n])
		}
	}
}
