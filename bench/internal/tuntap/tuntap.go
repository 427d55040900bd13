// Package tuntap opens the kernel's TUN and TAP devices for what this module measures waybill against. It is the bare
// system calls: what a stack makes of the descriptor is what is measured.
package tuntap

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// HeaderLen is the length of the virtio header that a device opened with Vnet puts before each packet.
const HeaderLen = 10

// Mode is the kind of a device.
type Mode string

// The modes, as the servers' -mode flag has them.
const (
	TUN  Mode = "tun"  // IP packets, one for each system call
	TAP  Mode = "tap"  // Ethernet frames, one for each system call
	Vnet Mode = "vnet" // a TUN with the virtio header: super-segments of 64 KB, checksums left to the kernel
)

// Open attaches to the interface called name, and returns the descriptor, in blocking mode.
func Open(name string, mode Mode) (fd int, err error) {
	flags := map[Mode]uint16{TUN: unix.IFF_TUN, TAP: unix.IFF_TAP, Vnet: unix.IFF_TUN | unix.IFF_VNET_HDR}[mode]
	if flags == 0 {
		return -1, fmt.Errorf("mode %q is none of tun, tap and vnet", mode)
	}
	return attach(name, flags)
}

// OpenVnetTAP is Open for a TAP with the virtio header, whose offloads are those of Vnet.
func OpenVnetTAP(name string) (fd int, err error) {
	return attach(name, unix.IFF_TAP|unix.IFF_VNET_HDR)
}

func attach(name string, flags uint16) (fd int, err error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return -1, err
	}
	r.SetUint16(flags | unix.IFF_NO_PI)
	if err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err == nil && flags&unix.IFF_VNET_HDR != 0 {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("attach to %s: %w", name, err)
	}
	return fd, nil
}

// Reader returns what reads packets from fd into b: read(2) that blocks a thread or, with poll, the runtime's poller,
// under which a goroutine waits without one.
func Reader(fd int, poll bool) (read func(b []byte) (int, error), err error) {
	if poll {
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), "tun").Read, nil
	}
	return func(b []byte) (int, error) {
		for {
			n, err := unix.Read(fd, b)
			if err != unix.EINTR {
				return n, err
			}
		}
	}, nil
}
