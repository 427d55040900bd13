//go:build race

package stack

// underRace says that the race detector makes everything slower, so that tests take a part of the load.
const underRace = true
