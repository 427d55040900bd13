package stack

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/seed87e66d9f/waybill/link"
)

// TestReadFromBehindWrite: what Write has left in the buffer makes the chunks of ReadFrom end anywhere in it. Where one
// found too little room though there was some, nobody would wake it.
func TestReadFromBehindWrite(t *testing.T) {
	text := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(text)
	families(t, func(t *testing.T, to netip.Prefix) {
		for _, n := range []int{1, 1000, 1 << 16, 100_000} {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, link.PipeConfig{MTU: 1400}, Config{WriteBuffer: 1 << 17})
				c, s := connected(t, client, server, to)
				go func() {
					c.Write(text[:n])
					if sent, err := c.ReadFrom(bytes.NewReader(text[n:])); sent != int64(len(text)-n) || err != nil {
						t.Errorf("ReadFrom behind %d octets: %d, %v; want %d", n, sent, err, len(text)-n)
					}
					c.Close()
				}()
				if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, text) {
					t.Errorf("behind %d octets: %d octets arrived, %v; want the %d sent", n, len(got), err, len(text))
				}
				s.Close()
				client.Close()
				server.Close()
			})
		}
	})
}
