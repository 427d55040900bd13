// Package netns gives a test a network of its own: the kernel as peer, with nothing of this machine in reach.
package netns
