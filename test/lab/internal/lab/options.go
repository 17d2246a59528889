// Package lab brings a lab up and takes it away: it prepares what the lab needs, starts its first process, and knows
// from the lab's folder alone how things stand.
package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Defaults of the command's flags.
const (
	DefaultDir   = "/var/tmp/pwdeploy-lab"
	DefaultCache = "/var/tmp/pwdeploy-lab-cache"
)

// module is the path of the Go module that holds the lab.
const module = "github.com/pwdeploy/pwdeploy/test/lab"

// Options are what a user may choose.
type Options struct {
	// Dir holds a lab's state, Cache what is built for every lab.
	Dir, Cache string
	// Index chooses the lab's addresses; it is -1 to let the lab choose one that is free.
	Index int
	Nodes int
	// ControlPlane asks for a lab without nodes.
	ControlPlane bool
	// Charts is a folder with the charts to serve, or empty for the stand-ins.
	Charts string
	// Timeout bounds the boot, BuildTimeout everything before it.
	Timeout, BuildTimeout time.Duration
}

// UnsupportedError says why this machine can't run a lab.
type UnsupportedError struct{ Reason string }

func (e *UnsupportedError) Error() string {
	return "this machine can't run the lab: " + e.Reason + "; use kind (https://kind.sigs.k8s.io) or minikube instead"
}

// NotUpError says that there is no lab where one is asked for.
type NotUpError struct{ Dir string }

func (e *NotUpError) Error() string {
	return fmt.Sprintf("no lab is up in %s: start one with `lab up`", e.Dir)
}

// Lab is a lab in a folder, whether it is up or not.
type Lab struct {
	Options
	// Source is the folder of the lab's Go module, Project that of the product's.
	Source, Project string
	// Out receives progress and results.
	Out io.Writer
}

// New checks the options and finds the source code, which it looks for from the working folder upwards.
func New(o Options, out io.Writer) (*Lab, error) {
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if o.Cache, err = filepath.Abs(o.Cache); err != nil {
		return nil, err
	}
	return &Lab{Options: o, Out: out}, nil
}

// findSource sets Source and Project.
func (l *Lab) findSource() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	for {
		for _, candidate := range []string{dir, filepath.Join(dir, "test", "lab")} {
			if holdsModule(candidate) {
				l.Source, l.Project = candidate, filepath.Join(candidate, "..", "..")
				return nil
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return errors.New("the lab's source code isn't here: call lab from within the project, as in `go run -C test/lab ./cmd/lab up`")
		}
		dir = parent
	}
}

func holdsModule(dir string) bool {
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	return err == nil && len(text) > len(module)+8 && string(text[:len(module)+8]) == "module "+module+"\n"
}
