package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

// upFlags are those that only up has.
type upFlags struct {
	stack.UpOptions
	rollbackOnFailure bool
}

func (a *app) upCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Deploy, wait until it is ready, and prove it by a request",
		Long: `Installs Redis and ingress-nginx side by side, applies the app, waits for all of it by
watches, and sends a real request through the ingress. What is as it should be already is
left alone. An ingress controller that somebody else installed is used, never changed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.up(cmd, f) },
	}
	cmd.Flags().SortFlags = false
	a.settingFlags(cmd.Flags(), "host", "image", "replicas", "keep-replicas")
	lockTimeoutFlag(cmd, &f.LockTimeout)
	cmd.Flags().BoolVar(&f.TakeOver, "take-over", false, "set fields that somebody else has set, too")
	recreateFlag(cmd, &f.Recreate)
	cmd.Flags().BoolVar(&f.rollbackOnFailure, "rollback-on-failure", false, "if it fails, say why and return to what was deployed before")
	return cmd
}

func (a *app) up(cmd *cobra.Command, f upFlags) error {
	cfg, err := a.config(cmd)
	if err != nil {
		return untouched(cmd, err)
	}
	progress := ui.NewProgress(a.Err, a.style, a.getenv)
	defer progress.Close()
	engine, err := a.open(cmd.Context(), cfg, "Deploying to", progress)
	if err != nil {
		return untouched(cmd, err)
	}
	done := stopping(cmd.Context(), progress)
	result, err := engine.Up(cmd.Context(), f.UpOptions)
	done()
	progress.Close()
	var refused *stack.RefusedError
	if errors.As(err, &refused) && f.Agreed == nil && a.agrees(cmd.Context(), refused) {
		f.Agreed = refused
		return a.up(cmd, f)
	}
	if err != nil && f.rollbackOnFailure {
		return a.rollBackFailed(cmd, cfg, err)
	}
	if err != nil {
		return err
	}
	return a.print(result, func() { ui.Up(a.Out, ui.NewStyle(a.Out, a.getenv), result) })
}

// agrees shows a person what is in the way and asks whether to go on. Where there is nobody or nothing to ask the
// answer is no.
func (a *app) agrees(ctx context.Context, refused *stack.RefusedError) bool {
	if refused.Ask() == "" || !a.interactive() {
		return false
	}
	fmt.Fprintf(a.Err, "\n%s\n\n", refused)
	return a.confirm(ctx, refused.Ask())
}
