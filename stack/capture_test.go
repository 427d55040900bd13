package stack

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/seed87e66d9f/waybill/link"
)

// A capture of a transfer over a lossy wire, and of packets that are refused, says beside each packet why it was sent
// again or dropped; and tshark has nothing to complain about it.
func TestCaptureUnderLoss(t *testing.T) {
	var file bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		near, far := link.Pipe(link.PipeConfig{Ethernet: true, MTU: 1400, Loss: 0.03, Reorder: 0.02, Duplicate: 0.02, Seed: 7})
		client := host(t, near, Config{}, client4, client6)
		server := host(t, link.Capture(far, &file), Config{}, server4, server6)
		c, s := connected(t, client, server, server6)
		go func() {
			io.Copy(s, io.LimitReader(strings.NewReader(strings.Repeat("waybill ", 1<<16)), 1<<19))
			s.Close()
		}()
		if n, err := io.Copy(io.Discard, c); n != 1<<19 || err != nil {
			t.Fatal(n, err)
		}
		for range 20 { // the wire may lose some
			near.Queues()[0].Write([]link.Packet{{Head: []byte("short")}, {Head: append(bytes.Repeat([]byte{0xff}, 12), 8, 0, 0x45)}})
		}
		synctest.Wait()
		client.Close()
		server.Close()
	})
	comments := map[string]bool{}
	path := filepath.Join(t.TempDir(), "loss.pcapng")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("tshark"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("tshark is not installed")
	}
	cmd := exec.Command("tshark", "-r", path, "-T", "fields", "-e", "frame.comment", "-e", "frame.number")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &complaints)
	}
	for line := range strings.Lines(complaints.String()) {
		if !strings.Contains(line, "as user \"root\"") { // tshark's one remark, about us
			t.Errorf("tshark: %s", line)
		}
	}
	lines := 0
	for line := range strings.Lines(out.String()) {
		comment, _, _ := strings.Cut(line, "\t")
		comments[comment] = true
		lines++
	}
	if lines < 400 {
		t.Errorf("tshark finds %d packets", lines)
	}
	for _, want := range []string{"", "fast retransmit", "bad-frame", "bad-header"} {
		if !comments[want] {
			t.Errorf("no packet has the comment %q: %v", want, comments)
		}
	}
}
