package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

// Exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnhealthy   = 3
	exitNoCluster   = 4
	exitLocked      = 5
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// usageError is a command line that can't be carried out.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

// Hint says what to do.
func (e *usageError) Hint() string { return e.hint }

// errUnhealthy ends status where the deployment is not healthy: the result has said why already.
var errUnhealthy = errors.New("not healthy")

// errTold ends a command that failed where the failure has been explained already.
var errTold = errors.New("failed, as told")

// report writes an error and gives the exit code.
func (a *app) report(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errUnhealthy):
		return exitUnhealthy
	case errors.Is(err, errTold):
		return exitFailed
	case ctx.Err() != nil:
		a.interrupted(err)
		return exitInterrupted
	}
	if !a.parsed {
		err = &usageError{message: err.Error(), hint: "pwdeploy --help shows what there is"}
	}
	a.explain(err)
	return exitCode(err)
}

func exitCode(err error) int {
	var (
		usage     *usageError
		input     *stack.InputError
		settings  *config.Error
		noCluster *kube.ConnectError
		locked    *kube.LockedError
	)
	switch {
	case errors.As(err, &usage), errors.As(err, &input), errors.As(err, &settings):
		return exitUsage
	case errors.As(err, &noCluster):
		return exitNoCluster
	case errors.As(err, &locked):
		return exitLocked
	}
	return exitFailed
}

// untouched is why a command that changes a deployment ended before it could change anything.
func untouched(cmd *cobra.Command, err error) error {
	return &stack.UnfinishedError{Command: cmd.Name(), Err: err}
}

// interrupted writes the last words of a command that was interrupted.
func (a *app) interrupted(err error) {
	fmt.Fprintln(a.Err)
	var unfinished *stack.UnfinishedError
	if errors.As(err, &unfinished) {
		ui.Interrupted(a.Err, a.style, unfinished)
		return
	}
	fmt.Fprintln(a.Err, "Interrupted.")
}

// explain writes what failed, why, and what to do, one error a paragraph; and last, where the command changes
// something, the state in which it left the cluster.
func (a *app) explain(err error) {
	var up *stack.UpError
	if errors.As(err, &up) {
		for _, f := range up.Failures {
			a.explainOne(string(f.Component)+": ", f.Err)
		}
		if up.Timeout {
			fmt.Fprintln(a.Err, "\nThe time that --timeout gives is up.")
		}
	} else {
		for _, e := range flatten(err) {
			a.explainOne("", e)
		}
	}
	var unfinished *stack.UnfinishedError
	if errors.As(err, &unfinished) {
		fmt.Fprintln(a.Err)
		ui.Failed(a.Err, a.style, unfinished)
	}
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var out []error
		for _, e := range joined.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

func (a *app) explainOne(prefix string, err error) {
	var notReady *kube.NotReadyError
	if errors.As(err, &notReady) {
		fmt.Fprintf(a.Err, "%s %s%s\n", a.style.Bad("Error:"), prefix, notReady.Short())
		for _, o := range notReady.Objects {
			a.explainObject(o)
		}
	} else {
		fmt.Fprintf(a.Err, "%s %s%s\n", a.style.Bad("Error:"), prefix, indent(err.Error()))
	}
	var hinted kube.Hinted
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		fmt.Fprintf(a.Err, "%s %s\n", a.style.Warn("Hint:"), indent(hinted.Hint()))
	}
}

// explainObject writes an object that is not ready and the cause, with the log of what crashed.
func (a *app) explainObject(o kube.Readiness) {
	fmt.Fprintf(a.Err, "  %s: %s\n", o.Ref, o.Message)
	if o.Problem == nil {
		return
	}
	fmt.Fprintf(a.Err, "  %s: %s\n", o.Problem.Ref, a.style.Bold(o.Problem.Reason))
	if o.Problem.Message != "" {
		fmt.Fprintf(a.Err, "    %s\n", indent(o.Problem.Message))
	}
	for _, line := range o.Problem.Evidence {
		fmt.Fprintf(a.Err, "    | %s\n", line)
	}
}

func indent(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n       ")
}

func (a *app) warn(message string) {
	fmt.Fprintf(a.Err, "%s %s\n", a.style.Warn("Warning:"), message)
}
