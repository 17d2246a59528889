package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

func (a *app) downCommand() *cobra.Command {
	var f stack.DownOptions
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Take away what pwdeploy made, and nothing else",
		Long: `Removes the app, the releases and the namespaces that pwdeploy made, and waits until they are
gone. Redis' volumes and password stay unless --delete-data is given. A namespace that holds
something of somebody else stays too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.down(cmd, f) },
	}
	cmd.Flags().BoolVarP(&f.Yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.DeleteData, "delete-data", false, "delete Redis' volumes and password too")
	lockTimeoutFlag(cmd, &f.LockTimeout)
	return cmd
}

func (a *app) down(cmd *cobra.Command, f stack.DownOptions) error {
	cfg, err := a.config(cmd)
	if err != nil {
		return untouched(cmd, err)
	}
	if !f.Yes && !a.interactive() {
		return &usageError{message: "down asks before it deletes, and there is no terminal to ask on", hint: "give --yes"}
	}
	progress := ui.NewProgress(a.Err, a.style, a.getenv)
	defer progress.Close()
	engine, err := a.open(cmd.Context(), cfg, "Taking down", progress)
	if err != nil {
		return untouched(cmd, err)
	}
	planned, err := engine.PlanDown(cmd.Context(), f)
	if err != nil {
		return untouched(cmd, err)
	}
	if planned.Empty() {
		return a.print(&stack.DownResult{Target: planned.Target, Removed: []string{}, Kept: []stack.Kept{}}, func() {
			fmt.Fprintln(a.Out, "Nothing to take away.")
		})
	}
	ui.DownPlan(a.Err, a.style, planned)
	if !f.Yes && !a.confirm(cmd.Context(), "Go ahead?") {
		return a.declined(cmd, "Nothing was deleted.")
	}
	done := stopping(cmd.Context(), progress)
	result, err := engine.Down(cmd.Context(), planned)
	done()
	progress.Close()
	if err != nil {
		return err
	}
	return a.print(result, func() { ui.Down(a.Out, ui.NewStyle(a.Out, a.getenv), result) })
}

// declined says what came of a no. An interruption has last words of its own.
func (a *app) declined(cmd *cobra.Command, message string) error {
	if err := cmd.Context().Err(); err != nil {
		return untouched(cmd, err)
	}
	fmt.Fprintln(a.Err, message)
	return nil
}

// confirm asks; anything but yes means no, an interruption too.
func (a *app) confirm(ctx context.Context, question string) bool {
	fmt.Fprint(a.Err, question+" [y/N] ")
	answered := make(chan string, 1)
	go func() { // ends with the process: a terminal can't be asked to stop being read
		answer, err := bufio.NewReader(a.In).ReadString('\n')
		if err != nil {
			fmt.Fprintln(a.Err)
		}
		answered <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.Err)
		return false
	case answer := <-answered:
		return answer == "y" || answer == "yes"
	}
}
