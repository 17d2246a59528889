package cli

import (
	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look before you leap: say what an up would meet",
		Long: `Looks at the cluster, this user's permissions, storage, ingress controllers, leftovers of earlier
runs, the charts, and the room that is left, and says what to do about what is not well. It
changes nothing. Exit code 0: up can go ahead, warnings or not. 3: there are errors.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd) },
	}
	cmd.Flags().SortFlags = false
	a.settingFlags(cmd.Flags(), "host", "image", "replicas")
	return cmd
}

func (a *app) check(cmd *cobra.Command) error {
	cfg, err := a.config(cmd)
	if err != nil {
		return err
	}
	options := stack.Options{Version: a.build.Version, Log: a.logger(cfg.LogLevel), Looking: true}
	engine, err := stack.Open(cmd.Context(), cfg, options)
	if err != nil {
		return err
	}
	ui.Target(a.Err, a.style, "Checking", engine.Target())
	result, err := engine.Check(cmd.Context())
	if err != nil {
		return err
	}
	if err := a.print(result, func() { ui.Check(a.Out, ui.NewStyle(a.Out, a.getenv), result) }); err != nil {
		return err
	}
	if result.Errors > 0 {
		return errUnhealthy
	}
	return nil
}
