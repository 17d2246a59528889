//go:build !linux

package cli

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/lab"
)

// imageCommands are none where there is no lab to load into.
func imageCommands(func(func(context.Context, *lab.Lab) error) func(*cobra.Command, []string) error) []*cobra.Command {
	return nil
}

// machineCommands say on other systems why they can't work.
func machineCommands(*lab.Options, func(func(context.Context, *lab.Lab) error) func(*cobra.Command, []string) error) []*cobra.Command {
	var commands []*cobra.Command
	for _, name := range []string{"up", "down", "status", "env"} {
		commands = append(commands, &cobra.Command{
			Use: name, Short: "Needs Linux", DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return &lab.UnsupportedError{Reason: "it needs Linux, and this is " + runtime.GOOS}
			},
		})
	}
	return commands
}
