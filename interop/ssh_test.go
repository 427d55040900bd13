package interop

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/stack"
	"golang.org/x/crypto/ssh"
)

// sshKeys are the keys of a server and of a client, as files that OpenSSH reads.
type sshKeys struct {
	host, user                 ssh.Signer
	hostFile, userFile         string
	knownHosts, authorizedKeys string
}

func newSSHKeys(t *testing.T) (k sshKeys) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := func(name string) (ssh.Signer, string) {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		block, err := ssh.MarshalPrivateKey(private, name)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return s, write(name, pem.EncodeToMemory(block))
	}
	k.host, k.hostFile = key("host")
	k.user, k.userFile = key("user")
	k.knownHosts = write("known_hosts", append([]byte("* "), ssh.MarshalAuthorizedKey(k.host.PublicKey())...))
	k.authorizedKeys = write("authorized_keys", ssh.MarshalAuthorizedKey(k.user.PublicKey()))
	return k
}

// openSSH is a command line of OpenSSH's programs up to the options, which know no more than the keys.
func (k sshKeys) openSSH(program string, options ...string) []string {
	c := []string{program, "-F", "none", "-i", k.userFile}
	for _, o := range append(options, "BatchMode=yes", "IdentitiesOnly=yes", "UserKnownHostsFile="+k.knownHosts, "StrictHostKeyChecking=yes") {
		c = append(c, "-o", o)
	}
	return c
}

// sshServer is the example on waybill.
func (k sshKeys) sshServer(t *testing.T, args ...string) {
	t.Helper()
	example(t, "sshserver", "22", append(args, "-key", k.hostFile, "-authorized", k.authorizedKeys)...)
}

// sshd is OpenSSH's server, of the kernel's.
func (k sshKeys) sshd(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("sshd") // it wants to be called by its whole path
	if err != nil {
		t.Fatal(err)
	}
	os.MkdirAll("/run/sshd", 0o755) // as the package's service does
	config := "Port 22\nHostKey " + k.hostFile + "\nAuthorizedKeysFile " + k.authorizedKeys + "\nStrictModes no\nUsePAM no\n" +
		"PermitRootLogin yes\nPidFile none\nGatewayPorts clientspecified\nSubsystem sftp internal-sftp\n"
	for _, f := range families {
		config += "ListenAddress " + f.theirs + "\n"
	}
	daemon(t, program, "-D", "-e", "-f", file(t, "sshd_config", []byte(config)))
	for _, f := range families {
		awaitPort(t, net.JoinHostPort(f.theirs, "22"))
	}
}

// dial is x/crypto's client, over waybill.
func (k sshKeys) dial(t *testing.T, s *stack.Stack, addr string) *ssh.Client {
	t.Helper()
	conn, err := s.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(k.user)}, HostKeyCallback: ssh.FixedHostKey(k.host.PublicKey()),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(c, channels, requests)
	t.Cleanup(func() { client.Close() })
	return client
}

// mirror is a server that sends back what it has received once it has all of it, which only a FIN tells, and what l
// listens with is its own affair.
func mirror(t *testing.T, l net.Listener) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if b, err := io.ReadAll(c); err == nil {
					c.Write(b)
				}
			}()
		}
	}()
}

// mirrored sends octets through a connection to a mirror, and wants them back.
func mirrored(t *testing.T, what string, c net.Conn, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience)) // not on an SSH channel, which has none
	sent, sum := octets(1<<20, 3)
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		if err == nil {
			err = c.(interface{ CloseWrite() error }).CloseWrite()
		}
		failed <- err
	}()
	got, err := io.ReadAll(c)
	if digest(got) != sum {
		t.Errorf("%s: %d octets came back of %d, or others; %v", what, len(got), len(sent), err)
	}
	if err := <-failed; err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// TestSSHRealClient: OpenSSH runs commands and a shell at a server on waybill, with input, output and exit status, and
