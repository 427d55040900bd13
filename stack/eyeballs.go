package stack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"
)

// attemptDelay is how long one address of a name has before the next is tried as well. RFC 8305 §5: "One
// recommended value for a default delay is 250 milliseconds."
const attemptDelay = 250 * time.Millisecond

// interleave orders the addresses of a name for trying, RFC 8305 §4: as RFC 6724 has them, but the families in turn, so that
// a family that does not work costs one delay and not as many as it has addresses.
func (s *Stack) interleave(addrs []netip.AddrPort) {
	s.order(addrs)
	var first, second []netip.AddrPort
	for _, a := range addrs {
		if a.Addr().Is4() == addrs[0].Addr().Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	both := min(len(first), len(second))
	for k := range both {
		addrs[2*k], addrs[2*k+1] = first[k], second[k]
	}
	copy(addrs[2*both:], slices.Concat(first[both:], second[both:]))
}

// resolutionDelay is how long the IPv6 addresses of a name are waited for when its IPv4 addresses have come. RFC 8305 §3: "The
// recommended value for the Resolution Delay is 50 milliseconds."
const resolutionDelay = 50 * time.Millisecond

// answer is what DNS says of a name in one family.
type answer struct {
	addrs []netip.AddrPort
	err   error
	six   bool
}

// dialName connects over TCP to an address of either family. A name is asked for in both families at once, and
// begun with when the first answer is there, as RFC 8305 §3 has it: a server that never says whether there is IPv6
// costs resolutionDelay and no more.
func (s *Stack) dialName(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: contextError(err)}
	}
	host, _, err := net.SplitHostPort(address)
	if _, literal := netip.ParseAddr(host); err != nil || literal == nil || host == "" || host == "localhost" || len(s.complete(host)) > 1 {
		targets, err := s.resolveAddress(ctx, network, address, family{true, true})
		switch {
		case err != nil:
			return fail(err)
		case len(targets) > 1:
			return s.race(ctx, network, targets, nil)
		}
		return s.dialOne(ctx, network, true, targets[0])
	}
	answers := make(chan answer, 2)
	for _, f := range []family{{v6: true}, {v4: true}} {
		go func() {
			addrs, err := s.resolveAddress(ctx, network, address, f)
			answers <- answer{addrs, err, f.v6}
		}()
	}
	first := <-answers
	if first.err == nil && first.six {
		return s.race(ctx, network, first.addrs, answers)
	}
	timer := time.NewTimer(resolutionDelay)
	defer timer.Stop()
	if first.err != nil {
		timer.Stop() // the other family is all that there can be
	}
	select {
	case second := <-answers:
		targets := append(first.addrs, second.addrs...)
		if len(targets) == 0 {
			if dns := (*net.DNSError)(nil); errors.As(first.err, &dns) && dns.IsNotFound {
				first = second // which may have a graver reason
			}
			return fail(first.err)
		}
		s.interleave(targets)
		return s.race(ctx, network, targets, nil)
	case <-timer.C:
		return s.race(ctx, network, first.addrs, answers)
	}
}

// attempt is how one of several addresses has turned out.
type attempt struct {
	n    int
	conn net.Conn
	err  error
}

// race connects to the first of the addresses that answers (RFC 8305 §5): each has attemptDelay before the next is tried
// besides, and one that fails makes way at once. The addresses of another answer, if more is not nil, join those that are not
// tried yet. Where all fail, the error is that of the first, as in package net.
func (s *Stack) race(ctx context.Context, network string, targets []netip.AddrPort, more <-chan answer) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan attempt)
	var first error // of targets[0]
	timer := time.NewTimer(0)
	defer timer.Stop()
	begun, over := 0, 0
	for over < len(targets) || more != nil {
		select {
		case <-timer.C:
			if begun == len(targets) { // more are still to come
				continue
			}
			n, target := begun, targets[begun]
			begun++
			go func() {
				c, err := s.dialOne(ctx, network, true, target)
				outcomes <- attempt{n, c, err}
			}()
			timer.Reset(attemptDelay)
		case a := <-more:
			more = nil
			rest := slices.Concat(targets[begun:], a.addrs)
			if len(a.addrs) > 0 {
				s.interleave(rest)
			}
			targets = slices.Concat(targets[:begun], rest)
			if over == begun {
				timer.Reset(0)
			} else {
				timer.Reset(attemptDelay)
			}
		case o := <-outcomes:
			over++
			if o.err == nil {
				cancel()
				go abandon(outcomes, begun-over)
				return o.conn, nil
			}
			if o.n == 0 {
				first = o.err
			}
			if ctx.Err() != nil && over == begun {
				return nil, first
			}
			timer.Reset(0)
		}
	}
	return nil, first
}

// abandon ends the attempts that came too late.
func abandon(outcomes <-chan attempt, n int) {
	for range n {
		if o := <-outcomes; o.conn != nil {
			o.conn.Close()
		}
	}
}
