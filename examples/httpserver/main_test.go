package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed87e66d9f/waybill/examples/internal/host"
	"github.com/seed87e66d9f/waybill/tcp/tcptest"
)

// programEnv names the program to a test that runs once more in another namespace.
const programEnv = "WAYBILL_TEST_HTTPSERVER"

var program struct {
	sync.Once
	dir, path string
	err       error
}

// build builds the program, once, where anybody may execute it, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	if p := os.Getenv(programEnv); p != "" {
		return p
	}
	program.Do(func() {
		if program.dir, program.err = os.MkdirTemp("", "httpserver"); program.err != nil {
			return
		}
		program.path = filepath.Join(program.dir, "httpserver.exe")
		out, err := exec.Command("go", "build", "-o", program.path, ".").CombinedOutput()
		program.err = errors.Join(err, os.Chmod(program.dir, 0o755))
		if err != nil {
			program.err = errors.New(err.Error() + "\n" + string(out))
		}
	})
	if program.err != nil {
		t.Fatal("build the program: ", program.err)
	}
	return program.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// A process is the program while it runs.
type process struct {
	*exec.Cmd
	t      *testing.T
	stdout *bufio.Reader
	stderr strings.Builder
	said   strings.Builder // what was read of stdout
}

// patience is how long a test waits for something that comes at once, on a machine that is busy with others.
const patience = 30 * time.Second

// start runs a command that ends in the program, and kills it with the test if it did not end.
func start(t *testing.T, command ...string) *process {
	t.Helper()
	return startWith(t, nil, command...)
}

// startWith is start with files that the command has open, from descriptor 3 on.
func startWith(t *testing.T, files []*os.File, command ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(command[0], command[1:]...), t: t}
	p.ExtraFiles = files
	p.Stderr = &p.stderr
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(patience, func() { p.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		if p.ProcessState == nil {
			p.Process.Kill()
			p.Wait()
		}
	})
	return p
}

// until reads what the program says up to a line that begins with prefix, and returns this line.
func (p *process) until(prefix string) string {
	p.t.Helper()
	for {
		line, err := p.stdout.ReadString('\n')
		p.said.WriteString(line)
		if err != nil {
			p.Process.Kill()
			p.Wait()
			p.t.Fatalf("no line %q: %v\n%s%s", prefix, err, &p.said, &p.stderr)
		}
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
}

// end waits for the program's end, which is to be in good order.
func (p *process) end() {
	p.t.Helper()
	rest, _ := io.ReadAll(p.stdout)
	p.said.Write(rest)
	if err := p.Wait(); err != nil || p.stderr.Len() > 0 {
		p.t.Errorf("ended with %v, want exit status 0 and nothing said of an error\n%s%s", err, &p.said, &p.stderr)
	}
}

// embedded starts the program with its network in memory and returns its address.
func embedded(t *testing.T, command ...string) (*process, string) {
	t.Helper()
	p := start(t, append(command, build(t), "-listen", "127.0.0.1:0")...)
	line := p.until("serving at ")
	return p, "http://" + strings.TrimSuffix(strings.Fields(line)[2], ",")
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// client asks over one connection for each request.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// get fetches a page and sees that waybill served it.
func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || answer.Header.Get("Server") != "waybill" {
		t.Fatalf("GET %s: %s, %v, %v; want 200 from waybill", url, answer.Status, answer.Header, err)
	}
	return string(body)
}

func TestEmbeddedServesThroughTwoStacks(t *testing.T) {
	p, url := embedded(t)
	if one, two := get(t, url), get(t, url); one != indexHTML || two != one {
		t.Errorf("the page is %q and then %q, want page.html both times", one, two)
	}
	var table struct{ Conns []connection }
	if err := json.Unmarshal([]byte(get(t, url+"/conns")), &table); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(table.Conns, func(c connection) bool {
		return c.State == "ESTABLISHED" && c.Local == "198.51.100.2:80" && strings.HasPrefix(c.Remote, "198.51.100.1:") && c.BytesIn > 0
	}) {
		t.Errorf("/conns lists %+v, want the connection that it was asked for over, from 198.51.100.1 to 198.51.100.2:80", table.Conns)
	}
	p.Process.Kill()
}

// TestFigureHolds takes the figure that the program prints of a real connection, and has it played by two TCBs.
func TestFigureHolds(t *testing.T) {
	p, _ := embedded(t)
	p.Process.Kill()
	said := p.said.String()
	parts := regexp.MustCompile(`(?ms)(^ +client +server$.*?)^ +\.\.\. (\d+) segments: .*?$(.*?)^ +Sequence numbers`).FindStringSubmatch(said)
	if parts == nil {
		t.Fatalf("no figure in\n%s", said)
	}
	for _, figure := range []string{parts[1], parts[3]} {
		if err := tcptest.Run(figure); err != nil {
			t.Errorf("%v\n%s", err, figure)
		}
	}
	// The close is the textbook's, by the client (RFC 9293 §3.6, figure 12).
	for _, row := range []string{
		"CLOSED +LISTEN", "SYN-SENT +--> .* --> SYN-RECEIVED", "ESTABLISHED <-- .* <-- SYN-RECEIVED", "ESTABLISHED --> .* --> ESTABLISHED",
		"ESTABLISHED +ESTABLISHED", "FIN-WAIT-1 +--> .* --> CLOSE-WAIT", "FIN-WAIT-2 +<-- .* <-- CLOSE-WAIT",
		"TIME-WAIT +<-- .* <-- LAST-ACK", "TIME-WAIT +--> .* --> CLOSED",
	} {
		if !regexp.MustCompile(`(?m)^ +\d+\. +` + row + `$`).MatchString(said) {
			t.Errorf("the figure has no line %q:\n%s", row, said)
		}
	}
}

func TestForwardCarriesHalfClose(t *testing.T) {
	p, url := embedded(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 OK") || !strings.HasSuffix(string(answer), indexHTML) {
		t.Errorf("after a half-close: %q, %v; want the page, and its end", answer, err)
	}
	p.Process.Kill()
}

// TestAnswerUnderWay: who is told to end still answers what it was asked, and stays until the answer has arrived.
func TestAnswerUnderWay(t *testing.T) {
	const octets = 1 << 20
	asked, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-release
		w.Write(make([]byte, octets))
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended, hosts := make(chan error, 1), make(chan *host.Host, 1)
	network := host.Register(flag.NewFlagSet("", flag.PanicOnError), host.Port{Port: 80, Kernel: "127.0.0.1:0"})
	go func() {
		ended <- network.Run(ctx, func(ctx context.Context, h *host.Host) error {
			hosts <- h
			return serve(ctx, h, handler, nil)
		})
	}()
	peer := (<-hosts).Client
	go func() {
		<-asked
		cancel()
		close(release)
	}()
	url := "http://[2001:db8:51::2]/"
	answer, err := (&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		for { // until it listens
			c, err := peer.DialContext(ctx, network, addr)
			if !errors.Is(err, syscall.ECONNREFUSED) {
				return c, err
			}
		}
	}}}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, answer.Body); n != octets || err != nil {
		t.Errorf("an answer under way: %d octets, %v; want %d", n, err, octets)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve: %v, want nil", err)
	}
}

