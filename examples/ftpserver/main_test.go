package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
)

// patience is how long a test waits for something that comes at once, on a machine that is busy with others.
const patience = 60 * time.Second

// client is a control connection, and what data connections are made with.
type client struct {
	*textproto.Conn
	t      *testing.T
	addr   net.Conn
	dial   func(network, addr string) (net.Conn, error)
	listen func(network, addr string) (net.Listener, error)
}

func newClient(t *testing.T, addr string, dial func(network, addr string) (net.Conn, error), listen func(network, addr string) (net.Listener, error)) client {
	t.Helper()
	conn, err := dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := client{textproto.NewConn(conn), t, conn, dial, listen}
	c.reply(220)
	c.say(230, "USER anonymous")
	return c
}

func (c client) reply(code int) string {
	c.t.Helper()
	got, text, err := c.ReadResponse(0)
	if err != nil || got != code {
		c.t.Fatalf("%d %s (%v), want %d", got, text, err, code)
	}
	return text
}

func (c client) say(code int, format string, args ...any) string {
	c.t.Helper()
	if err := c.PrintfLine(format, args...); err != nil {
		c.t.Fatal(err)
	}
	got, text, err := c.ReadResponse(0)
	if err != nil || got != code {
		c.t.Fatalf(format+": %d %s (%v), want %d", append(args, got, text, err, code)...)
	}
	return text
}

// transfer has a command carry in to the server, or what it returns from there, over a data connection by mode.
func (c client) transfer(mode, command, in string) string {
	c.t.Helper()
	var data net.Conn
	var err error
	local, remote := c.addr.LocalAddr().(*net.TCPAddr), c.addr.RemoteAddr().(*net.TCPAddr)
	if mode == "EPRT" {
		l, err := c.listen("tcp", net.JoinHostPort(local.IP.String(), "0"))
		if err != nil {
			c.t.Fatal(err)
		}
		defer l.Close()
		c.say(200, "EPRT |%d|%s|%d|", map[bool]int{true: 1, false: 2}[local.IP.To4() != nil], local.IP, l.Addr().(*net.TCPAddr).Port)
		c.say(150, "%s", command)
		if data, err = l.Accept(); err != nil {
			c.t.Fatal(err)
		}
		if port := data.RemoteAddr().(*net.TCPAddr).Port; port != 20 {
			c.t.Errorf("the data connection comes from port %d, want 20", port)
		}
	} else {
		text := c.say(229, "EPSV")
		_, port, _ := strings.Cut(text, "|||")
		if data, err = c.dial("tcp", net.JoinHostPort(remote.IP.String(), strings.TrimRight(port, "|)"))); err != nil {
			c.t.Fatal(err)
		}
		c.say(150, "%s", command)
	}
	defer data.Close()
	data.SetDeadline(time.Now().Add(patience))
	var out []byte
	if in != "" {
		_, err = io.WriteString(data, in)
	} else {
		out, err = io.ReadAll(data)
	}
	data.Close()
	if err != nil {
		c.t.Fatal(err)
	}
	c.reply(226)
	return string(out)
}

