//go:build !linux

package host

import (
	"errors"
	"fmt"
)

// handOver is for Linux's service managers.
func (n *Network) handOver() error {
	return fmt.Errorf("-store: %w", errors.ErrUnsupported)
}
