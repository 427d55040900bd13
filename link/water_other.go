//go:build !linux && !darwin && !windows

package link

import "github.com/songgao/water"

// waterConfig is c in water's terms, on a system where water opens nothing.
func waterConfig(c *TUNConfig) water.Config {
	w := water.Config{DeviceType: water.TUN}
	if c.TAP {
		w.DeviceType = water.TAP
	}
	return w
}
