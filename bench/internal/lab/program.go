package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 10 * time.Second // from the start of a server until it says that it serves
	stopTimeout  = 5 * time.Second  // from SIGTERM until it is killed
	slack        = 10 * time.Second // of a client beyond the time that it measures
)

// module is where the programs are, as Go imports them.
const module = "github.com/seed87e66d9f/waybill/bench/"

// Build builds programs of this module, by the names of their directories, into dir. The working directory is in this module.
func Build(ctx context.Context, dir string, programs ...string) error {
	args := []string{"build", "-o", dir + "/"}
	for _, p := range programs {
		args = append(args, module+p)
	}
	b := exec.CommandContext(ctx, "go", args...)
	b.Stderr = os.Stderr
	if err := b.Run(); err != nil {
		return fmt.Errorf("build %s, in the directory of this module: %w", strings.Join(programs, " "), err)
	}
	return nil
}

// Server is a running server.
type Server struct{ cmd *exec.Cmd }

// Serve starts a server in the namespace, and waits until it says that it serves. Its errors are printed.
func (n *Namespace) Serve(ctx context.Context, program string, args ...string) (*Server, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.Do(cmd.Start); err != nil {
		return nil, err
	}
	s := &Server{cmd}
	watch := time.AfterFunc(startTimeout, func() { cmd.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if !watch.Stop() || err != nil && err != io.EOF || line != "serving\n" {
		s.Stop()
		return nil, fmt.Errorf("%s %s does not serve: it says %q", filepath.Base(program), strings.Join(args, " "), line)
	}
	return s, nil
}

// Stop ends the server, and waits until it is gone.
func (s *Server) Stop() {
	kill := time.AfterFunc(stopTimeout, func() { s.cmd.Process.Kill() })
	defer kill.Stop()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.cmd.Wait()
}

// Workload is one thing that the client measures.
type Workload struct {
	Mode string // of the client
	P    int    // connections
	Unit string // of the figure
}

func (w Workload) String() string { return fmt.Sprintf("%s, %d", w.Mode, w.P) }

// Measure runs the client, which is at program, for as long in the namespace, and returns its figure. Further flags of the
// client are args.
func (n *Namespace) Measure(ctx context.Context, program string, w Workload, length time.Duration, args ...string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length+slack)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, append([]string{"-mode", w.Mode, "-P", strconv.Itoa(w.P), "-t", length.String()}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := n.Do(cmd.Run); err != nil {
		return 0, errors.Join(fmt.Errorf("%w: %s", err, bytes.TrimSpace(said.Bytes())), context.Cause(ctx))
	}
	f := strings.Split(out.String(), "\t") // mode, connections, figure, unit, and the rest for people
	if len(f) < 4 {
		return 0, fmt.Errorf("the client said %q", out.String())
	}
	return strconv.ParseFloat(f[2], 64)
}
