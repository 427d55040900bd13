// Package waybill names a TCP/IP stack for Go that runs inside a program, without the kernel's: IPv4, IPv6, UDP and TCP as
// a library. There is nothing in this package itself. Start with package stack, which dials, listens and reads like
// package net; package link is what packets travel over, a TUN or TAP device, a tunnel of one's own, or a wire in memory;
// and package tcp is the protocol as a value, which can be read next to RFC 9293, tested and simulated without either.
package waybill
