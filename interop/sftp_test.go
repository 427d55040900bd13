package interop

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
)

// sftpSize is that of a file that is put and got.
const sftpSize = 100_000_000

// TestSFTPRealClient: OpenSSH's sftp puts 100 MB to a server on waybill, gets them again, and lists, renames and removes.
func TestSFTPRealClient(t *testing.T) {
	t.Parallel()
	if !isolate(t, 5*time.Minute, "sftp") {
		return
	}
	k := newSSHKeys(t)
	k.sshServer(t)
	sent, sum := octets(sftpSize, 4)
	there := file(t, "there", sent)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			dir := t.TempDir()
			batch := strings.NewReplacer("THERE", there, "DIR", dir).Replace("mkdir DIR/new\nput THERE DIR/new/a\nrename DIR/new/a DIR/new/b\n" +
				"ls -1 DIR/new\nget DIR/new/b DIR/back\nrm DIR/new/b\nrmdir DIR/new\n")
			start := time.Now()
			out, stderr, err := try(t, strings.NewReader(batch), append(k.openSSH("sftp"), "-b", "-", "root@["+f.ours+"]")...)
			if err != nil {
				t.Fatalf("%v\n%s%s", err, out, stderr)
			}
			t.Logf("%d octets there and back in %v", sftpSize, time.Since(start))
			if !strings.Contains(out, "\n"+dir+"/new/b\n") {
				t.Errorf("ls says\n%s", out)
			}
			back, err := os.ReadFile(filepath.Join(dir, "back"))
			if err != nil || digest(back) != sum {
				t.Errorf("%d octets came back of %d, or others; %v", len(back), len(sent), err)
			}
			if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
				t.Error("the directory that was removed is still there")
			}
		})
	}
}

// TestSFTPRealServer: pkg/sftp over waybill does the same at OpenSSH's server.
func TestSFTPRealServer(t *testing.T) {
	t.Parallel()
	s := enter(t, "sshd")
	if s == nil {
		return
	}
	k := newSSHKeys(t)
	k.sshd(t)
	sent, sum := octets(sftpSize, 6)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			c, err := sftp.NewClient(k.dial(t, s, net.JoinHostPort(f.theirs, "22")))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			dir, start := t.TempDir(), time.Now()
			if err := putAndGet(c, dir, sent, sum); err != nil {
				t.Error(err)
			}
			t.Logf("%d octets there and back in %v", sftpSize, time.Since(start))
			if _, err := os.Stat(filepath.Join(dir, "b")); err == nil {
				t.Error("the file that was removed is still there")
			}
		})
	}
}

// putAndGet puts, renames, lists, gets and removes a file, and returns what goes wrong first.
func putAndGet(c *sftp.Client, dir string, sent []byte, sum string) error {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	w, err := c.Create(a)
	if err != nil {
		return err
	}
	if _, err := w.ReadFromWithConcurrency(bytes.NewReader(sent), 64); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("put: %w", err)
	}
	if there, err := os.ReadFile(a); err != nil || digest(there) != sum {
		return fmt.Errorf("put: %d octets are there of %d, or others; %w", len(there), len(sent), err)
	}
	if err := c.Rename(a, b); err != nil {
		return err
	}
	if list, err := c.ReadDir(dir); err != nil || len(list) != 1 || list[0].Name() != "b" || list[0].Size() != int64(len(sent)) {
		return fmt.Errorf("list: %v, %w", list, err)
	}
	r, err := c.Open(b)
	if err != nil {
		return err
	}
	defer r.Close()
	hash := sha256.New()
	if n, err := r.WriteTo(hash); err != nil || hex.EncodeToString(hash.Sum(nil)) != sum {
		return fmt.Errorf("get: %d octets came of %d, or others; %w", n, len(sent), err)
	}
	return c.Remove(b)
}
