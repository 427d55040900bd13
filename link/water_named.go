//go:build linux || darwin

package link

import "github.com/songgao/water"

// waterConfig is c in water's terms.
func waterConfig(c *TUNConfig) water.Config {
	w := water.Config{DeviceType: water.TUN}
	if c.TAP {
		w.DeviceType = water.TAP
	}
	w.Name = c.Name
	return w
}