// forwards ports through it both ways.
func TestSSHRealClient(t *testing.T) {
	t.Parallel()
	if !isolate(t, 5*time.Minute, "ssh") {
		return
	}
	k := newSSHKeys(t)
	k.sshServer(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			command := append(k.openSSH("ssh"), "root@"+f.ours)
			in, sum := octets(4<<20, 1)
			out, stderr, err := try(t, bytes.NewReader(in), append(command, "cat; echo aside >&2; exit 7")...)
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 7 || stderr != "aside\n" || digest([]byte(out)) != sum {
				t.Errorf("exec: %v, want exit status 7; %d octets of output, want the %d of input; standard error %q", err, len(out), len(in), stderr)
			}
			out, stderr, err = try(t, strings.NewReader("n=6\necho $((n*7))\nexit 3\n"), append(command[:len(command):len(command)], "-T")...)
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 3 || out != "42\n" {
				t.Errorf("shell: %v, want exit status 3; it says %q, want 42; %s", err, out, stderr)
			}

			mirror(t, kernelListen(t, f.theirs, "9001")) // that the server on waybill connects to
			mirror(t, kernelListen(t, "127.0.0.1", "9002"))
			bracketed := func(a string) string { return "[" + a + "]" }
			daemon(t, append(k.openSSH("ssh", "ExitOnForwardFailure=yes"), "-N",
				"-L", "127.0.0.1:9003:"+bracketed(f.theirs)+":9001",
				"-R", bracketed(f.ours)+":9004:127.0.0.1:9002", "root@"+f.ours)...)
			awaitPort(t, "127.0.0.1:9003")
			awaitPort(t, net.JoinHostPort(f.ours, "9004"))
			c, err := net.Dial("tcp", "127.0.0.1:9003")
			mirrored(t, "ssh -L", c, err)
			c, err = net.Dial("tcp", net.JoinHostPort(f.ours, "9004"))
			mirrored(t, "ssh -R", c, err)
		})
	}
}

// TestSSHRealServer: x/crypto/ssh over waybill does the same at OpenSSH's server.
func TestSSHRealServer(t *testing.T) {
	t.Parallel()
	s := enter(t, "sshd")
	if s == nil {
		return
	}
	k := newSSHKeys(t)
	k.sshd(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			c := k.dial(t, s, net.JoinHostPort(f.theirs, "22"))
			session := func() *ssh.Session {
				s, err := c.NewSession()
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			in, sum := octets(4<<20, 2)
			run := session()
			var out, stderr bytes.Buffer
			run.Stdin, run.Stdout, run.Stderr = bytes.NewReader(in), &out, &stderr
			err := run.Run("cat; echo aside >&2; exit 7")
			if exit := (*ssh.ExitError)(nil); !errors.As(err, &exit) || exit.ExitStatus() != 7 || stderr.String() != "aside\n" || digest(out.Bytes()) != sum {
				t.Errorf("exec: %v, want exit status 7; %d octets of output, want the %d of input; standard error %q", err, out.Len(), len(in), &stderr)
			}

			shell := session()
			out.Reset()
			shell.Stdin, shell.Stdout = strings.NewReader("n=6\necho answer $((n*7))\nexit 3\n"), &out
			if err := shell.Shell(); err != nil {
				t.Fatal(err)
			}
			err = shell.Wait()
			// Whoever logs in may be greeted first.
			if exit := (*ssh.ExitError)(nil); !errors.As(err, &exit) || exit.ExitStatus() != 3 || !strings.HasSuffix(out.String(), "answer 42\n") {
				t.Errorf("shell: %v, want exit status 3; it says %q, want 42", err, &out)
			}

			mirror(t, kernelListen(t, "127.0.0.1", "9002"))
			forward, err := c.Dial("tcp", "127.0.0.1:9002")
			mirrored(t, "forward to the server's network", forward, err)
			l, err := c.Listen("tcp", net.JoinHostPort(f.theirs, "9004"))
			if err != nil {
				t.Fatal(err)
			}
			mirror(t, l)
			back, err := net.Dial("tcp", net.JoinHostPort(f.theirs, "9004"))
			mirrored(t, "forward from the server's network", back, err)
		})
	}
}

