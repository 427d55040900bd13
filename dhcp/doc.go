// Package dhcp configures the IPv4 side of a stack's interface from the network (RFC 2131), and serves such configurations to
// others, both over the stack's own sockets.
//
// A Client finds an address, makes sure that nobody else has it, sets routes, name servers and MTU with it, and keeps all that
// up to date for as long as its Run runs:
//
//	i, err := s.Attach(device)
//	c := dhcp.Client{Stack: s, Interface: i}
//	go c.Run(ctx)
//
// A Server is a small one for the networks that a program makes itself.
//
// It is a module of its own, since it reads and writes messages with github.com/insomniacslk/dhcp.
package dhcp
