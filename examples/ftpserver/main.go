// Command ftpserver serves a directory by FTP (RFC 959) over a TCP/IP stack of its own: active and passive, IPv4 and IPv6.
//
//	go run ./examples/ftpserver                            in memory; curl ftp://127.0.0.1:2121/
//	sudo go run ./examples/ftpserver -tap wb0 -dir /srv    behind a TAP device; curl ftp://198.51.100.2/
//
// It knows no users and no secrets: whoever reaches it reads, and with -write writes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
)

func main() {
	try := func(at netip.AddrPort) string {
		return "curl -g 'ftp://" + strings.TrimSuffix(at.String(), ":21") + "/'"
	}
	network := host.Register(flag.CommandLine,
		host.Port{Port: 21, Kernel: "127.0.0.1:2121", Flag: "listen", Try: try},
		host.Port{Port: passivePort, Count: passiveCount, Kernel: fmt.Sprintf("127.0.0.1:%d", passivePort)})
	dir := flag.String("dir", "", "serve this `directory`; without, one that is new, writable, and gone at the end")
	write := flag.Bool("write", false, "let everybody store and delete in -dir")
	flag.Parse()
	network.Main(func(ctx context.Context, h *host.Host) error {
		if *dir != "" {
			return serve(ctx, h, *dir, *write)
		}
		temp, err := os.MkdirTemp("", "ftpserver")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		return serve(ctx, h, temp, true)
	})
}

// serve answers clients until ctx ends, and lets transfers that are under way finish until h.Grace ends.
func serve(ctx context.Context, h *host.Host, dir string, write bool) error {
	root, err := os.OpenRoot(dir) // nothing outside of it is reached, not by ".." and not by a symbolic link
	if err != nil {
		return err
	}
	defer root.Close()
	listener, err := h.Listen("tcp", ":21")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	if err := h.Ready(); err != nil {
		return err
	}
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		control, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		sessions.Go(func() {
			defer control.Close()
			defer context.AfterFunc(ctx, func() { control.SetReadDeadline(time.Now()) })() // no more commands
			defer context.AfterFunc(h.Grace, func() { control.Close() })()
			(&session{ctx: ctx, host: h, root: root, write: write, control: control, dir: "/"}).run()
		})
	}
}