// TestSSHRealClientThroughLoss: an SSH connection over a wire that loses one packet in a hundred each way stays for a
// minute with nothing but a keep-alive every five seconds, while scp copies 100 MB there and back beside it.
// With WAYBILL_SOAK set it is ten minutes and 1 GB.
func TestSSHRealClientThroughLoss(t *testing.T) {
	t.Parallel()
	idle, size, limit := time.Minute, 100_000_000, 5*time.Minute
	if os.Getenv("WAYBILL_SOAK") != "" {
		idle, size, limit = 10*time.Minute, 1_000_000_000, time.Hour
	}
	if !isolate(t, limit, "ssh", "scp", "nft", "ip") {
		return
	}
	k := newSSHKeys(t)
	k.sshServer(t, "-water") // which has no super-segments: what is lost is a packet
	lose(t)

	type ending struct {
		what string
		err  error
	}
	ends := make(chan ending)
	for _, f := range families {
		go func() { // it says with type 80 'are you there' and hears with 82 that we do not know what it means (RFC 4254 §4)
			out, log, err := tryFor(t, idle+patience, nil, append(k.openSSH("ssh", "ServerAliveInterval=5"), "-vvv", "root@"+f.ours,
				fmt.Sprintf("sleep %.0f; echo awake", idle.Seconds()))...)
			probes, want := strings.Count(log, "receive packet: type 82"), int(idle/(5*time.Second))-2
			if err == nil && (out != "awake\n" || probes < want) {
				err = fmt.Errorf("it says %q, and %d keep-alives were answered, want %d", out, probes, want)
			}
			ends <- ending{f.name + " idle", err}
		}()
	}
	go func() {
		for _, f := range families {
			start := time.Now()
			err := scpBothWays(t, k, f.ours, size, limit)
			t.Logf("%s: scp of %d octets there and back in %v", f.name, size, time.Since(start))
			ends <- ending{f.name + " scp", err}
		}
	}()
	for range 2 * len(families) {
		if e := <-ends; e.err != nil {
			t.Errorf("%s: %v", e.what, e.err)
		}
	}
	for _, way := range []string{"in", "out"} {
		var lost int
		text := tool(t, "nft", "list", "counter", "netdev", "loss", way)
		_, after, _ := strings.Cut(text, "packets ")
		if fmt.Sscan(after, &lost); lost < size/500_000 { // of a packet for each 3 KB at least, with acknowledgements
			t.Errorf("only %d packets were lost: %s", lost, text)
		}
		t.Logf("%s: %d packets lost", way, lost)
	}
}

// lose has the kernel lose one packet in a hundred of those that it receives from wb0, and of those that it sends. A
// sender notices where its own packet is dropped, and what is lost on a wire it does not; so those go astray instead, to
// the loopback, which does not know the address.
func lose(t *testing.T) {
	t.Helper()
	tool(t, "ip", "link", "set", "wb0", "gso_max_segs", "1") // what is lost of the kernel's is a packet, too
	rules := `table netdev loss {
		counter in {}
		counter out {}
		chain in { type filter hook ingress device "wb0" priority 0; numgen random mod 100 < 1 counter name "in" drop; }
		chain out { type filter hook egress device "wb0" priority 0; numgen random mod 100 < 1 counter name "out" fwd to "lo"; }
	}`
	if _, stderr, err := try(t, strings.NewReader(rules), "nft", "-f", "-"); err != nil {
		t.Fatalf("nft: %v\n%s", err, stderr)
	}
}

// scpBothWays copies a file to the server, and from there back to another.
func scpBothWays(t *testing.T, k sshKeys, addr string, size int, limit time.Duration) error {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	b, sum := octets(size, 5)
	if err := os.WriteFile(path("there"), b, 0o600); err != nil {
		return err
	}
	remote := "root@[" + addr + "]:" + path("remote")
	for _, c := range [][]string{{path("there"), remote}, {remote, path("back")}} {
		if _, stderr, err := tryFor(t, limit, nil, append(k.openSSH("scp"), c...)...); err != nil {
			return fmt.Errorf("%w\n%s", err, stderr)
		}
	}
	for _, name := range []string{"remote", "back"} {
		got, err := os.ReadFile(path(name))
		if err != nil {
			return err
		}
		if digest(got) != sum {
			return fmt.Errorf("%s has %d octets, want %d, or others", name, len(got), size)
		}
	}
	return nil
}
