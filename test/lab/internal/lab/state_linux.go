package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/cluster"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/isolation"
)

// Names in the lab's folder.
const (
	// aliveFile is locked as long as the lab's first process lives.
	aliveFile = "alive"
	// lockFile is locked by a command that changes the lab.
	lockFile = "lock"
	// pidFile holds the process id of the first process, readyFile is written when the lab has booted.
	pidFile   = "pid"
	readyFile = "ready"
	// cgroupFile holds the cgroup controllers that the lab switched on.
	cgroupFile = "cgroup-controllers"
)

// contents are what a lab puts into its folder; `down` removes these and nothing else.
var contents = []string{
	"spec.json", "images.json", "kubeconfig", "env", "ca.crt", "kwok.yaml", aliveFile, pidFile, readyFile, cgroupFile,
	"pki", "etcd", "log", "charts", "storage", "user-cache", "flexvolume", "bin", cluster.NodeName(1), cluster.NodeName(2),
}

// lock keeps a second command away from the lab until the returned function is called.
func (l *Lab) lock(ctx context.Context) (func(), error) {
	if err := isolation.CheckDir(l.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(l.Dir, lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !said {
			fmt.Fprintf(l.Out, "waiting for another lab command in %s\n", l.Dir)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another lab command holds %s: %w", f.Name(), ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// alive says whether the lab's first process lives.
func (l *Lab) alive() (bool, error) {
	f, err := os.Open(filepath.Join(l.Dir, aliveFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// up returns the spec of the lab that is up.
func (l *Lab) up() (cluster.Spec, error) {
	alive, err := l.alive()
	if err != nil {
		return cluster.Spec{}, err
	}
	if _, err := os.Stat(filepath.Join(l.Dir, readyFile)); !alive || err != nil {
		return cluster.Spec{}, &NotUpError{Dir: l.Dir}
	}
	return cluster.Load(l.Dir)
}

// Down takes the lab away: processes, links, cgroups, mounts, and what is in its folder.
func (l *Lab) Down(ctx context.Context) error {
	if _, err := os.Stat(l.Dir); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(l.Out, "no lab in %s\n", l.Dir)
		return nil
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	start := time.Now()
	if err := l.remove(ctx); err != nil {
		return err
	}
	if err := errors.Join(removeIfThere(filepath.Join(l.Dir, lockFile)), removeEmpty(l.Dir)); err != nil {
		return err
	}
	fmt.Fprintf(l.Out, "the lab in %s is gone after %.1fs; its programs and images stay in %s\n", l.Dir, time.Since(start).Seconds(), l.Cache)
	return nil
}

// remove ends what is left of a lab, whatever state it is in.
func (l *Lab) remove(ctx context.Context) error {
	if err := l.halt(ctx); err != nil {
		return err
	}
	for _, name := range contents {
		if err := os.RemoveAll(filepath.Join(l.Dir, name)); err != nil {
			return fmt.Errorf("remove the lab's files: %w", err)
		}
	}
	return nil
}

// halt ends a lab and leaves its files, for a look at the logs.
func (l *Lab) halt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := l.stop(ctx); err != nil {
		return err
	}
	spec, err := cluster.Load(l.Dir)
	if err == nil && !spec.ControlPlane {
		err = l.removeFromMachine(ctx, spec)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// stop kills the lab's first process and waits for the end of all.
func (l *Lab) stop(ctx context.Context) error {
	alive, err := l.alive()
	if err != nil || !alive {
		return err
	}
	text, err := os.ReadFile(filepath.Join(l.Dir, pidFile))
	if err != nil {
		return fmt.Errorf("find the lab's first process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("find the lab's first process: %w", err)
	}
	// The group: a lab in a PID namespace ends with its first process alone, one without has its children there.
	if err := unix.Kill(-pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the lab's first process: %w", err)
	}
	for groupLives(pid) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the lab's processes don't end: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// groupLives says whether a process group has a member that hasn't ended. One that only its parent hasn't noticed yet
// has ended.
func groupLives(group int) bool {
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return false
	}
	for _, file := range processes {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// After the name in parentheses: state, parent, group. Source: proc_pid_stat(5).
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(group) && fields[0] != "Z" && fields[0] != "X" {
			return true
		}
	}
	return false
}

// removeFromMachine takes away what the end of the processes leaves behind.
func (l *Lab) removeFromMachine(ctx context.Context, spec cluster.Spec) error {
	if err := isolation.Detach(spec.Name()); err != nil {
		return err
	}
	mounts, err := isolation.MountsBelow(l.Dir)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	added, err := os.ReadFile(filepath.Join(l.Dir, cgroupFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return isolation.Cgroup{Name: spec.Name()}.Remove(ctx, strings.Fields(string(added)))
}

func removeIfThere(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeEmpty removes a folder unless somebody else's files are in it.
func removeEmpty(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}
