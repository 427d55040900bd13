// Command sshserver is an SSH server on a TCP/IP stack of its own: commands, shells without a terminal, SFTP and scp, and
// port forwarding both ways. What clients run, and the files, are this machine's, and yours; what ssh -L connects to and
// where ssh -R listens is the stack's network. In memory, or behind a TAP device:
//
//	go run . -authorized ~/.ssh/authorized_keys               ssh -p 2222 127.0.0.1 uname -a
//	sudo go run . -authorized ~/.ssh/authorized_keys -tap wb0   ssh 198.51.100.2 uname -a
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/subtle"
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
	"golang.org/x/crypto/ssh"
)

func main() {
	try := func(at netip.AddrPort) string {
		return strings.Replace(fmt.Sprintf("ssh -p %d %v uname -a", at.Port(), at.Addr()), "-p 22 ", "", 1)
	}
	network := host.Register(flag.CommandLine, host.Port{Port: 22, Kernel: "127.0.0.1:2222", Flag: "listen", Try: try})
	key := flag.String("key", "", "the `file` of the host's private key, as ssh-keygen makes it; without, a new one every time")
	authorized := flag.String("authorized", "", "let in who has a key in this `file`, such as ~/.ssh/authorized_keys;\nwithout, who knows a password that is printed")
	flag.Parse()
	network.Main(func(ctx context.Context, h *host.Host) error {
		config, err := configure(*key, *authorized)
		if err != nil {
			return err
		}
		return serve(ctx, h, config)
	})
}

// configure says who we are and who is let in.
func configure(key, authorized string) (*ssh.ServerConfig, error) {
	c := &ssh.ServerConfig{}
	if authorized == "" {
		password := rand.Text()
		fmt.Println("the password, for any user:", password)
		c.PasswordCallback = func(_ ssh.ConnMetadata, p []byte) (*ssh.Permissions, error) {
			if subtle.ConstantTimeCompare(p, []byte(password)) != 1 {
				return nil, errors.New("another password")
			}
			return nil, nil
		}
	} else {
		rest, err := os.ReadFile(authorized)
		if err != nil {
			return nil, err
		}
		known := map[string]bool{}
		for err == nil {
			var k ssh.PublicKey
			if k, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err == nil {
				known[string(k.Marshal())] = true
			}
		}
		c.PublicKeyCallback = func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			if !known[string(k.Marshal())] {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		}
	}
	signer, err := signer(key)
	if err == nil {
		c.AddHostKey(signer)
	}
	return c, err
}

// signer reads the host's key, or makes one.
func signer(file string) (ssh.Signer, error) {
	if file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		return ssh.ParsePrivateKey(pem)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(key)
}

// serve answers clients until ctx ends. Who is logged in may stay until h.Grace ends.
func serve(ctx context.Context, h *host.Host, config *ssh.ServerConfig) error {
	listener, err := h.Listen("tcp", ":22")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	if err := h.Ready(); err != nil {
		return err
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
		clients.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(h.Grace, func() { conn.Close() })()
			conn.SetDeadline(time.Now().Add(time.Minute)) // to log in
			c, channels, requests, err := ssh.NewServerConn(conn, config)
			if err == nil {
				conn.SetDeadline(time.Time{})
				(&client{host: h, conn: c}).run(channels, requests)
			}
		})
	}
}
