package cli

import (
	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what is there and how it is",
		Long: `Shows each component, each object that matters, whether it is ready and if not why, versions
the URL, and what somebody changed since. Exit code 0: healthy and as it was deployed. 3: not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd) },
	}
}

func (a *app) status(cmd *cobra.Command) error {
	cfg, err := a.config(cmd)
	if err != nil {
		return err
	}
	engine, err := a.open(cmd.Context(), cfg, "Status of", silent{})
	if err != nil {
		return err
	}
	result, err := engine.Status(cmd.Context())
	if err != nil {
		return err
	}
	if err := a.print(result, func() { ui.Status(a.Out, ui.NewStyle(a.Out, a.getenv), result) }); err != nil {
		return err
	}
	if !result.Healthy || result.Drifted {
		return errUnhealthy
	}
	return nil
}

// silent shows no progress: the result says it all.
type silent struct{}

// Handle implements ui.Progress.
func (silent) Handle(stack.Event) {}

// Close implements ui.Progress.
func (silent) Close() {}
