package link

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// OpenTUN opens a TUN device, or a TAP device, of the Linux kernel (Documentation/networking/tuntap.rst).
//
// Each packet comes and goes with a virtio header, which lets the kernel hand over and take super-segments of 64 KB
// and leave checksums to us, or do them. Several queues are several descriptors: the kernel sends a flow's packets to
// the queue that last wrote one of that flow.
//
// The interface comes up unconfigured: "ip address add" and "ip link set up" are the host's business, or see
// ConfigureHost. Packets written while it is down count in Stats as Down. The device has a method Stats() Stats.
//
// Caps follow the interface: its MTU, and whether it is up and has a carrier. See [Changed]; where the process may open no
// netlink socket, they stay as they were in the beginning, and Changed is nil. The namespace watched is that of the caller.
//
// Errors wrap the system's error number: EPERM without CAP_NET_ADMIN, ENOENT without /dev/net/tun, EBUSY for an
// interface in use by another process, EINVAL for a name, an MTU or a number of queues that cannot be.
func OpenTUN(c TUNConfig) (Device, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	t := new(tun)
	var err error
	if c.FD != 0 {
		err = t.adopt(&c)
	} else {
		err = t.open(&c)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	t.watch()
	return t, nil
}

// tun is a TUN or TAP device with its descriptors.
type tun struct {
	caps   Caps // in the beginning
	queues []Queue
	files  []*os.File
	header int // VirtioLen, or 0 for a device without
	closed atomic.Bool

	live    atomic.Pointer[Caps] // now
	events  *linkWatch           // nil: there is no netlink
	changed chan struct{}        // nil without events
	watched chan struct{}        // closed when nobody reads events any more

	// What Stats tells.
	tooLong, down, noRoom, invalid atomic.Uint64
}

func (t *tun) Caps() Caps      { return *t.live.Load() }
func (t *tun) Queues() []Queue { return t.queues }

func (t *tun) Close() error {
	if t.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, f := range t.files {
		errs = append(errs, f.Close())
	}
	if t.events != nil {
		errs = append(errs, t.events.file.Close())
		<-t.watched
	}
	return errors.Join(errs...)
}

// error says what went wrong, or only that the device is closed, if it is.
func (t *tun) error(op string, err error) error {
	if err == nil {
		return nil
	}
	if t.closed.Load() {
		return errClosed
	}
	return fmt.Errorf("link: %s %s: %w", op, t.caps.Name, err)
}

// Stats counts what the device has dropped.
func (t *tun) Stats() Stats {
	return Stats{
		TooLong: t.tooLong.Load(), Down: t.down.Load(),
		NoRoom: t.noRoom.Load(), Invalid: t.invalid.Load(),
	}
}

// open makes or attaches to the interface, once for each queue.
func (t *tun) open(c *TUNConfig) error {
	flags := uint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if c.TAP {
		flags = unix.IFF_TAP | unix.IFF_NO_PI
	}
	if !c.NoOffload {
		flags |= unix.IFF_VNET_HDR
	}
	queues := max(c.Queues, 1)
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	name := c.Name
	for range queues {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("link: open /dev/net/tun%s: %w", hint(err), err)
		}
		if name, err = attach(fd, name, flags); err == nil {
			err = t.setup(fd, name, flags)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		if err := t.add(fd, name); err != nil {
			return err
		}
	}
	return t.setMTU(c.MTU)
}

// adopt takes over a descriptor that somebody else opened and attached.
func (t *tun) adopt(c *TUNConfig) error {
	r, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(c.FD, unix.TUNGETIFF, r); err != nil {
		return fmt.Errorf("link: descriptor %d is no attached TUN or TAP device: %w", c.FD, err)
	}
	flags := r.Uint16()
	if flags&unix.IFF_NO_PI == 0 {
		return fmt.Errorf("link: %s was opened without IFF_NO_PI: %w", r.Name(), unix.EINVAL)
	}
	if err := unix.SetNonblock(c.FD, true); err != nil {
		return fmt.Errorf("link: make %s non-blocking: %w", r.Name(), err)
	}
	if err := t.setup(c.FD, r.Name(), flags); err != nil {
		return err
	}
	if err := t.setMTU(c.MTU); err != nil {
		return err
	}
	return t.add(c.FD, t.caps.Name)
}

// attach ties fd to the interface called name, which the kernel creates if there is none, and returns the name it has
// in the end.
func attach(fd int, name string, flags uint16) (string, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return name, fmt.Errorf("link: interface name %q: %w", name, err)
	}
	r.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return name, fmt.Errorf("link: attach to interface %q%s: %w", name, hint(err), err)
	}
	return r.Name(), nil
}

// hint says in words what the error number means for a TUN device.
func hint(err error) string {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return " (it needs CAP_NET_ADMIN)"
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return " (is the kernel's tun module loaded, and the device passed into the container?)"
	case errors.Is(err, unix.EBUSY):
		return " (it is in use)"
	case errors.Is(err, unix.EINVAL):
		return " (it exists and is of another kind, TUN or TAP, one queue or several)"
	}
	return ""
}

// setup asks the kernel for the offloads, and fills in the Caps that follow from flags.
func (t *tun) setup(fd int, name string, flags uint16) error {
	t.caps = Caps{Name: name, Ethernet: flags&unix.IFF_TAP != 0, Polled: true}
	if flags&unix.IFF_VNET_HDR == 0 {
		return nil
	}
	t.header = VirtioLen
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, VirtioLen); err != nil {
		return fmt.Errorf("link: set the virtio header of %s: %w", name, err)
	}
	const tcp = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6
	t.caps.Checksum, t.caps.GSO4, t.caps.GSO6 = true, maxPacket, maxPacket
	// Linux 6.2 and later cut and merge UDP as well; others refuse the whole request.
	err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp|unix.TUN_F_USO4|unix.TUN_F_USO6)
	if err == nil {
		t.caps.GSOUDP = maxPacket
		return nil
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tcp); err != nil {
		return fmt.Errorf("link: set the offloads of %s: %w", name, err)
	}
	return nil
}

// setMTU sets the interface's MTU if one is asked for, and notes which it has.
func (t *tun) setMTU(mtu int) (err error) {
	if mtu != 0 {
		if err := setMTU(t.caps.Name, mtu); err != nil {
			return err
		}
	}
	t.caps.MTU, err = interfaceMTU(t.caps.Name)
	return err
}

// add makes a queue of fd, which from here on belongs to t.
func (t *tun) add(fd int, name string) error {
	f := os.NewFile(uintptr(fd), name) // non-blocking, so it waits in the runtime's poller, and Close ends the waiting
	t.files = append(t.files, f)
	conn, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("link: %s: %w", name, err)
	}
	t.queues = append(t.queues, newTUNQueue(t, conn))
	return nil
}
