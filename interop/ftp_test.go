package interop

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jlaffaye/ftp"
	"github.com/seed87e66d9f/waybill/stack"
)

// ftpSize is that of a file that is put and got.
const ftpSize = 10_000_000

// ftpFiles is a file to put, and its digest, and the directory of a server, which the test sees too.
func ftpFiles(t *testing.T) (there, sum, root string) {
	t.Helper()
	b, sum := octets(ftpSize, 7)
	root = t.TempDir()
	// A directory of the test's is its owner's alone, and a server may be another.
	for dir := root; dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return file(t, "there", b), sum, root
}

// sameFile compares a file with a digest.
func sameFile(t *testing.T, what, path, sum string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || digest(b) != sum {
		t.Errorf("%s: %d octets of %d, or others; %v", what, len(b), ftpSize, err)
	}
}

// TestFTPRealClientCurl: curl puts, gets, resumes and lists at a server on waybill, with every way to make a data connection.
func TestFTPRealClientCurl(t *testing.T) {
	t.Parallel()
	if !isolate(t, 5*time.Minute, "curl") {
		return
	}
	there, sum, root := ftpFiles(t)
	example(t, "ftpserver", "21", "-dir", root, "-write")
	for _, c := range []struct {
		name, said string // what curl says to the server, which is what the case is about
		flags      []string
		only4      bool
	}{
		{"EPSV", "EPSV", nil, false},
		{"PASV", "PASV", []string{"--disable-epsv"}, true},
		{"EPRT", "EPRT |", []string{"--ftp-port", "-"}, false},
		{"PORT", "PORT ", []string{"--ftp-port", "-", "--disable-eprt"}, true},
	} {
		for _, f := range families {
			if c.only4 && f.name != "IPv4" {
				continue
			}
			t.Run(c.name+" "+f.name, func(t *testing.T) {
				name := c.name + f.name
				curl := func(args ...string) (out, log string) {
					out, log, err := try(t, nil, append(append([]string{"curl", "-gsSv"}, c.flags...), args...)...)
					if err != nil || !strings.Contains(log, "> "+c.said) {
						t.Fatalf("curl %v: %v\n%s", args, err, log)
					}
					return out, log
				}
				url := at("ftp", f.ours, "21", "/")
				back := filepath.Join(t.TempDir(), "back")
				curl("-T", there, url+name)
				sameFile(t, "put", filepath.Join(root, name), sum)
				curl("-o", back, url+name)
				sameFile(t, "get", back, sum)
				if err := os.Truncate(back, ftpSize/3); err != nil {
					t.Fatal(err)
				}
				curl("-C", "-", "-o", back, url+name)
				sameFile(t, "resumed", back, sum)
				if out, _ := curl(url); !strings.Contains(out, fmt.Sprint(" ", ftpSize, " ")) || !strings.Contains(out, " "+name+"\n") {
					t.Errorf("list: %q", out)
				}
				if out, _ := curl("-l", url); !strings.Contains(out, name+"\n") {
					t.Errorf("names: %q", out)
				}
			})
		}
	}
}

// TestFTPRealClientBounce: the server connects to nobody but the client (RFC 2577 §3).
func TestFTPRealClientBounce(t *testing.T) {
	t.Parallel()
	if !isolate(t, 5*time.Minute) {
		return
	}
	example(t, "ftpserver", "21")
	c := dialFTP(t, net.Dial, net.JoinHostPort(families[0].ours, "21"))
	for _, line := range []string{"PORT 198,51,100,7,200,1", "PORT 127,0,0,1,200,1", "PORT 198,51,100,1,0,25", "EPRT |1|198.51.100.7|50000|", "EPRT |2|2001:db8:51::1|50000|"} {
		c.say(t, 504, "%s", line)
		c.say(t, 425, "NLST")
	}
	for _, line := range []string{"PORT", "PORT 1,2,3", "PORT 198,51,100,1,256,1", "PORT 198,51,100,1,-1,1", "EPRT", "EPRT |1|198.51.100.1|", "EPRT |1|198.51.100.1|65536|"} {
		c.say(t, 501, "%s", line)
	}
	for _, line := range []string{"RETR ../../../etc/passwd", "CWD /etc", "RETR /etc/passwd", "LIST ../x"} {
		c.say(t, 550, "%s", line)
	}
}

