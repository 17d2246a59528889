package cli

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

// rollbackFlags are those that only rollback has.
type rollbackFlags struct {
	stack.RollbackOptions
	yes bool
}

func (a *app) rollbackCommand() *cobra.Command {
	var f rollbackFlags
	cmd := &cobra.Command{
		Use:   "rollback [REVISION]",
		Short: "Return the app and the releases to what was deployed before",
		Long: `Goes back to the last revision that was deployed and is not in use now, or to the one that is
named: the app's objects as they were applied, the releases as Helm has kept them. It waits
and proves it by a request, as up does. Redis' data and password stay as they are.
pwdeploy history lists the revisions.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				number, err := strconv.Atoi(args[0])
				if err != nil || number < 1 {
					return &usageError{message: fmt.Sprintf("%q is not the number of a revision", args[0]), hint: "pwdeploy history lists them"}
				}
				f.Revision = number
			}
			return a.rollback(cmd, f)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	lockTimeoutFlag(cmd, &f.LockTimeout)
	cmd.Flags().BoolVar(&f.TakeOver, "take-over", false, "set fields that somebody else has set, too")
	recreateFlag(cmd, &f.Recreate)
	return cmd
}

func (a *app) rollback(cmd *cobra.Command, f rollbackFlags) error {
	cfg, err := a.config(cmd)
	if err != nil {
		return untouched(cmd, err)
	}
	if !f.yes && !a.interactive() {
		return &usageError{message: "rollback asks before it changes anything, and there is no terminal to ask on", hint: "give --yes"}
	}
	progress := ui.NewProgress(a.Err, a.style, a.getenv)
	defer progress.Close()
	engine, err := a.open(cmd.Context(), cfg, "Rolling back", progress)
	if err != nil {
		return untouched(cmd, err)
	}
	planned, err := engine.PlanRollback(cmd.Context(), f.RollbackOptions)
	if err != nil {
		return untouched(cmd, err)
	}
	ui.RollbackPlan(a.Err, planned, time.Now())
	if !f.yes && !a.confirm(cmd.Context(), "Go ahead?") {
		return a.declined(cmd, "Nothing was changed.")
	}
	done := stopping(cmd.Context(), progress)
	result, err := engine.Rollback(cmd.Context(), planned)
	done()
	progress.Close()
	if err != nil {
		return err
	}
	return a.print(result, func() { ui.Rollback(a.Out, ui.NewStyle(a.Out, a.getenv), result) })
}

// rollBackFailed goes back after an up that failed, if there is something to go back to. The failure is told first,
// and stays the outcome of the command.
func (a *app) rollBackFailed(cmd *cobra.Command, cfg config.Config, failure error) error {
	var up *stack.UpError
	if !errors.As(failure, &up) || cmd.Context().Err() != nil {
		return failure
	}
	unfinished := &stack.UnfinishedError{}
	errors.As(failure, &unfinished)
	back := func(err error) error {
		return &stack.UnfinishedError{Command: "rollback", State: unfinished.State, Err: err}
	}
	a.explain(failure)
	fmt.Fprintln(a.Err)
	if up.Back == nil {
		fmt.Fprintln(a.Err, "Not rolled back: nothing else was deployed before. What there is stays, to be looked at.")
		return errTold
	}
	progress := ui.NewProgress(a.Err, a.style, a.getenv)
	defer progress.Close()
	engine, err := a.open(cmd.Context(), cfg, "Rolling back", progress)
	if err != nil {
		return back(err)
	}
	planned, err := engine.PlanRollback(cmd.Context(), stack.RollbackOptions{Revision: up.Back.Number})
	if err != nil {
		return back(err)
	}
	ui.RollbackPlan(a.Err, planned, time.Now())
	done := stopping(cmd.Context(), progress)
	result, err := engine.Rollback(cmd.Context(), planned)
	done()
	progress.Close()
	if err != nil {
		return err
	}
	fmt.Fprintln(a.Err)
	ui.Rollback(a.Err, a.style, result)
	return errTold
}
