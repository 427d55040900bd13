package stack

import (
	"iter"
	"net/netip"

	"github.com/seed87e66d9f/waybill/tcp"
)

// ConnInfo is a line of what ss(8) shows: one socket.
type ConnInfo struct {
	Network       string // "tcp", "udp", or ICMP's, such as "ip4:icmp"
	Local, Remote netip.AddrPort
	State         tcp.State // of a TCP socket
	Queue         int       // of a listener: connections that wait for Accept
	Info          tcp.Info  // of a TCP connection
}

// Conns lists all sockets: listeners, half-open and open connections, those in TIME-WAIT, UDP and ICMP. Each line is a copy,
// and nothing is locked while the caller looks at one, so the lines are not all of one instant.
func (s *Stack) Conns() iter.Seq[ConnInfo] {
	return func(yield func(ConnInfo) bool) {
		for _, l := range s.ports.listeners() {
			for _, c := range l.infos() {
				if !yield(c) {
					return
				}
			}
		}
		for c := range s.each() {
			if !yield(c.info()) {
				return
			}
		}
		for _, c := range s.timeWaits() {
			if !yield(c) {
				return
			}
		}
		for _, u := range s.ports.udpConns() {
			if !yield(ConnInfo{Network: "udp", Local: s.boundAddr(&u.bind), Remote: u.peer}) {
				return
			}
		}
		for _, c := range s.ports.icmpConns() {
			if !yield(ConnInfo{Network: c.u.net, Local: s.boundAddr(&c.u.bind), Remote: c.u.peer}) {
				return
			}
		}
	}
}

func (c *TCPConn) info() ConnInfo {
	i := c.Info()
	return ConnInfo{Network: "tcp", Local: c.local(), Remote: c.remote(), State: i.State, Info: i}
}

// infos is the listener, and the connections that it has half open.
func (l *TCPListener) infos() []ConnInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := []ConnInfo{{Network: "tcp", Local: l.stack.boundAddr(&l.bind), State: tcp.Listen, Queue: len(l.queue)}}
	for f, st := range l.half.All() {
		all = append(all, ConnInfo{Network: "tcp", Local: l.stack.zoned(f.Local, f.LocalPort, f.Zone),
			Remote: l.stack.zoned(f.Remote, f.RemotePort, f.Zone), State: st})
	}
	return all
}

func (s *Stack) timeWaits() []ConnInfo {
	now := s.now()
	var all []ConnInfo
	for i := range s.shards {
		h := &s.shards[i]
		h.mu.Lock()
		for f, w := range h.waits {
			if now < w.Deadline() {
				all = append(all, ConnInfo{Network: "tcp", Local: s.zoned(f.Local, f.LocalPort, f.Zone),
					Remote: s.zoned(f.Remote, f.RemotePort, f.Zone), State: tcp.TimeWait})
			}
		}
		h.mu.Unlock()
	}
	return all
}
