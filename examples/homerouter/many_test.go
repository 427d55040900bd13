package main

import (
	"fmt"
	"io"
	"net"
	"time"
)

// roleEnv has the test's program be one end of many connections: "server ADDR" or "client ADDR".
const roleEnv = "WAYBILL_HOMEROUTER_ROLE"

// manyConns is how many connections are open at once.
const manyConns = 10_000

// play is an end of many connections, each of which carries an octet and its echo while all others are open.
func play(role, addr string) error {
	if role == "server" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return err
		}
		fmt.Println("listens")
		for {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			go func() {
				var b [1]byte
				for {
					if _, err := c.Read(b[:]); err != nil {
						return
					}
					if _, err := c.Write(b[:]); err != nil {
						return
					}
				}
			}()
		}
	}
	conns := make([]net.Conn, 0, manyConns)
	for len(conns) < manyConns {
		c, err := net.DialTimeout("tcp", addr, time.Minute)
		if err != nil {
			return fmt.Errorf("after %d connections: %w", len(conns), err)
		}
		conns = append(conns, c)
	}
	for round := range 2 {
		for i, c := range conns {
			c.SetDeadline(time.Now().Add(time.Minute))
			b := []byte{byte(i + round)}
			if _, err := c.Write(b); err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
		}
		for i, c := range conns {
			var b [1]byte
			if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != byte(i+round) {
				return fmt.Errorf("connection %d: %d comes back, want %d; %w", i, b[0], byte(i+round), err)
			}
		}
	}
	fmt.Printf("%d connections carried two echoes each\n", len(conns))
	return nil
}
