package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/ui"
)

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "List what was deployed, when, by whom and from what",
		Long: `Lists the revisions of the deployment, the newest first: a revision is one set of app and
releases. pwdeploy rollback goes back to one of them. -o json has more: the configuration
file, the digests of the charts, and who the user is to the cluster.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.history(cmd) },
	}
}

func (a *app) history(cmd *cobra.Command) error {
	cfg, err := a.config(cmd)
	if err != nil {
		return err
	}
	engine, err := a.open(cmd.Context(), cfg, "History of", silent{})
	if err != nil {
		return err
	}
	result, err := engine.History(cmd.Context())
	if err != nil {
		return err
	}
	return a.print(result, func() { ui.History(a.Out, result, time.Now()) })
}
