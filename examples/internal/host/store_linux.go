package host

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/seed87e66d9f/waybill/link"
)

// handOver opens the device, sets up the kernel's side of it, and hands its descriptor to the service manager, which keeps
// it and gives it to the program that serves (sd_notify(3), FDSTORE=1). So that program needs no rights.
func (n *Network) handOver() error {
	_, theirs, err := n.prefixes()
	if err != nil {
		return err
	}
	name, flags := n.tun, uint16(unix.IFF_TUN|unix.IFF_NO_PI|unix.IFF_VNET_HDR)
	if n.tap != "" {
		name, flags = n.tap, unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("interface name %q: %w", name, err)
	}
	request.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fmt.Errorf("attach to interface %q: %w", name, err)
	}
	if err := link.ConfigureHost(request.Name(), theirs, 0); err != nil {
		return err
	}
	manager := os.Getenv("NOTIFY_SOCKET")
	if manager == "" {
		return errors.New("-store: there is no service manager: NOTIFY_SOCKET is not set")
	}
	// Not through package net, which sends no descriptor over a connected socket of datagrams.
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer unix.Close(socket)
	message := "FDSTORE=1\nFDNAME=" + request.Name()
	if err := unix.Sendmsg(socket, []byte(message), unix.UnixRights(fd), &unix.SockaddrUnix{Name: manager}, 0); err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	return nil
}