// overStacks serves a directory in memory, and has use be the other host.
func overStacks(t *testing.T, dir string, write bool, use func(h *host.Host)) {
	t.Helper()
	flags := flag.NewFlagSet("", flag.PanicOnError)
	network := host.Register(flags)
	flags.Parse(nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := network.Run(ctx, func(ctx context.Context, h *host.Host) error {
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- serve(ctx, h, dir, write) }()
		defer func() { stop(); <-ended }()
		for { // until it listens
			c, err := h.Client.DialContext(ctx, "tcp", "198.51.100.2:21")
			if err == nil {
				c.Close()
				break
			} else if ctx.Err() != nil {
				return err
			}
		}
		use(h)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestOverStacks has the other host in memory store, list, fetch and delete, in both families, active and passive.
func TestOverStacks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(dir, "outside")); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	overStacks(t, dir, true, func(h *host.Host) {
		for _, addr := range []string{"198.51.100.2:21", "[2001:db8:51::2]:21"} {
			for _, mode := range []string{"EPSV", "EPRT"} {
				c := newClient(t, addr, h.Client.Dial, h.Client.Listen)
				text := strings.Repeat("a parcel\r\n", 100_000)
				c.transfer(mode, "STOR new", text)
				if got := c.transfer(mode, "RETR new", ""); got != text {
					t.Errorf("%s %s: %d octets came back, want %d", addr, mode, len(got), len(text))
				}
				c.say(350, "REST %d", len(text)-10)
				if got := c.transfer(mode, "RETR new", ""); got != "a parcel\r\n" {
					t.Errorf("%s %s: %d octets came back, want the last line", addr, mode, len(got))
				}
				if got := c.transfer(mode, "NLST", ""); got != "new\r\n" {
					t.Errorf("%s %s: names %q, want new", addr, mode, got)
				}
				if got := c.transfer(mode, "LIST -al", ""); !strings.HasPrefix(got, "-rw") || !strings.Contains(got, " 1000000 ") {
					t.Errorf("%s %s: list %q", addr, mode, got)
				}
				c.transfer(mode, "STOR new", "less")
				if size := c.say(213, "SIZE new"); size != "4" {
					t.Errorf("%s %s: a file of 4 octets has %s, as it was longer", addr, mode, size)
				}
				if at, err := time.Parse("20060102150405", c.say(213, "MDTM new")); err != nil || time.Since(at).Abs() > time.Hour {
					t.Errorf("MDTM: %v, %v", at, err)
				}
				c.say(550, "RETR ../../etc/passwd")
				c.say(550, "RETR outside/passwd")
				c.say(550, "CWD new")
				c.say(502, "SITE EXEC")
				c.say(504, "EPRT |1|203.0.113.9|5000|")
				c.say(504, "PORT 203,0,113,9,20,20")
				c.say(501, "PORT 203,0,113,9,20,256")
				c.say(425, "RETR new")
				c.say(250, "DELE new")
				c.say(550, "SIZE new")
				c.say(221, "QUIT")
			}
		}
	})
}

// TestReadOnly: without -write, nothing is stored or deleted.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("a parcel"), 0o644); err != nil {
		t.Fatal(err)
	}
	overStacks(t, dir, false, func(h *host.Host) {
		c := newClient(t, "198.51.100.2:21", h.Client.Dial, h.Client.Listen)
		c.say(229, "EPSV")
		for _, command := range []string{"STOR new", "STOR old", "DELE old"} {
			c.say(550, "%s", command)
		}
		if got := c.transfer("EPSV", "RETR old", ""); got != "a parcel" {
			t.Errorf("%q came back", got)
		}
	})
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("the directory has %v, want the one file; %v", names, err)
	}
}

// TestProgram runs the program as a user does, by the ports of this machine, and ends it as a service manager does: who is
// idle is told so.
func TestProgram(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no SIGTERM")
	}
	program := filepath.Join(t.TempDir(), "ftpserver")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := exec.Command(program, "-listen", "127.0.0.1:0")
	var complaints bytes.Buffer
	p.Stderr = &complaints
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	defer p.Process.Kill()
	defer time.AfterFunc(patience, func() { p.Process.Kill() }).Stop()
	line, err := bufio.NewReader(out).ReadString(',')
	var addr string
	if _, err2 := fmt.Sscanf(line, "serving at %s", &addr); err != nil || err2 != nil {
		p.Wait()
		t.Fatalf("it says %q: %v\n%s", line, err, &complaints)
	}
	go io.Copy(io.Discard, out)
	c := newClient(t, strings.TrimRight(addr, ","), net.Dial, net.Listen)
	if text := c.say(227, "PASV"); !strings.Contains(text, "(127,0,0,1,") {
		t.Errorf("PASV: %s, want this machine's address", text)
	}
	c.transfer("EPSV", "STOR new", "a parcel")
	if got := c.transfer("EPSV", "RETR new", ""); got != "a parcel" {
		t.Errorf("%q came back", got)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.reply(421)
	c.Close()
	if err := p.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &complaints)
	}
}
