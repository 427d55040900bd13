package main

import (
	"bufio"
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
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// patience is how long a test waits for something that comes at once, on a machine that is busy with others.
const patience = 60 * time.Second

// newKey is a key, and its file.
func newKey(t *testing.T, name string) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, write(t, name, pem.EncodeToMemory(block))
}

func write(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// program is the example, as a user runs it: in memory, reached at a port of this machine.
type program struct {
	*exec.Cmd
	addr, password string
	complaints     bytes.Buffer
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sshserver")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := &program{Cmd: exec.Command(path, append(args, "-listen", "127.0.0.1:0")...)}
	p.Stderr = &p.complaints
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	kill := time.AfterFunc(patience, func() { p.Process.Kill() })
	t.Cleanup(func() { kill.Stop() })
	for lines := bufio.NewReader(out); p.addr == ""; {
		line, err := lines.ReadString('\n')
		if err != nil {
			p.Wait()
			t.Fatalf("it says %q: %v\n%s", line, err, &p.complaints)
		}
		fmt.Sscanf(line, "the password, for any user: %s", &p.password)
		fmt.Sscanf(line, "serving at %s", &p.addr)
	}
	p.addr = strings.TrimRight(p.addr, ",")
	go io.Copy(io.Discard, out)
	return p
}

func (p *program) login(auth ssh.AuthMethod, key ssh.HostKeyCallback) (*ssh.Client, error) {
	return ssh.Dial("tcp", p.addr, &ssh.ClientConfig{User: "anybody", Auth: []ssh.AuthMethod{auth}, HostKeyCallback: key, Timeout: patience})
}

// TestPassword: without a file of keys, who knows the password is let in, and nobody else.
func TestPassword(t *testing.T) {
	p := start(t)
	for _, password := range []string{"", "guess", p.password + "x"} {
		if c, err := p.login(ssh.Password(password), ssh.InsecureIgnoreHostKey()); err == nil {
			c.Close()
			t.Errorf("the password %q is let in", password)
		}
	}
	c, err := p.login(ssh.Password(p.password), ssh.InsecureIgnoreHostKey())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestProgram: commands, a shell, SFTP and forwarding, through both hosts in memory; and an end in good order.
func TestProgram(t *testing.T) {
	us, ourFile := newKey(t, "host")
	user, _ := newKey(t, "user")
	stranger, _ := newKey(t, "stranger")
	text := append([]byte("# who may\n\n"), ssh.MarshalAuthorizedKey(user.PublicKey())...)
	p := start(t, "-key", ourFile, "-authorized", write(t, "authorized_keys", text))
	known := ssh.FixedHostKey(us.PublicKey())
	if c, err := p.login(ssh.PublicKeys(stranger), known); err == nil {
		c.Close()
		t.Error("a stranger is let in")
	}
	c, err := p.login(ssh.PublicKeys(user), known)
	if err != nil {
		t.Fatal(err)
	}
	commands(t, c)
	files(t, c)
	forwards(t, c)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &p.complaints)
	}
}

func commands(t *testing.T, c *ssh.Client) {
	t.Helper()
	session := func() *ssh.Session {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := session()
	in := bytes.Repeat([]byte("a parcel\n"), 100_000)
	var out bytes.Buffer
	s.Stdin, s.Stdout = bytes.NewReader(in), &out
	err := s.Run("cat; exit 7")
	if exit := (*ssh.ExitError)(nil); !errors.As(err, &exit) || exit.ExitStatus() != 7 || !bytes.Equal(out.Bytes(), in) {
		t.Errorf("exec: %v, want exit status 7; %d octets, want %d", err, out.Len(), len(in))
	}
	if out, err := session().Output("echo done"); err != nil || string(out) != "done\n" {
		t.Errorf("exec: %q, %v", out, err)
	}
	s = session()
	if err := s.RequestPty("vt100", 24, 80, nil); err == nil {
		t.Error("it has a terminal")
	}
	out.Reset()
	s.Stdin, s.Stdout = strings.NewReader("echo $((6*7))\n"), &out
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil || out.String() != "42\n" {
		t.Errorf("shell: %q, %v", &out, err)
	}
	if err := session().RequestSubsystem("netconf"); err == nil {
		t.Error("it has a subsystem netconf")
	}
}

func files(t *testing.T, c *ssh.Client) {
	t.Helper()
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); !ok {
		t.Fatal("no sftp: ", err)
	}
	f, err := sftp.NewClientPipe(ch, ch)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "new")
	w, err := f.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("a parcel")); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "a parcel" {
		t.Errorf("the file has %q, %v", b, err)
	}
	ch.CloseWrite()
	// scp looks at it.
	if r := <-requests; r == nil || r.Type != "exit-status" || string(r.Payload) != "\x00\x00\x00\x00" {
		t.Errorf("sftp ends with %+v, want exit status 0", r)
	}
	ch.Close()
}

// forwards listens on the stack by what is ssh -R to a server, and connects to there by what is ssh -L.
func forwards(t *testing.T, c *ssh.Client) {
	t.Helper()
	l, err := c.Listen("tcp", "198.51.100.2:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			_, err = io.Copy(conn, conn)
		}
		done <- err
	}()
	conn, err := c.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("a parcel")); err != nil {
		t.Error(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "a parcel" {
		t.Errorf("through both forwards came %q, %v", b, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Without its listener there is nobody.
	addr := l.Addr().(*net.TCPAddr)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if conn, err := c.Dial("tcp", addr.String()); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
	if _, err := c.Listen("tcp", "203.0.113.9:80"); err == nil {
		t.Error("it listens at an address that is not its own")
	}
}
