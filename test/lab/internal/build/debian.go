package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
)

// suite is the Debian release whose packages go into the images.
const suite = "bookworm"

// tools are the programs of the machine that a lab needs, with the Debian package of each. A program that is there
// already, from whatever package, is left alone.
var tools = []struct{ path, pkg string }{
	{"/usr/bin/containerd", "containerd"},
	{"/usr/bin/ctr", "containerd"},
	{"/usr/bin/containerd-shim-runc-v2", "containerd"},
	{"/usr/sbin/runc", "runc"},
	{"/usr/lib/cni/bridge", "containernetworking-plugins"},
	{"/usr/lib/cni/portmap", "containernetworking-plugins"},
	{"/usr/sbin/iptables", "iptables"},
	{"/usr/sbin/nft", "nftables"},
	{"/usr/bin/mmdebstrap", "mmdebstrap"},
	{"/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"},
}

// MissingPackages are the Debian packages that the lab needs and the machine lacks.
func MissingPackages() []string {
	var missing []string
	for _, t := range tools {
		if present(t.path) || len(missing) > 0 && missing[len(missing)-1] == t.pkg {
			continue
		}
		missing = append(missing, t.pkg)
	}
	return missing
}

// present says whether a tool is there, also where another distribution's package puts it.
func present(path string) bool {
	for _, p := range []string{path, strings.Replace(path, "/sbin/", "/bin/", 1), strings.Replace(path, "/usr/", "/usr/local/", 1)} {
		if _, err := os.Stat(p); err == nil {
			return true
		}
	}
	return false
}

// policy is the file by which a Debian system is told, while packages are installed, not to start their services.
const policy = "/usr/sbin/policy-rc.d"

// Install installs Debian packages, without starting any service that comes with them.
func Install(ctx context.Context, packages []string) (err error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("the machine lacks %s, and there is no apt-get to install them with: %w", strings.Join(packages, ", "), err)
	}
	undo, err := denyServices()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	install := append([]string{"install", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"}, packages...)
	if apt(ctx, install...) == nil {
		return nil
	}
	// The package lists may be older than the packages on the mirror, or not there at all.
	if err := apt(ctx, "update"); err != nil {
		return err
	}
	return apt(ctx, install...)
}

// denyServices returns what takes the ban away again; one that was there before stays.
func denyServices() (undo func() error, err error) {
	f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, fs.ErrExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keep new services from starting: %w", err)
	}
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	return func() error { return os.Remove(policy) }, errors.Join(err, f.Close())
}

func apt(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, "apt-get", args...)
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_SUSPEND=1")
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, tail(out))
	}
	return nil
}

// Root is a root file system made from Debian packages.
type Root struct {
	// Name is the file name in the cache, Packages what it holds besides the packages that every Debian has.
	Name     string
	Packages []string
}

// Build makes the root file system, a tar archive, unless the cache has it.
func (r Root) Build(ctx context.Context, cache Cache, arch string) (string, error) {
	name := "roots/" + r.Name + "-" + arch + ".tar"
	args := []string{
		"--quiet", "--variant=essential", "--mode=root", "--format=tar", "--architectures=" + arch,
		"--include=" + strings.Join(r.Packages, ","),
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
		"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/info/*",
		"--aptopt=Acquire::Retries \"3\"",
	}
	key, err := Key(append(args, suite))
	if err != nil {
		return "", err
	}
	_, err = cache.Ensure(ctx, name, key, func(ctx context.Context, file string) error {
		c := exec.CommandContext(ctx, "mmdebstrap", append(args, suite, file)...)
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("mmdebstrap: %w\n%s", err, tail(out))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("make the root file system %s: %w", r.Name, err)
	}
	return cache.Path(name), nil
}

// tail is the end of a program's output, for an error message.
func tail(out []byte) []byte {
	out = bytes.TrimSpace(out)
	return out[max(0, len(out)-1500):]
}
