//go:build !linux

package bell

import "errors"

// line is not to be had.
type line struct{}

func (*line) open(func() bool) error { return errors.ErrUnsupported }
func (*line) ring()                  {}
func (*line) wait()                  {}
func (*line) close()                 {}
