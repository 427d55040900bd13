// Package splice carries what two connections say to each other, and how they end:
//
//	result, err := splice.Splice(ctx, in, out, splice.Config{Idle: 10 * time.Minute})
//
// It is what a proxy does with the two connections that it holds, and takes any net.Conn: this module's, package net's,
// crypto/tls's, net.Pipe's.
//
// One rule decides what a peer sees: it sees the end of the stream only where the other peer has ended it. A FIN is
// carried on as a FIN behind all octets, and the other direction goes on. Anything else that ends a connection (a reset,
// an error, a timeout, a context, a Close by somebody else) is carried on as a reset, so that nobody takes half of a
// stream for all of it.
package splice
