//go:build linux

// Package isolation keeps the lab apart from the machine that it runs on: namespaces, mounts, links and cgroups, each
// of which ends with the lab's first process or is taken away by name.
package isolation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// NodeNamespaces are the namespaces of a node: processes (so that the end of the first ends all), mounts, network,
// host name and System V IPC.
const NodeNamespaces = unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC

// Hidden are the folders of the machine that a node replaces by empty ones, because programs write there under fixed
// names. The lab's own folder can't be below one of them.
var hidden = []string{"/run", "/var/lib", "/var/log"}

// CheckDir says why a folder can't hold a lab.
func CheckDir(dir string) error {
	for _, h := range hidden {
		if dir == h || strings.HasPrefix(dir, h+"/") {
			return fmt.Errorf("the lab's folder %s is below %s, which the lab's nodes replace by an empty one: choose another with LAB_DIR", dir, h)
		}
	}
	return nil
}

// kubeletSysctls are global settings that the kubelet writes when they differ from what it wants. It gets files of
// the same names and values to look at, so that the machine keeps its own.
// Source: pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables.
var kubeletSysctls = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// SetUpMounts makes the mount namespace of this process a node's own: nothing that is mounted from here on is seen by
// the machine, and what the node's programs write to fixed places is gone with it.
func SetUpMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := mountSys(); err != nil {
		return err
	}
	for _, dir := range hidden {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
			return fmt.Errorf("mount an empty %s: %w", dir, err)
		}
	}
	if err := coverSysctls(); err != nil {
		return err
	}
	// Kubernetes passes mounts on to containers, for which they have to be shared.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	return nil
}

// mountSys gives the node a /sys that shows its own network links, with the machine's cgroups in it.
func mountSys() error {
	aside, err := os.MkdirTemp("", "pwdeploy-lab-cgroup")
	if err != nil {
		return err
	}
	defer os.Remove(aside)
	const cgroups = "/sys/fs/cgroup"
	if err := unix.Mount(cgroups, aside, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s aside: %w", cgroups, err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount(aside, cgroups, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s back: %w", cgroups, err)
	}
	if err := unix.Unmount(aside, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", aside, err)
	}
	return nil
}

func coverSysctls() error {
	dir := "/run/sysctl"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, value := range kubeletSysctls {
		target := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(target); err != nil {
			continue // this kernel has no such setting, and the kubelet won't miss it
		}
		cover := filepath.Join(dir, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(cover, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(cover, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", target, err)
		}
	}
	return nil
}

// MountsBelow lists the mounts of the machine below dir, the deepest first.
func MountsBelow(dir string) ([]string, error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, err
	}
	var below []string
	for _, m := range mounts {
		if strings.HasPrefix(m.point, dir+"/") {
			below = append(below, m.point)
		}
	}
	slices.Reverse(below)
	return below, nil
}

type mount struct{ point, kind string }

func readMounts() ([]mount, error) {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var mounts []mount
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 {
			mounts = append(mounts, mount{point: f[1], kind: f[2]})
		}
	}
	return mounts, nil
}
