package tcp

// Flow names a connection: both sockets (RFC 9293 §3.3.1) and, where addresses are link-local, the interface.
// It has 40 octets and no pointer, so it is a map's key as it stands. This package only compares and hashes it.
type Flow struct {
	Local, Remote         [16]byte // an IPv4 address stands as ::ffff:a.b.c.d
	LocalPort, RemotePort uint16
	Zone                  uint32 // the interface's index for link-local addresses, else 0
}
