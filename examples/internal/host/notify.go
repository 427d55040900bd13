package host

import (
	"fmt"
	"net"
	"os"
)

// notify tells the service manager how far the program is, as sd_notify(3) does: a datagram to the socket that
// NOTIFY_SOCKET names, a path, or an abstract name that begins with "@". Without a manager it does nothing.
func notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	defer c.Close()
	_, err = c.Write([]byte(state))
	return err
}