// TestFTPRealClientLftp: lftp puts, gets, lists and removes, active and passive.
func TestFTPRealClientLftp(t *testing.T) {
	t.Parallel()
	if !isolate(t, 5*time.Minute, "lftp") {
		return
	}
	there, sum, root := ftpFiles(t)
	example(t, "ftpserver", "21", "-dir", root, "-write")
	for _, f := range families {
		for _, passive := range []string{"on", "off"} {
			t.Run(f.name+" passive "+passive, func(t *testing.T) {
				back := filepath.Join(t.TempDir(), "back")
				out, stderr, err := try(t, nil, "lftp", "--norc", "-c", "set net:max-retries 1; set net:timeout 30; set cmd:fail-exit on; set ftp:passive-mode "+passive+
					"; open ftp://"+net.JoinHostPort(f.ours, "21")+"; put "+there+" -o new; cls -1; ls; get new -o "+back+"; rm new")
				if err != nil {
					t.Fatalf("%v\n%s%s", err, out, stderr)
				}
				if !strings.HasPrefix(out, "new\n") || !strings.Contains(out, fmt.Sprint(" ", ftpSize, " ")) {
					t.Errorf("the directory: %q", out)
				}
				sameFile(t, "there and back", back, sum)
				if _, err := os.Stat(filepath.Join(root, "new")); err == nil {
					t.Error("the file that was removed is still there")
				}
			})
		}
	}
}

