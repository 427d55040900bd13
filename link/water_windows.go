package link

import "github.com/songgao/water"

// waterConfig is c in water's terms; the driver stays the one that water takes by itself, OpenVPN's.
func waterConfig(c *TUNConfig) water.Config {
	w := water.Config{DeviceType: water.TUN}
	if c.TAP {
		w.DeviceType = water.TAP
	}
	if c.Name != "" {
		w.ComponentID = "tap0901" // water's defaults, which it takes only where no parameter is set
		w.Network = "192.168.1.10/24"
		w.InterfaceName = c.Name
	}
	return w
}
