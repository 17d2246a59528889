package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/isolation"
)

// coldBuild is the disk space that a build from nothing takes, Go's caches included, in bytes.
const coldBuild = 8 << 30

// checkMachine says why this machine can't run a lab with nodes. A control plane alone runs anywhere.
func (l *Lab) checkMachine() error {
	if l.ControlPlane {
		return nil
	}
	if os.Geteuid() != 0 {
		return &UnsupportedError{Reason: "it takes root to make network namespaces and containers (a lab with --control-plane needs none)"}
	}
	if err := exec.Command("modprobe", "--quiet", "overlay").Run(); err != nil && !errors.Is(err, exec.ErrNotFound) { //nolint:noctx // returns at once
		fmt.Fprintf(l.Out, "modprobe overlay: %v\n", err)
	}
	kinds, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return &UnsupportedError{Reason: "there is no /proc/filesystems"}
	}
	if !bytes.Contains(kinds, []byte("\toverlay\n")) {
		return &UnsupportedError{Reason: "its kernel has no overlay file system"}
	}
	return nil
}

// probe tries the kernel's parts that a lab needs, in namespaces that end with the probe.
func probe(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self, "probe")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: isolation.NodeNamespaces}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return &UnsupportedError{Reason: strings.TrimSpace(string(out))}
	case err != nil:
		return &UnsupportedError{Reason: fmt.Sprintf("new namespaces can't be made: %v", err)}
	}
	return nil
}

// Probe runs in new namespaces and says which of the kernel's parts is missing.
func Probe(ctx context.Context) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "probe0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "probe1"}); err != nil {
		return fmt.Errorf("its kernel has no veth links: %w", err)
	}
	attrs.Name = "probe2"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("its kernel has no bridges: %w", err)
	}
	for _, rule := range [][]string{
		{"nft", "add table ip probe"},
		{"nft", "add chain ip probe nat { type nat hook prerouting priority 0; }"},
		{"iptables", "-w", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "-m", "comment", "--comment", "probe", "-j", "DNAT", "--to-destination", "127.0.0.1:1"},
	} {
		if out, err := exec.CommandContext(ctx, rule[0], rule[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("its kernel lacks packet filtering: %s: %s", strings.Join(rule, " "), bytes.TrimSpace(out))
		}
	}
	return nil
}

// checkDisk says whether a build from nothing has room where it needs it.
func (l *Lab) checkDisk(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		return fmt.Errorf("ask go for its caches: %w", err)
	}
	for _, dir := range append(strings.Fields(string(out)), l.Cache) {
		var fs unix.Statfs_t
		if err := unix.Statfs(existing(dir), &fs); err != nil {
			return fmt.Errorf("ask for the free space of %s: %w", dir, err)
		}
		free := fs.Bavail * uint64(fs.Bsize)
		warm := uint64(coldBuild / 8)
		if cacheFilled(dir) && free >= warm || free >= coldBuild {
			continue
		}
		return &UnsupportedError{Reason: fmt.Sprintf("%s has %.1f GB left, and a first build takes %d", dir, float64(free)/1e9, coldBuild>>30)}
	}
	return nil
}

// cacheFilled says whether a cache of Go's holds something, so that less is to come.
func cacheFilled(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 200
}

// existing is the nearest folder above that is there.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func join(words []string) string { return strings.Join(words, " ") }
