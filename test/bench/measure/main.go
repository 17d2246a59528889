//go:build unix

// Command measure runs a command and writes to a file how long it took and what it used: what GNU time does, for
// machines without it. It is a program of its own because a process counts the memory of the one that it was forked
// from: started by a small one, it counts its own.
//
//	measure FILE COMMAND [ARGUMENT...]
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// Usage is what the file holds.
type Usage struct {
	Seconds float64 `json:"seconds"` // by the clock
	CPU     float64 `json:"cpu"`     // seconds of the processor: the command and its children, added up
	Peak    int64   `json:"peak"`    // resident bytes: the greatest of the command and its children
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: measure FILE COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	code, err := run(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
	}
	os.Exit(code)
}

func run(file string, command []string) (int, error) {
	// A signal goes to the whole process group: the command ends by it, and measure after the command.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // whoever ends measure ends its process group
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	begin := time.Now()
	err := cmd.Run()
	seconds := time.Since(begin).Seconds()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	if exit != nil && !exit.Exited() {
		return 1, fmt.Errorf("%s: %w", command[0], err)
	}
	text, err := json.Marshal(usageOf(cmd.ProcessState, seconds))
	if err != nil {
		return 1, err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return 1, err
	}
	return cmd.ProcessState.ExitCode(), nil
}

// usageOf counts the children that the command waited for, too: wait4 adds them up, or takes the greatest.
func usageOf(state *os.ProcessState, seconds float64) Usage {
	u := Usage{Seconds: seconds, CPU: (state.UserTime() + state.SystemTime()).Seconds()}
	if r, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.Peak = int64(r.Maxrss) //nolint:unconvert // 32 bits wide on some platforms
		if runtime.GOOS != "darwin" {
			u.Peak *= 1024 // getrusage(2): kilobytes, but bytes on macOS
		}
	}
	return u
}
