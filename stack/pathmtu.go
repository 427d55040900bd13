package stack

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed87e66d9f/waybill/internal/pathmtu"
	"github.com/seed87e66d9f/waybill/tcp"
)

// paths are the MTUs of paths that carry less than their first link does, as routers have said.
type paths struct {
	known      atomic.Bool   // any is: else nobody need take the lock
	generation atomic.Uint32 // counts changes, for connections to see that there was one
	// sent has hashes of the addresses of long datagrams from unconnected sockets: who lately was sent what. 2 KB.
	sent [256]atomic.Uint64

	mu    sync.RWMutex
	cache pathmtu.Cache
	alarm alarm
}

func (p *paths) init(s *Stack) { p.alarm = alarm{stack: s, fire: s.forgetPaths} }

// pathTo is what is known of the path to dst.
func (s *Stack) pathTo(dst netip.Addr) pathmtu.Path {
	p := &s.paths
	if !p.known.Load() {
		return pathmtu.Path{}
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.cache.To(s.now(), dst)
}

// mtu is the longest IP packet that reaches dst over h, as far as is known.
func (s *Stack) mtu(h *hop, dst netip.Addr) int {
	mtu := h.ifc.mtu(dst)
	if p := s.pathTo(dst); p.MTU != 0 && !h.ifc.loopback {
		mtu = min(mtu, p.MTU)
	}
	return mtu
}

// PathMTU is the longest IP packet that reaches dst, in octets, as far as is known: what its first link carries, or what
// routers have said in the last ten minutes. The error is that of a route, such as ENETUNREACH.
func (s *Stack) PathMTU(dst netip.Addr) (int, error) {
	_, to, _, h, err := s.path(netip.Addr{}, dst)
	if err != nil {
		return 0, err
	}
	return s.mtu(h, to), nil
}

// learn takes over what a router said of the path to dst. Connections see it before they next send.
func (s *Stack) learn(now time.Duration, dst netip.Addr, path pathmtu.Path) {
	p := &s.paths
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.closed.Load() || !p.cache.Learn(now, dst, path) {
		return
	}
	p.known.Store(true)
	p.generation.Add(1)
	if at, ok := p.cache.Deadline(); ok {
		p.alarm.set(at)
	}
}

// forgetPaths has longer packets tried again. RFC 1191 §6.3: "an implementation should "age" cached values."
func (s *Stack) forgetPaths(now time.Duration) {
	p := &s.paths
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alarm.fired() {
		return
	}
	if p.cache.Expire(now) {
		p.generation.Add(1)
	}
	p.known.Store(p.cache.Len() > 0)
	if at, ok := p.cache.Deadline(); ok {
		p.alarm.set(at)
	}
}

func (p *paths) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.alarm.stop()
}

// note remembers that a long datagram of an unconnected socket went there, which a router may complain about.
func (p *paths) note(s *Stack, local, remote netip.AddrPort) {
	h := s.hash(&tcp.Flow{Local: local.Addr().As16(), Remote: remote.Addr().As16(), LocalPort: local.Port(), RemotePort: remote.Port()})
	p.sent[h%uint64(len(p.sent))].Store(h)
}

// hasSent reports whether a datagram that note was told of went there, not too many ago.
func (p *paths) hasSent(s *Stack, local, remote netip.AddrPort) bool {
	h := s.hash(&tcp.Flow{Local: local.Addr().As16(), Remote: remote.Addr().As16(), LocalPort: local.Port(), RemotePort: remote.Port()})
	return p.sent[h%uint64(len(p.sent))].Load() == h
}

// refit is called before c sends, when what is known of some path has changed since it last did.
func (c *TCPConn) refit(now time.Duration) {
	c.paths = uint16(c.stack.paths.generation.Load())
	if c.gone || c.tcb.State() == tcp.Closed {
		return
	}
	if h, ok := c.stack.view.Load().route(c.localAddr(), c.remoteAddr(), c.flow.Zone); ok {
		c.fit(now, h.ifc)
	}
}

// fit gives the segments of c a size that the link of i carries, and what follows it.
func (c *TCPConn) fit(now time.Duration, i *Interface) {
	dst := c.remoteAddr()
	to := i.live.Load().config(dst.Is6())
	mtu, text := to.MTU, to.MaxText
	path := c.stack.pathTo(dst)
	c.narrow = path.Narrow && !i.loopback
	if path.MTU != 0 && !i.loopback {
		mtu = min(mtu, path.MTU-ipHeader(dst))
	}
	if c.narrow { // each packet has an identification of its own
		text = 0
	}
	c.tcb.SetMTU(c.clock(now), mtu, text)
}

// uncut is what the IPv4 header says of a whole packet that routers have to cut, as the path carries less than any should.
func (s *Stack) uncut(m *meta) cut {
	if m.src.Is4() {
		return cut{is: true, id: s.ids.next(&s.secret, m)}
	}
	return cut{}
}

// yield lets routers cut a packet where the path carries less than any should.
func (s *Stack) yield(m *meta, h *hop) {
	if s.pathTo(m.dst).Narrow && !h.ifc.loopback {
		m.cut = s.uncut(m)
	}
}

// minPath is the least MTU that a path to a may have as far as we go along with it.
func minPath(a netip.Addr) int {
	if a.Is4() {
		return pathmtu.MinIPv4
	}
	return pathmtu.MinIPv6
}
