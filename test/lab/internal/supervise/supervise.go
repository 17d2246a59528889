//go:build linux

// Package supervise starts the lab's programs, keeps them running, and reaps every child, orphans included: the
// process that uses it is the first of its PID namespace.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// restartDelay keeps a program that fails at once from taking the machine's processors.
const restartDelay = time.Second

// errStopped is what Start returns after the supervisor has ended.
var errStopped = errors.New("the supervisor has ended")

// Command is a program to run.
type Command struct {
	// Name names the log file, and the program in messages.
	Name string
	Path string
	Args []string
	Env  []string
	// Files are inherited after the three standard ones, from descriptor 3 on.
	Files []*os.File
	Attr  syscall.SysProcAttr
}

// Supervisor owns every wait for a child of this process. Nothing else in the process may wait, os/exec included.
type Supervisor struct {
	logDir string
	log    *slog.Logger
	starts chan func()

	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
}

// New returns a supervisor that writes each program's output to a file in logDir. It works until ctx ends; the
// children then die with the thread that started them (PR_SET_PDEATHSIG) once the process exits.
func New(ctx context.Context, logDir string, log *slog.Logger) *Supervisor {
	s := &Supervisor{
		logDir: logDir, log: log, starts: make(chan func()),
		waiting: map[int]chan syscall.WaitStatus{},
	}
	go s.starter(ctx)
	go s.reap(ctx)
	return s
}

// starter runs every start on one thread that lives as long as the supervisor: the kernel sends a child its parent
// death signal when the thread that made it ends, and Go ends threads as it likes.
func (s *Supervisor) starter(ctx context.Context) {
	runtime.LockOSThread()
	for {
		select {
		case start := <-s.starts:
			start()
		case <-ctx.Done():
			// The thread stays locked and so outlives the goroutine only until the process exits.
			return
		}
	}
}

// Keep starts the command and starts it again whenever it ends, until ctx ends.
func (s *Supervisor) Keep(ctx context.Context, c Command) error {
	_, done, err := s.Start(ctx, c)
	if err != nil {
		return err
	}
	go func() {
		for {
			select {
			case status := <-done:
				s.log.Error("ended, starting it again", "program", c.Name, "status", describe(status))
			case <-ctx.Done():
				return
			}
			for {
				if !sleep(ctx, restartDelay) {
					return
				}
				if _, done, err = s.Start(ctx, c); err == nil {
					break
				}
				s.log.Error("start", "program", c.Name, "error", err)
			}
		}
	}()
	return nil
}

// Run starts the command and waits for its end; an exit status other than zero is an error.
func (s *Supervisor) Run(ctx context.Context, c Command) error {
	pid, done, err := s.Start(ctx, c)
	if err != nil {
		return err
	}
	select {
	case status := <-done:
		if status.ExitStatus() != 0 {
			return fmt.Errorf("%s: %s (see %s)", c.Name, describe(status), s.logFile(c.Name))
		}
		return nil
	case <-ctx.Done():
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop %s: %w", c.Name, err)
		}
		return fmt.Errorf("%s: %w (see %s)", c.Name, ctx.Err(), s.logFile(c.Name))
	}
}

// Start starts the command and returns its process id and a channel that receives its exit status.
func (s *Supervisor) Start(ctx context.Context, c Command) (int, <-chan syscall.WaitStatus, error) {
	type result struct {
		pid  int
		done chan syscall.WaitStatus
		err  error
	}
	out := make(chan result, 1)
	select {
	case s.starts <- func() {
		pid, done, err := s.start(c)
		out <- result{pid, done, err}
	}:
	case <-ctx.Done():
		return 0, nil, errStopped
	}
	r := <-out
	return r.pid, r.done, r.err
}

func (s *Supervisor) start(c Command) (int, chan syscall.WaitStatus, error) {
	log, err := os.OpenFile(s.logFile(c.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, nil, err
	}
	defer null.Close()
	attr := c.Attr
	attr.Pdeathsig = syscall.SIGKILL
	// The lock keeps the reaper from seeing the child's end before it is known.
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := os.StartProcess(c.Path, append([]string{c.Path}, c.Args...), &os.ProcAttr{
		Env: c.Env, Files: append([]*os.File{null, log, log}, c.Files...), Sys: &attr,
	})
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	pid := p.Pid
	if err := p.Release(); err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	done := make(chan syscall.WaitStatus, 1)
	s.waiting[pid] = done
	return pid, done, nil
}

// reap collects every child that ended, the supervisor's own and those that their parents left behind.
func (s *Supervisor) reap(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	defer signal.Stop(signals)
	for {
		select {
		case <-signals:
		case <-time.After(time.Second):
		case <-ctx.Done():
			return
		}
		for s.reapOne() {
		}
	}
}

func (s *Supervisor) reapOne() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if done, ok := s.waiting[pid]; ok {
		delete(s.waiting, pid)
		done <- status
	}
	return true
}

func (s *Supervisor) logFile(name string) string { return filepath.Join(s.logDir, name+".log") }

// Tail returns the end of a program's log, at most size bytes, for an error message.
func (s *Supervisor) Tail(name string, size int64) string {
	f, err := os.Open(s.logFile(name))
	if err != nil {
		return ""
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		if _, err := f.Seek(max(0, end-size), io.SeekStart); err != nil {
			return ""
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return ""
	}
	return string(text)
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
