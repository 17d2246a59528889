package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/cluster"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/isolation"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/progress"
)

// boot starts the lab's first process and follows it until everything is ready.
func (l *Lab) boot(ctx context.Context, p *progress.Printer, spec cluster.Spec) error {
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	if err := l.makeCgroups(spec); err != nil {
		return err
	}
	events, err := l.spawn(spec)
	if err != nil {
		return err
	}
	defer events.Close()
	last := time.Duration(0)
	err = cluster.Follow(ctx, events, func(e cluster.Event) {
		if e.Step != "" {
			p.Done("boot", e.Step, e.Elapsed-last)
			last = e.Elapsed
		}
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.Dir, readyFile), nil, 0o644)
}

func (l *Lab) makeCgroups(spec cluster.Spec) error {
	if spec.ControlPlane {
		return nil
	}
	var nodes []string
	for node := range spec.Nodes {
		nodes = append(nodes, cluster.NodeName(node+1))
	}
	added, err := isolation.Cgroup{Name: spec.Name()}.Create(nodes)
	if len(added) > 0 {
		err = errors.Join(err, os.WriteFile(filepath.Join(l.Dir, cgroupFile), []byte(join(added)), 0o644))
	}
	return err
}

// spawn starts the first process, in namespaces of its own where the lab has nodes, connects it to the machine, and
// returns where its events come from.
func (l *Lab) spawn(spec cluster.Spec) (io.ReadCloser, error) {
	self, err := l.installSelf(spec)
	if err != nil {
		return nil, err
	}
	gate, openGate, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer openGate.Close()
	events, report, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	files := []*os.File{gate, report}
	err = l.startFirst(spec, self, files)
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		events.Close()
		return nil, err
	}
	return events, nil
}

// startFirst starts the first process. It keeps the lock on the lab's file alive: nothing else tells as surely
// whether it lives.
func (l *Lab) startFirst(spec cluster.Spec, self string, files []*os.File) error {
	alive, err := os.OpenFile(filepath.Join(l.Dir, aliveFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer alive.Close()
	if err := unix.Flock(int(alive.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock %s: %w", alive.Name(), err)
	}
	log, err := os.OpenFile(spec.Path("log", "lab.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	node := 1
	attr := &syscall.SysProcAttr{Setsid: true, Cloneflags: isolation.NodeNamespaces}
	if spec.ControlPlane {
		node, attr.Cloneflags = 0, 0
	}
	//nolint:noctx // it outlives this command
	c := exec.Command(self, "boot", "--dir", l.Dir, "--node", fmt.Sprint(node), "--timeout", l.Timeout.String())
	c.Stdout, c.Stderr, c.SysProcAttr, c.Dir = log, log, attr, "/"
	c.ExtraFiles = slices.Concat(files, []*os.File{alive})
	if err := c.Start(); err != nil {
		return fmt.Errorf("start the lab's first process: %w", err)
	}
	if err := os.WriteFile(filepath.Join(l.Dir, pidFile), []byte(fmt.Sprintln(c.Process.Pid)), 0o644); err != nil {
		return err
	}
	if spec.ControlPlane {
		return nil
	}
	return isolation.Attach(spec.Name(), spec.Network().Host, c.Process.Pid)
}

// installSelf copies this program into the lab's folder: `go run` takes its own away when it ends.
func (l *Lab) installSelf(spec cluster.Spec) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(self)
	if err != nil {
		return "", err
	}
	target := spec.Path("bin", "lab")
	return target, os.WriteFile(target, content, 0o755)
}

// load loads an image into the runtime of each node.
func (l *Lab) load(ctx context.Context, spec cluster.Spec, image cluster.Image) error {
	if spec.ControlPlane {
		return nil
	}
	for node := range spec.Nodes {
		for _, args := range image.ImportArgs(spec.Socket(node + 1)) {
			if out, err := exec.CommandContext(ctx, "ctr", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("load the image %s on %s: %w\n%s", image.Name, cluster.NodeName(node+1), err, out)
			}
		}
	}
	return nil
}

// LoadImage loads an archive of the user's into the nodes of the lab that is up.
func (l *Lab) LoadImage(ctx context.Context, file string) error {
	spec, err := l.up()
	if err != nil {
		return err
	}
	if spec.ControlPlane {
		return errors.New("this lab has no nodes that could run an image")
	}
	if err := l.load(ctx, spec, cluster.Image{Name: file, Archive: file}); err != nil {
		return err
	}
	fmt.Fprintf(l.Out, "loaded %s on %d node(s)\n", file, spec.Nodes)
	return nil
}
