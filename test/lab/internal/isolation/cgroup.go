//go:build linux

package isolation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Cgroup is a subtree of the machine's control groups that is the lab's own, in every hierarchy.
type Cgroup struct {
	Name string
}

// wanted are the controllers that the kubelet asks for on a machine with cgroup v2.
var wanted = []string{"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}

// Create makes the subtree with the children. On cgroup v2 it returns the controllers that it had to switch on at
// the root, for Remove to switch off again.
func (c Cgroup) Create(children []string) ([]string, error) {
	roots, unified, err := cgroupRoots()
	if err != nil {
		return nil, err
	}
	var added []string
	if unified {
		if added, err = enable(roots[0]); err != nil {
			return nil, err
		}
	}
	for _, root := range roots {
		parent := filepath.Join(root, c.Name)
		if err := makeGroup(root, parent, unified); err != nil {
			return added, err
		}
		for _, child := range children {
			if err := makeGroup(parent, filepath.Join(parent, child), unified); err != nil {
				return added, err
			}
		}
	}
	return added, nil
}

// Remove takes the subtree away; its processes must have ended, which the kernel may need a moment to see.
func (c Cgroup) Remove(ctx context.Context, added []string) error {
	roots, unified, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := removeTree(ctx, filepath.Join(root, c.Name)); err != nil {
			return err
		}
	}
	if unified && len(added) > 0 {
		return os.WriteFile(filepath.Join(roots[0], "cgroup.subtree_control"), []byte("-"+strings.Join(added, " -")), 0o644)
	}
	return nil
}

// Exists says whether any hierarchy holds the subtree.
func (c Cgroup) Exists() bool {
	roots, _, err := cgroupRoots()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(roots, func(root string) bool {
		_, err := os.Stat(filepath.Join(root, c.Name))
		return err == nil
	})
}

// cgroupRoots lists the hierarchies' mount points and says whether cgroup v2 is the only one.
func cgroupRoots() (roots []string, unified bool, err error) {
	mounts, err := readMounts()
	if err != nil {
		return nil, false, err
	}
	for _, m := range mounts {
		if (m.kind == "cgroup" || m.kind == "cgroup2") && strings.HasPrefix(m.point, "/sys/fs/cgroup") {
			roots = append(roots, m.point)
			unified = m.kind == "cgroup2"
		}
	}
	if len(roots) == 0 {
		return nil, false, errors.New("no cgroups are mounted below /sys/fs/cgroup")
	}
	return roots, unified && len(roots) == 1, nil
}

func makeGroup(parent, group string, unified bool) error {
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the cgroup %s: %w", group, err)
	}
	if unified {
		_, err := enable(group)
		return err
	}
	return copyCpuset(parent, group)
}

// copyCpuset fills in what a new group of the v1 cpuset hierarchy lacks; without it no process may enter.
func copyCpuset(parent, group string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(group, file), value, 0o644); err != nil {
			return fmt.Errorf("set %s of %s: %w", file, group, err)
		}
	}
	return nil
}

// enable passes the wanted controllers that group has on to its children, and returns those that were not before.
func enable(group string) ([]string, error) {
	has, err := os.ReadFile(filepath.Join(group, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	control := filepath.Join(group, "cgroup.subtree_control")
	on, err := os.ReadFile(control)
	if err != nil {
		return nil, err
	}
	var added []string
	for _, controller := range wanted {
		if slices.Contains(strings.Fields(string(has)), controller) && !slices.Contains(strings.Fields(string(on)), controller) {
			added = append(added, controller)
		}
	}
	if len(added) == 0 {
		return nil, nil
	}
	if err := os.WriteFile(control, []byte("+"+strings.Join(added, " +")), 0o644); err != nil {
		return nil, fmt.Errorf("switch the controllers %s of %s on: %w", strings.Join(added, ", "), group, err)
	}
	return added, nil
}

func removeTree(ctx context.Context, group string) error {
	for {
		err := removeOnce(group)
		if err == nil || !errors.Is(err, syscall.EBUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove the cgroup %s: %w", group, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func removeOnce(group string) error {
	entries, err := os.ReadDir(group)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeOnce(filepath.Join(group, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(group); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}
