package stack

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/internal/pace"
	"github.com/seed87e66d9f/waybill/ipv4"
	"github.com/seed87e66d9f/waybill/ipv6"
)

// Bounds on the errors that we send (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)), to all hosts together: Linux's icmp_msgs_per_sec
// and _burst.
const (
	errorRate  = 1000
	errorBurst = 50
)

// Bounds on those that one host is sent: Linux's icmp_ratelimit, and XRLIM_BURST_FACTOR.
const (
	hostErrorRate  = 1
	hostErrorBurst = 6
)

var (
	allErrors  = pace.New(errorRate, time.Second, errorBurst)
	hostErrors = pace.New(hostErrorRate, time.Second, hostErrorBurst)
)

// maxErrorHosts bounds the hosts that are counted each for itself. Whoever forges the addresses of more meets the bound for all.
const maxErrorHosts = 1024

// rateLimit bounds the errors that we send: to each host, so that none uses up what others may need, and in all.
type rateLimit struct {
	sync.Mutex
	paid  time.Duration                // when those to all are
	hosts map[netip.Addr]time.Duration // when those to each are: an IPv6 host is its /64, of which it can have all addresses
}

// allow reports whether an error may go to a host. Of what all share it takes one token on average, but sometimes none or two:
// it would else tell a stranger, by what is left, whether an error went to an address that he forged, and so ports are found
// (CVE-2020-25705). What a host is sent, it knows anyway.
func (r *rateLimit) allow(now time.Duration, to netip.Addr, random uint64) bool {
	if to.Is6() {
		p, _ := to.Prefix(64)
		to = p.Addr()
	}
	r.Lock()
	defer r.Unlock()
	paid, known := r.hosts[to]
	if !hostErrors.Take(now, &paid) {
		return false
	}
	if r.hosts == nil {
		r.hosts = map[netip.Addr]time.Duration{}
	}
	if !known && len(r.hosts) >= maxErrorHosts {
		for a := range r.hosts { // any
			delete(r.hosts, a)
			break
		}
	}
	r.hosts[to] = paid
	if !allErrors.Allows(now, r.paid) {
		return false
	}
	r.paid = allErrors.After(now, r.paid, int(random%3))
	return true
}

// mayComplain reports whether a host may be sent an error now. There is no bound on what we tell ourselves, as on Linux.
func (i *Interface) mayComplain(now time.Duration, to netip.Addr) bool {
	return i.loopback || i.stack.limit.allow(now, to, i.stack.secret.random())
}

// refuse4 sends an Unreachable about m, unless RFC 1122 §3.2.2 forbids it: "An ICMP error message MUST NOT be sent as the
// result of receiving" an error, a broadcast or multicast, a fragment but the first, or a datagram from no single host.
func (i *Interface) refuse4(now time.Duration, m *datagram, code uint8) {
	i.error4(now, m, &ipv4.ICMP{Type: ipv4.Unreachable, Code: code})
}

// error4 sends an error about m, under the same conditions.
func (i *Interface) error4(now time.Duration, m *datagram, msg *ipv4.ICMP) {
	if m.group || !i.mayComplain(now, m.src) {
		i.stack.stats.drop(ICMPLimited)
		return
	}
	msg.Body = m.packet[:min(len(m.packet), ipv4Quote)]
	i.stack.stats.icmpErrorsOut.Add(1)
	i.sendICMP4(now, i.errorSource(m), m.src, msg)
}

// ipv4Quote: RFC 1812 §4.3.2.3 has the error "contain as much of the original datagram as possible without the length of
// the ICMP datagram exceeding 576 bytes".
const ipv4Quote = 576 - ipv4.MinHeaderLen - ipv4.ICMPLen

// ipv6Quote: RFC 4443 §3, "as much of invoking packet as possible without the ICMPv6 packet exceeding the minimum IPv6 MTU".
const ipv6Quote = ipv6.MinMTU - ipv6.HeaderLen - ipv6.ICMPLen

// problem6 sends the Parameter Problem that err asks for.
func (i *Interface) problem6(now time.Duration, m *datagram, err error) {
	var p *ipv6.Problem
	if errors.As(err, &p) && !p.Silent && (!m.group || p.Multicast) {
		i.refuse6(now, m, &ipv6.ICMP{Type: ipv6.ParamProblem, Code: p.Code, Rest: p.Octet()})
	}
}

// refuse6 sends an error about m (RFC 4443 §2.4).
func (i *Interface) refuse6(now time.Duration, m *datagram, msg *ipv6.ICMP) {
	src := i.errorSource(m)
	if m.src.IsUnspecified() || !src.IsValid() || !i.mayComplain(now, m.src) {
		i.stack.stats.drop(ICMPLimited)
		return
	}
	msg.Body = m.packet[:min(len(m.packet), ipv6Quote)]
	i.stack.stats.icmpErrorsOut.Add(1)
	i.sendICMP6(now, src, m.src, msg, 0)
}
