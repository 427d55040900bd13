//go:build !race

package stack

import (
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/seed87e66d9f/waybill/link"
	"github.com/seed87e66d9f/waybill/tcp"
)

// idleBudget is what an idle connection may cost in octets of heap at one end, with everything that hangs below it.
const idleBudget = 1024

// TestIdleConnectionHeap holds what an idle connection costs: one that has carried a request and an answer, and that
// nobody waits on.
func TestIdleConnectionHeap(t *testing.T) {
	const conns = 20_000
	t.Logf("TCPConn %d octets, of which the TCB's pointer leads to %d",
		unsafe.Sizeof(TCPConn{}), unsafe.Sizeof(tcp.TCB{}))
	families(t, func(t *testing.T, to netip.Prefix) {
		synctest.Test(t, func(t *testing.T) {
			client, server := pair(t, link.PipeConfig{Ethernet: true, MTU: 1400}, Config{})
			dial := dialer(t, client, server, to)
			exchange(t, dial, 100)             // the neighbours know each other, and every loop has run
			kept := make([][2]*TCPConn, conns) // what the test itself keeps is not counted
			before, goroutines := heapInUse(), bubbled()
			for i := range kept {
				c, s := exchange(t, dial, 100)
				kept[i] = [2]*TCPConn{c, s}
			}
			time.Sleep(time.Second) // the delayed acknowledgements have gone
			synctest.Wait()
			each := (heapInUse() - before) / (2 * conns)
			t.Logf("%d octets of heap at each end of an idle connection, over %d connections", each, conns)
			if each > idleBudget {
				t.Errorf("%d octets of heap at each end of an idle connection, want at most %d", each, idleBudget)
			}
			if n := bubbled(); n != goroutines {
				t.Errorf("%d goroutines with %d idle connections, and %d with one", n, conns, goroutines)
			}
			for _, s := range []*Stack{client, server} {
				if st := s.Stats(); st.Conns != conns+1 || st.Memory != 0 {
					t.Errorf("%d connections that hold %d octets of chunks, want %d and none", st.Conns, st.Memory, conns+1)
				}
			}
			runtime.KeepAlive(kept)
		})
	})
}
