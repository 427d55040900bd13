package stack

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// TestBBROverStack: with BBR, over a wire that loses 1 %, what is sent is what arrives; the wheel drives the pacing, with
// no goroutine of the connection's own.
func TestBBROverStack(t *testing.T) {
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			c := Config{TCP: tcp.Config{Congestion: tcp.NewBBR}}
			client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1500, Delay: 10 * time.Millisecond, Loss: 0.01, Seed: 1}, c)
			a, b := connected(t, client, server, to)
			text := make([]byte, 4<<20)
			rand.NewChaCha8([32]byte{2}).Read(text)
			go func() {
				a.Write(text)
				a.CloseWrite()
			}()
			began := time.Now()
			got, err := io.ReadAll(b)
			if err != nil || !bytes.Equal(got, text) {
				t.Fatalf("%d octets arrived (%v), want the %d that were sent", len(got), err, len(text))
			}
			i := a.Info()
			if i.Congestion != "bbr" || i.PacingRate == 0 {
				t.Errorf("the algorithm is %q, pacing %d octets a second", i.Congestion, i.PacingRate)
			}
			t.Logf("%v, %d segments again, in %s", time.Since(began), i.Retransmits, i.Phase)
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("4 MB over 20 ms took %v", took)
			}
		})
	})
}
