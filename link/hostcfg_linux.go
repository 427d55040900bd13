package link

import (
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ConfigureHost sets up the host's side of the interface called name, as "ip link set" and "ip address add" would: it
// sets the MTU (0 leaves it alone), gives the host addrs, and brings the interface up. It is a convenience for
// examples and tests, with the rights that they need anyway to open the device; addresses only get added.
//
// A device of OpenTUN follows the MTU, one of OpenWater has that with which it was opened: there, set TUNConfig.MTU and
// leave mtu 0.
//
// IPv6 addresses are usable when it returns, and soon: duplicate address detection is switched off on the interface,
// where the system lets /proc/sys be written; else it takes a second or two. Errors wrap the system's error number.
func ConfigureHost(name string, addrs []netip.Prefix, mtu int) error {
	fd, err := ioctlSocket(unix.AF_INET)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if mtu != 0 {
		if err := setMTU(name, mtu); err != nil {
			return err
		}
	}
	// Whether this could be written is seen below: an address is refused, or takes its time.
	conf := "/proc/sys/net/ipv6/conf/" + name
	_ = os.WriteFile(conf+"/accept_dad", []byte("0"), 0)
	for _, a := range addrs {
		if a.Addr().Is6() {
			_ = os.WriteFile(conf+"/disable_ipv6", []byte("0"), 0)
		}
	}
	alias := 0
	for _, a := range addrs {
		if !a.Addr().Is4() {
			continue
		}
		label := name
		if alias > 0 { // a second address goes by a label of its own, or it would replace the first
			label = fmt.Sprintf("%s:%d", name, alias)
		}
		alias++
		if err := addIPv4(fd, label, a); err != nil {
			return fmt.Errorf("link: give %s the address %v: %w", name, a, err)
		}
	}
	if err := bringUp(fd, name); err != nil {
		return fmt.Errorf("link: bring %s up: %w", name, err)
	}
	for _, a := range addrs {
		if !a.Addr().Is6() {
			continue
		}
		if err := addIPv6(name, a); err != nil {
			return fmt.Errorf("link: give %s the address %v: %w", name, a, err)
		}
	}
	return nil
}

func ioctlSocket(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("link: open a socket to configure interfaces: %w", err)
	}
	return fd, nil
}

func addIPv4(fd int, label string, a netip.Prefix) error {
	r, err := unix.NewIfreq(label)
	if err != nil {
		return err
	}
	addr := a.Addr().As4()
	if err := r.SetInet4Addr(addr[:]); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r); err != nil {
		return err
	}
	mask := ^uint32(0) << (32 - a.Bits())
	if err := r.SetInet4Addr([]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}); err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFNETMASK, r)
}

// in6Ifreq is struct in6_ifreq of <linux/ipv6.h>.
type in6Ifreq struct {
	addr      [16]byte
	prefixLen uint32
	index     int32
}

func addIPv6(name string, a netip.Prefix) error {
	fd, err := ioctlSocket(unix.AF_INET6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
		return err
	}
	in6 := in6Ifreq{addr: a.Addr().As16(), prefixLen: uint32(a.Bits()), index: int32(r.Uint32())}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFADDR, uintptr(unsafe.Pointer(&in6)))
	if errno != 0 && errno != unix.EEXIST {
		return errno
	}
	return settle(fd, &unix.SockaddrInet6{Addr: in6.addr, ZoneId: uint32(in6.index)})
}

// settleTime is how long an address may take to become usable where duplicate address detection could not be
// switched off: RFC 4862 §5.4.2 has it begin after up to a second (MAX_RTR_SOLICITATION_DELAY, RFC 4861 §10), and the
// one probe waits a second for an answer (RetransTimer, the same section).
const settleTime = 2500 * time.Millisecond

// settle waits until a socket can be bound to the address: even without any detection, a worker of the kernel
// finishes the address some time after the ioctl has returned, and tells nobody but netlink listeners.
func settle(fd int, a *unix.SockaddrInet6) error {
	for end := time.Now().Add(settleTime); ; time.Sleep(time.Millisecond) {
		err := unix.Bind(fd, a)
		if err != unix.EADDRNOTAVAIL || time.Now().After(end) {
			return err
		}
	}
}

func bringUp(fd int, name string) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, r); err != nil {
		return err
	}
	r.SetUint16(r.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

// interfaceMTU reads the MTU of the interface called name.
func interfaceMTU(name string) (int, error) {
	r, err := ioctlMTU(name, unix.SIOCGIFMTU, 0)
	if err != nil {
		return 0, fmt.Errorf("link: read the MTU of %s: %w", name, err)
	}
	return r, nil
}

// setMTU sets the MTU of the interface called name.
func setMTU(name string, mtu int) error {
	if _, err := ioctlMTU(name, unix.SIOCSIFMTU, mtu); err != nil {
		return fmt.Errorf("link: set the MTU of %s to %d: %w", name, mtu, err)
	}
	return nil
}

func ioctlMTU(name string, request uint, mtu int) (int, error) {
	fd, err := ioctlSocket(unix.AF_INET)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	r.SetUint32(uint32(mtu))
	if err := unix.IoctlIfreq(fd, request, r); err != nil {
		return 0, err
	}
	return int(r.Uint32()), nil
}
