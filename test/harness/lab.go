package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// labDirVariable names the folder of a control plane that is up already (lab up --control-plane): then none is
// started, and that one stays.
const labDirVariable = "PWDEPLOY_TEST_LAB_DIR"

// openLab gives this process the variables of the control plane to test against.
func openLab() (stop func(), err error) {
	if dir := os.Getenv(labDirVariable); dir != "" {
		return func() {}, useLab(dir)
	}
	lab, err := startLab()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.Setenv(labDirVariable, lab.dir), useLab(lab.dir)); err != nil {
		lab.stop()
		return nil, err
	}
	return lab.stop, nil
}

// useLab takes over the lab's variables, before anything reads them: Go looks at HTTPS_PROXY and SSL_CERT_FILE once.
func useLab(dir string) error {
	environ, err := labEnviron(dir)
	if err != nil {
		return err
	}
	for _, assignment := range environ {
		name, value, _ := strings.Cut(assignment, "=")
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// labEnviron reads the environment in which an unchanged pwdeploy works against the lab.
func labEnviron(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		return nil, fmt.Errorf("read the lab's variables: %w", err)
	}
	var environ []string
	for line := range strings.Lines(string(text)) {
		assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "export ")
		name, value, found := strings.Cut(assignment, "=")
		if ok && found {
			environ = append(environ, name+"="+strings.ReplaceAll(strings.Trim(value, "'"), `'\''`, "'"))
		}
	}
	return environ, nil
}

// lab is a control plane that this run started.
type lab struct {
	dir    string // the lab's folder
	root   string // holds the lab's folder and program
	keeper *exec.Cmd
	alive  io.Closer // closed when this process ends, however it does
}

// startLab builds the lab's program and brings a control plane up in a folder with a short name.
func startLab() (*lab, error) {
	root, err := os.MkdirTemp("", "pwit")
	if err != nil {
		return nil, err
	}
	l := &lab{root: root, dir: filepath.Join(root, "state")}
	source, err := filepath.Abs("../lab")
	if err == nil {
		err = command(source, "go", "build", "-o", l.program(), "./cmd/lab")
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := l.startKeeper(source); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := command(source, l.program(), "up", "--control-plane", "--dir", l.dir); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (l *lab) program() string { return filepath.Join(l.root, "lab") }

// startKeeper starts a process that takes the lab away when this one ends, be it killed or out of time: it waits for
// the end of a pipe that only this process holds open.
func (l *lab) startKeeper(source string) error {
	l.keeper = exec.CommandContext(context.Background(), "sh", "-c", `cat >/dev/null; "$1" down --dir "$2" >"$3/down" 2>&1 || cat "$3/down" >&2; rm -rf "$3"`,
		"keeper", l.program(), l.dir, l.root)
	l.keeper.Dir, l.keeper.Stderr = source, os.Stderr
	l.keeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is not for it
	pipe, err := l.keeper.StdinPipe()
	if err != nil {
		return err
	}
	l.alive = pipe
	return l.keeper.Start()
}

func (l *lab) stop() {
	l.alive.Close()
	if err := l.keeper.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "the control plane could not be taken away:", err)
	}
}

// command runs a program; its last lines become the error.
func command(dir string, name string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if len(out) > 0 && err != nil {
		err = fmt.Errorf("%w: %s", err, lastLines(string(out), 5))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(name), args[0], err)
	}
	return nil
}

func lastLines(text string, n int) string {
	var lines []string
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
