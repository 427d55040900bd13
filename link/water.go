package link

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"syscall"

	"github.com/songgao/water"
)

// OpenWater opens a TUN or TAP device through github.com/songgao/water: on Linux, on macOS (TUN, and no name but
// utun and a number), and on Windows (with OpenVPN's TAP driver, where Name is the adapter's). It has one queue, one
// packet a call, and no offloads; on Linux, OpenTUN is the fast way.
//
// c.MTU is set on the interface on Linux, and elsewhere only believed. Errors wrap the system's; where water has no
// driver, or it cannot do what c asks, the error is [errors.ErrUnsupported]. Parameters that only water knows are to be
// had by Wrap(water.New(…)).
//
// One thing to know of water on Linux: when the interface cannot be attached to, it does not close the descriptor of
// /dev/net/tun that it opened for it.
func OpenWater(c TUNConfig) (Device, error) {
	if err := c.check(); err != nil { // water would cut a long name off, and say nothing
		return nil, err
	}
	switch runtime.GOOS {
	case "linux", "darwin", "windows":
	default:
		return nil, fmt.Errorf("link: OpenWater on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	if c.Queues > 1 || c.FD != 0 {
		return nil, fmt.Errorf("link: OpenWater with several queues or a descriptor: %w", errors.ErrUnsupported)
	}
	i, err := water.New(waterConfig(&c))
	if err != nil {
		return nil, fmt.Errorf("link: open interface %q: %w", c.Name, err)
	}
	caps := Caps{Name: i.Name(), Ethernet: i.IsTAP(), MTU: c.MTU, Polled: runtime.GOOS == "linux"}
	if caps.MTU, err = waterMTU(caps.Name, c.MTU); err != nil {
		i.Close()
		return nil, err
	}
	return Wrap(waterReader(waterFile{i.ReadWriteCloser}), caps), nil
}

// waterMTU returns the MTU of the interface called name, after setting it where that can be done.
func waterMTU(name string, mtu int) (int, error) {
	if mtu != 0 {
		if err := setMTU(name, mtu); !errors.Is(err, errors.ErrUnsupported) {
			return mtu, err
		}
		return mtu, nil
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("link: read the MTU of %q: %w", name, err)
	}
	return i.MTU, nil
}

// A waterFile is water's interface, but that it drops what is written while the interface is down, which Linux
// reports as EIO.
type waterFile struct{ io.ReadWriteCloser }

func (f waterFile) Write(b []byte) (int, error) {
	n, err := f.ReadWriteCloser.Write(b)
	if err != nil && errors.Is(err, syscall.EIO) {
		return len(b), nil
	}
	return n, err
}
