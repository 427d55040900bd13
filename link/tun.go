package link

import (
	"fmt"
	"syscall"
)

// TUNConfig says which device OpenTUN and OpenWater open. The zero value is a new TUN device with one queue, named by
// the kernel.
type TUNConfig struct {
	// Name is the interface's name: of one that exists and is not in use, or of a new one, which goes when the
	// device is closed. Up to 15 bytes; on Linux, %d in it stands for the first free number. Empty: the system's choice.
	Name string
	// TAP asks for a device that carries Ethernet frames, instead of IP packets.
	TAP bool
	// Queues is how many queues to open; 0 means 1. OpenTUN only.
	Queues int
	// MTU sets the interface's MTU, in bytes of IP packet; 0 leaves it alone.
	MTU int
	// FD, if not 0, is an open descriptor of a TUN or TAP device, from a service manager or from a parent
	// process, that OpenTUN adopts instead of opening one; TAP is then read from it, Name and Queues are not used.
	// It belongs to the device once OpenTUN succeeds, and stays the caller's if it does not.
	FD int
	// NoOffload opens the device for single packets with complete checksums, as a host without offloads sees
	// them. OpenTUN only.
	NoOffload bool
}

const (
	// maxName is the length of an interface name without the terminating zero (IFNAMSIZ of <net/if.h>, 16).
	maxName = 15
	// minMTU is the smallest MTU of a link that carries IPv4: RFC 791 §3.2: "Every internet module must be able to
	// forward a datagram of 68 octets without further fragmentation."
	minMTU = 68
	// maxQueues is how many queues Linux gives a TUN device (MAX_TAP_QUEUES of drivers/net/tun.c).
	maxQueues = 256
)

// check finds what no system would accept, or what some would accept and change.
func (c *TUNConfig) check() error {
	if len(c.Name) > maxName {
		return fmt.Errorf("link: interface name %q is longer than %d bytes: %w", c.Name, maxName, syscall.EINVAL)
	}
	for i := range len(c.Name) {
		if b := c.Name[i]; b <= ' ' || b == '/' || b == ':' {
			return fmt.Errorf("link: interface name %q contains %q: %w", c.Name, b, syscall.EINVAL)
		}
	}
	if c.MTU != 0 && (c.MTU < minMTU || c.MTU > maxPacket) {
		return fmt.Errorf("link: MTU %d is not between %d and %d: %w", c.MTU, minMTU, maxPacket, syscall.EINVAL)
	}
	if c.Queues < 0 || c.Queues > maxQueues {
		return fmt.Errorf("link: %d queues are not between 1 and %d: %w", c.Queues, maxQueues, syscall.EINVAL)
	}
	return nil
}