// vsftpd serves a directory at the kernel's addresses; who is anonymous writes in its directory pub.
func vsftpd(t *testing.T, root string) {
	t.Helper()
	pub := filepath.Join(root, "pub")
	if err := os.Mkdir(pub, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(pub, 0o777); err != nil {
		t.Fatal(err)
	}
	daemon(t, "vsftpd", file(t, "vsftpd.conf", []byte(strings.Join([]string{
		"listen=NO", "listen_ipv6=YES", "background=NO", "seccomp_sandbox=NO", "isolate_network=NO", "isolate=NO",
		"anonymous_enable=YES", "no_anon_password=YES", "local_enable=NO", "anon_root=" + root, "write_enable=YES", "anon_upload_enable=YES",
		"anon_other_write_enable=YES", "anon_umask=022", "secure_chroot_dir=" + t.TempDir(),
		"connect_from_port_20=YES", "vsftpd_log_file=/dev/null", "",
	}, "\n"))))
	for _, f := range families {
		awaitPort(t, net.JoinHostPort(f.theirs, "21"))
	}
}

// TestFTPRealServerPassive: jlaffaye/ftp over waybill puts, gets, lists and removes at vsftpd.
func TestFTPRealServerPassive(t *testing.T) {
	t.Parallel()
	s := enter(t, "vsftpd")
	if s == nil {
		return
	}
	there, sum, root := ftpFiles(t)
	vsftpd(t, root)
	for _, f := range families {
		for _, old := range []bool{false, true} {
			if old && f.name != "IPv4" {
				continue
			}
			t.Run(f.name+map[bool]string{false: " EPSV", true: " PASV"}[old], func(t *testing.T) {
				c, err := ftp.Dial(net.JoinHostPort(f.theirs, "21"), ftp.DialWithDialFunc(s.Dial), ftp.DialWithDisabledEPSV(old), ftp.DialWithShutTimeout(patience))
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Login("anonymous", "anonymous"); err != nil {
					t.Fatal(err)
				}
				in, err := os.Open(there)
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				if err := c.Stor("pub/new", in); err != nil {
					t.Fatal("put: ", err)
				}
				sameFile(t, "put", filepath.Join(root, "pub", "new"), sum)
				if list, err := c.List("pub"); err != nil || len(list) != 1 || list[0].Name != "new" || list[0].Size != ftpSize {
					t.Errorf("list: %+v, %v", list, err)
				}
				r, err := c.Retr("pub/new")
				if err != nil {
					t.Fatal("get: ", err)
				}
				b, err := io.ReadAll(r)
				if digest(b) != sum || err != nil {
					t.Errorf("get: %d octets of %d, or others; %v", len(b), ftpSize, err)
				}
				if err := r.Close(); err != nil {
					t.Error("get: ", err)
				}
				if err := c.Delete("pub/new"); err != nil {
					t.Error(err)
				}
				if err := c.Quit(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// A ftpControl is a control connection.
type ftpControl struct{ *textproto.Conn }

func dialFTP(t *testing.T, dial func(network, addr string) (net.Conn, error), addr string) ftpControl {
	t.Helper()
	conn, err := dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	c := ftpControl{textproto.NewConn(conn)}
	if _, _, err := c.ReadResponse(220); err != nil {
		t.Fatal(err)
	}
	if err := c.PrintfLine("USER anonymous"); err != nil {
		t.Fatal(err)
	}
	if code, text, err := c.ReadResponse(0); err != nil || code != 230 && code != 331 {
		t.Fatal(code, text, err)
	}
	return c
}

// say sends a command and wants a reply of the code.
func (c ftpControl) say(t *testing.T, code int, format string, args ...any) {
	t.Helper()
	err := c.PrintfLine(format, args...)
	if err == nil {
		_, _, err = c.ReadResponse(code)
	}
	if err != nil {
		t.Fatalf("%s: %v, want %d", fmt.Sprintf(format, args...), err, code)
	}
}

// TestFTPRealServerActive: vsftpd connects from its port 20 to listeners on waybill.
func TestFTPRealServerActive(t *testing.T) {
	t.Parallel()
	s := enter(t, "vsftpd")
	if s == nil {
		return
	}
	there, sum, root := ftpFiles(t)
	vsftpd(t, root)
	sent, err := os.ReadFile(there)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, command := range []string{"EPRT", "PORT"} {
			if command == "PORT" && f.name != "IPv4" {
				continue
			}
			t.Run(f.name+" "+command, func(t *testing.T) {
				c := dialFTP(t, s.Dial, net.JoinHostPort(f.theirs, "21"))
				c.say(t, 200, "TYPE I")
				c.active(t, s, f.ours, command, "STOR pub/new", func(data net.Conn) (b []byte, err error) {
					_, err = data.Write(sent)
					return nil, err
				})
				sameFile(t, "put", filepath.Join(root, "pub", "new"), sum)
				got := c.active(t, s, f.ours, command, "RETR pub/new", func(data net.Conn) ([]byte, error) { return io.ReadAll(data) })
				if digest(got) != sum {
					t.Errorf("get: %d octets of %d, or others", len(got), ftpSize)
				}
				if got := c.active(t, s, f.ours, command, "NLST pub", func(data net.Conn) ([]byte, error) { return io.ReadAll(data) }); string(got) != "pub/new\r\n" {
					t.Errorf("names: %q, want pub/new", got)
				}
				c.say(t, 250, "DELE pub/new")
				c.say(t, 221, "QUIT")
			})
		}
	}
}

// active has a command's data connection made to a listener on waybill, and used.
func (c ftpControl) active(t *testing.T, s *stack.Stack, ours, by, command string, use func(data net.Conn) ([]byte, error)) []byte {
	t.Helper()
	l, err := s.ListenTCP("tcp", netip.AddrPortFrom(netip.MustParseAddr(ours), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(patience))
	at := l.Addr().(*net.TCPAddr)
	if by == "PORT" {
		c.say(t, 200, "PORT %s,%d,%d", strings.ReplaceAll(ours, ".", ","), at.Port>>8, at.Port&0xff)
	} else {
		c.say(t, 200, "EPRT |%d|%s|%d|", map[bool]int{true: 1, false: 2}[at.IP.To4() != nil], ours, at.Port)
	}
	c.say(t, 150, "%s", command)
	data, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	if port := data.RemoteAddr().(*net.TCPAddr).Port; port != 20 {
		t.Errorf("the data connection is from port %d, want 20", port)
	}
	data.SetDeadline(time.Now().Add(patience))
	got, err := use(data)
	if err == nil {
		err = data.Close()
	}
	if err == nil {
		_, _, err = c.ReadResponse(226)
	}
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return got
}
