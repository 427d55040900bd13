package netns

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Behind makes a second network behind the one that Enter has made, by way of a link of which the kernel, which forwards,
// thinks that it carries so many octets; the other end does not know. near are this side's addresses on the link, and far the other's, whose default gateways the former are. What
// it returns makes a command that runs there. All of it goes away with the test.
func Behind(t *testing.T, mtu int, near, far []netip.Prefix) func(name string, args ...string) *exec.Cmd {
	t.Helper()
	anchor := exec.Command("unshare", "-n", "sleep", "3600")
	if err := anchor.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		anchor.Process.Kill()
		anchor.Wait()
	})
	there := fmt.Sprint(anchor.Process.Pid)
	ours, _ := os.Readlink("/proc/self/ns/net")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if theirs, err := os.Readlink("/proc/" + there + "/ns/net"); err == nil && theirs != ours {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no second network namespace")
		}
	}
	behind := func(name string, args ...string) *exec.Cmd {
		return exec.Command("nsenter", append([]string{"-t", there, "-n", name}, args...)...)
	}
	do := func(run func(name string, args ...string) *exec.Cmd, line string, args ...any) {
		t.Helper()
		f := strings.Fields(fmt.Sprintf(line, args...))
		if out, err := run(f[0], f[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(f, " "), err, out)
		}
	}
	for _, file := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := os.WriteFile("/proc/sys/net/"+file, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	do(exec.Command, "ip link add near0 type veth peer name far0")
	do(exec.Command, "ip link set far0 netns %s", there)
	do(exec.Command, "ip link set near0 up mtu %d", mtu)
	do(behind, "ip link set far0 up")
	do(behind, "ip link set lo up")
	for i := range near {
		flags := ""
		if near[i].Addr().Is6() {
			flags = "nodad"
		}
		do(exec.Command, "ip addr add %v dev near0 %s", near[i], flags)
		do(behind, "ip addr add %v dev far0 %s", far[i], flags)
		do(behind, "ip route add default via %v", near[i].Addr())
	}
	return behind
}
