// Package stack is a network host in a value: it composes the protocols of packages ethernet, ipv4, ipv6, udp and tcp
// over the devices of package link, and offers sockets that read like package net.
//
//	s := stack.New(stack.Config{})
//	defer s.Close()
//	s.Attach(device, netip.MustParsePrefix("198.51.100.2/24"))
//	l, err := s.Listen("tcp", ":80")
//	http.Serve(l, handler)
//
// It is the only package that locks, waits, reads the clock and talks to devices. input.go is the way of a received
// packet, top to bottom, and output.go that of a sent one. No connection has a goroutine: what arrives is dealt with by
// the goroutine that read it, and what is due by the timer of the connection's shard.
//
// Waiting is by sync.Cond, channels and package time, so that whole stacks run in a testing/synctest bubble.
package stack