// TestPcap: the file begins as pcapng does, and holds what passed.
func TestPcap(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals on Windows")
	}
	path := filepath.Join(t.TempDir(), "wire.pcapng")
	p := start(t, build(t), "-listen", "127.0.0.1:0", "-pcap", path)
	p.until("serving at ")
	p.signal(syscall.SIGTERM)
	p.end()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if magic := []byte{0x0a, 0x0d, 0x0d, 0x0a}; !bytes.HasPrefix(file, magic) || !bytes.Contains(file, []byte("GET / HTTP/1.1")) {
		t.Errorf("%d octets, which begin with %q; want pcapng with the request in it", len(file), file[:min(len(file), 8)])
	}
}

func TestSignalsEndInGoodOrder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no signals on Windows")
	}
	for _, c := range []struct {
		name    string
		command []string // in front of the program
		signal  os.Signal
	}{
		{"SIGINT", nil, syscall.SIGINT},
		{"SIGTERM", nil, syscall.SIGTERM},
		{"SIGINT ignored at start", []string{"sh", "-c", `trap "" INT; exec "$@"`, "sh"}, syscall.SIGINT},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, url := embedded(t, c.command...)
			get(t, url)
			p.signal(c.signal)
			p.until("closing")
			p.end()
		})
	}
}

func TestErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []struct {
		name string
		args []string
		want string // in the message
	}{
		{"occupied port", []string{"-listen", busy.Addr().String()}, "bind: "},
		{"no port", []string{"-listen", "127.0.0.1"}, "missing port"},
		{"not a flag", []string{"tap"}, `"tap" is not a flag`},
		{"TAP and TUN", []string{"-tap", "wb0", "-tun", "wb1"}, "one device"},
		{"no device", []string{"-addr", "198.51.100.2/24"}, "go with -tap, -tun or -fd"},
		{"listen on a device", []string{"-tap", "wb0", "-listen", "127.0.0.1:1"}, "-listen is for"},
		{"TAP and descriptor", []string{"-tap", "wb0", "-fd", "3"}, "one device"},
		{"standard input", []string{"-fd", "0"}, "-fd 0: "},
		{"nothing handed over", []string{"-fd", "3"}, "descriptor 3"},
		{"descriptor and water", []string{"-fd", "3", "-water"}, "not through water"},
		{"no device to store", []string{"-store"}, "-store goes with"},
		{"no length", []string{"-tap", "wb0", "-addr", "198.51.100.2"}, `-addr: "198.51.100.2" is not an address and a length`},
		{"empty prefix", []string{"-tap", "wb0", "-addr", ""}, `-addr: "" is not`},
		{"bad prefix", []string{"-tap", "wb0", "-host", "198.51.100.1/24,2001:db8::/129"}, `-host: "2001:db8::/129" is not`},
		{"long name", []string{"-tun", "wb01234567890123", "-water"}, "longer than 15 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) { fails(t, c.want, append([]string{build(t)}, c.args...)...) })
	}
}

// fails runs a command that is to end with exit status 1 and a message that contains want.
func fails(t *testing.T, want string, command ...string) {
	t.Helper()
	p := start(t, command...)
	io.Copy(io.Discard, p.stdout)
	err := p.Wait()
	got := p.stderr.String()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%v, want exit status 1\n%s", err, got)
	}
	if !strings.HasPrefix(got, "httpserver: ") || !strings.Contains(got, want) || strings.Contains(got, "goroutine") {
		t.Errorf("it says\n%s\nwant a message with %q", got, want)
	}
}
