package netns

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Enter runs the calling test once more, in a process with a network of its own, and reports whether this is that
// process, which may take as long as limit. The test is skipped where no namespace or no TUN device is to be had, but never
// where CI is set.
func Enter(t *testing.T, limit time.Duration) bool {
	t.Helper()
	const env = "WAYBILL_TEST_NAMESPACE"
	if os.Getenv(env) == t.Name() {
		return true
	}
	skip := t.Skipf
	if os.Getenv("CI") != "" {
		skip = t.Fatalf
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		skip("no TUN device: %v", err)
	}
	f.Close()
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+limit.String())
	c.Env = append(os.Environ(), env+"="+t.Name())
	Isolate(c)
	out, err := c.CombinedOutput()
	switch exit := (*exec.ExitError)(nil); {
	case errors.As(err, &exit):
		t.Fatalf("in a network namespace: %v\n%s", err, out)
	case err != nil:
		skip("no network namespace: %v", err)
	default:
		t.Logf("in a network namespace:\n%s", out)
	}
	return false
}

// Isolate lets a command run in a network namespace of its own, and as its root where we are not root.
func Isolate(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
}
