package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestNotify: a service manager is told when the example listens, and when it was told to end, in this order.
func TestNotify(t *testing.T) {
	for name, address := range map[string]string{
		"path":     filepath.Join(t.TempDir(), "notify"),
		"abstract": fmt.Sprintf("@waybill-test-%d", os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer socket.Close()
			t.Setenv("NOTIFY_SOCKET", address)
			listens := make(chan struct{})
			ended, stop := start(t, "", func(ctx context.Context, h *Host) error {
				if _, err := h.Listen("tcp", ":7"); err != nil {
					return err
				}
				close(listens)
				if err := h.Ready(); err != nil {
					return err
				}
				<-ctx.Done()
				return nil
			})
			expect(t, socket, "READY=1")
			select {
			case <-listens:
			default:
				t.Error("READY=1 came before it listens")
			}
			stop()
			expect(t, socket, "STOPPING=1")
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// expect reads what is said next.
func expect(t *testing.T, socket *net.UnixConn, want string) {
	t.Helper()
	socket.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 1000)
	n, err := socket.Read(b)
	if got := string(b[:n]); got != want {
		t.Errorf("the service manager is told %q, %v; want %q", got, err, want)
	}
}

// TestNotifyNobody: a manager that is not there is an error, for it would wait for us.
func TestNotifyNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "notify"))
	ended, _ := start(t, "", func(ctx context.Context, h *Host) error { return h.Ready() })
	if err := <-ended; !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Ready: %v, want that the socket does not exist", err)
	}
}
