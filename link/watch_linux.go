package link

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// netlinkBuffer is what one read from a netlink socket takes at most: netlink(7) advises buffers of at least 8 kB, and
// the kernel fills up to 32 kB where it is given them (netlink_recvmsg in net/netlink/af_netlink.c).
const netlinkBuffer = 32 << 10

// A linkWatch hears from rtnetlink(7) what becomes of one interface. It belongs to the network namespace that it was
// opened in, whichever thread reads it.
type linkWatch struct {
	file  *os.File
	conn  syscall.RawConn
	index int32
	buf   [netlinkBuffer]byte
}

// linkState is what a linkWatch tells.
type linkState struct {
	mtu  int
	down bool // not up, or without carrier
}

// watchLink begins to listen, and returns the state at the beginning.
func watchLink(name string) (*linkWatch, linkState, error) {
	index, err := interfaceIndex(name)
	if err != nil {
		return nil, linkState{}, err
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, linkState{}, err
	}
	w := &linkWatch{file: os.NewFile(uintptr(fd), "netlink"), index: index}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		w.file.Close()
		return nil, linkState{}, err
	}
	if w.conn, err = w.file.SyscallConn(); err == nil {
		err = w.ask()
	}
	var state linkState
	if err == nil {
		state, err = w.next() // the kernel answers before the question's sendto(2) returns
	}
	if err != nil {
		w.file.Close()
		return nil, state, err
	}
	return w, state, nil
}

func interfaceIndex(name string) (int32, error) {
	fd, err := ioctlSocket(unix.AF_INET)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
		return 0, err
	}
	return int32(r.Uint32()), nil
}

// ask has the kernel say how the interface is: RTM_GETLINK with a struct ifinfomsg.
func (w *linkWatch) ask() error {
	const size = unix.SizeofNlMsghdr + unix.SizeofIfInfomsg
	b := make([]byte, size)
	binary.NativeEndian.PutUint32(b, size)
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETLINK)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], uint32(w.index))
	var err error
	failed := w.conn.Control(func(fd uintptr) {
		err = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	return errors.Join(failed, err)
}

// next waits until the kernel says something of the interface. Where it had to leave something out, it is asked again.
func (w *linkWatch) next() (linkState, error) {
	for {
		n, from, err := w.receive()
		switch {
		case err == unix.ENOBUFS:
			if err := w.ask(); err != nil {
				return linkState{}, err
			}
			continue
		case err != nil:
			return linkState{}, err
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 { // not from the kernel
			continue
		}
		if state, ok := w.parse(w.buf[:n]); ok {
			return state, nil
		}
	}
}

func (w *linkWatch) receive() (n int, from unix.Sockaddr, err error) {
	failed := w.conn.Read(func(fd uintptr) bool {
		for {
			if n, from, err = unix.Recvfrom(int(fd), w.buf[:], 0); err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if failed != nil {
		err = failed
	}
	return n, from, err
}

// parse finds the last thing that b says of the interface.
func (w *linkWatch) parse(b []byte) (state linkState, ok bool) {
	messages, _ := syscall.ParseNetlinkMessage(b) // what came before a malformed one counts
	for i := range messages {
		m := &messages[i]
		if len(m.Data) < unix.SizeofIfInfomsg || m.Data[0] != unix.AF_UNSPEC || // a bridge's view of its ports is another family
			int32(binary.NativeEndian.Uint32(m.Data[4:])) != w.index {
			continue
		}
		switch m.Header.Type {
		case unix.RTM_DELLINK:
			state, ok = linkState{mtu: state.mtu, down: !hasMoved(m)}, true
		case unix.RTM_NEWLINK:
			// IFF_LOWER_UP stands for IFF_UP and the carrier together (dev_get_flags in net/core/dev.c).
			state.down = binary.NativeEndian.Uint32(m.Data[8:])&unix.IFF_LOWER_UP == 0
			state.mtu, ok = messageMTU(m), true
		}
	}
	return state, ok
}

// hasMoved reports whether a message that tells of an interface's end only says that it is in another network namespace now
// (the kernel's __dev_change_net_namespace), of whose interfaces nothing is heard here: it carries packets as before.
func hasMoved(m *syscall.NetlinkMessage) bool {
	attrs, _ := syscall.ParseNetlinkRouteAttr(m)
	return slices.ContainsFunc(attrs, func(a syscall.NetlinkRouteAttr) bool { return a.Attr.Type == unix.IFLA_NEW_NETNSID })
}

// messageMTU is a message's IFLA_MTU, or 0.
func messageMTU(m *syscall.NetlinkMessage) int {
	attrs, _ := syscall.ParseNetlinkRouteAttr(m)
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_MTU && len(a.Value) >= 4 {
			return int(binary.NativeEndian.Uint32(a.Value))
		}
	}
	return 0
}

// watch begins to follow the interface's MTU and carrier. Where the system has no netlink for us, the device has the
// MTU that it had in the beginning, and Changed is nil.
func (t *tun) watch() {
	caps := t.caps
	w, state, err := watchLink(caps.Name)
	if err == nil {
		caps = state.apply(caps)
		caps.Flaps = 0
		t.events = w
		t.changed, t.watched = make(chan struct{}, 1), make(chan struct{})
		go t.follow()
	}
	t.live.Store(&caps)
}

// apply is caps with what the kernel has said.
func (s linkState) apply(caps Caps) Caps {
	if s.mtu > 0 {
		caps.MTU = min(s.mtu, maxPacket)
	}
	if s.down && !caps.Down {
		caps.Flaps++
	}
	caps.Down = s.down
	return caps
}

// follow keeps Caps current until the device is closed.
func (t *tun) follow() {
	defer close(t.watched)
	defer close(t.changed)
	for {
		state, err := t.events.next()
		if err != nil {
			return
		}
		old := t.live.Load()
		caps := state.apply(*old)
		if caps == *old {
			continue
		}
		t.live.Store(&caps)
		select {
		case t.changed <- struct{}{}:
		default:
		}
	}
}

// Changed says when Caps are to be read again.
func (t *tun) Changed() <-chan struct{} { return t.changed }
