//go:build !linux

package link

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
)

// OpenTUN needs Linux. Elsewhere it returns an error that is [errors.ErrUnsupported]; see OpenWater.
func OpenTUN(c TUNConfig) (Device, error) {
	return nil, fmt.Errorf("link: OpenTUN on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// ConfigureHost needs Linux. Elsewhere it returns an error that is [errors.ErrUnsupported].
func ConfigureHost(name string, addrs []netip.Prefix, mtu int) error {
	return fmt.Errorf("link: ConfigureHost on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// setMTU needs Linux as well.
func setMTU(string, int) error { return errors.ErrUnsupported }
