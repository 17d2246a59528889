package cli

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pwdeploy/pwdeploy/internal/config"
)

// settingFlags adds the flags of settings. All of them are strings here: config knows their types and
// says what is wrong with a value, wherever it came from.
func (a *app) settingFlags(f *pflag.FlagSet, names ...string) {
	defaults := map[string]string{}
	d := config.Default()
	for name, value := range map[string]any{"namespace": d.Namespace, "host": d.Host, "image": d.Image, "replicas": d.Replicas, "timeout": d.Timeout, "log-level": d.LogLevel} {
		defaults[name] = fmt.Sprint(value)
	}
	for _, name := range names {
		s := setting(name)
		usage := s.Usage
		if v := defaults[name]; v != "" {
			usage += fmt.Sprintf(" (default %s)", v)
		}
		if a.flags.values[name] == nil { // a flag of several commands has one value
			a.flags.values[name] = new(string)
		}
		flag := f.VarPF(&settingValue{text: a.flags.values[name], placeholder: s.Value}, name, "", usage)
		if s.Value == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
}

// lockTimeoutFlag is on the commands that change a deployment.
func lockTimeoutFlag(cmd *cobra.Command, timeout *time.Duration) {
	cmd.Flags().DurationVar(timeout, "lock-timeout", 0, "`DURATION` to wait for another run that is at work on the same deployment")
}

// recreateFlag is on the commands that apply objects.
func recreateFlag(cmd *cobra.Command, recreate *bool) {
	cmd.Flags().BoolVar(recreate, "recreate", false, "delete and make anew what can't be changed in place; volume claims and their data stay")
}

// settingValue is a flag's value, and what stands for it in the help.
type settingValue struct {
	text        *string
	placeholder string
}

// Set implements pflag.Value.
func (v *settingValue) Set(text string) error {
	*v.text = text
	return nil
}

// String implements pflag.Value.
func (v *settingValue) String() string {
	if v.text == nil { // pflag asks a zero value for its default
		return ""
	}
	return *v.text
}

// Type implements pflag.Value.
func (v *settingValue) Type() string { return v.placeholder }

func setting(flag string) config.Setting {
	all := config.Settings()
	i := slices.IndexFunc(all, func(s config.Setting) bool { return s.Flag == flag })
	return all[i]
}

// completions completes what can be known without a cluster.
func (a *app) completions(root *cobra.Command) {
	fixed := func(values ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"profile":   fixed(config.ProfileLocal, config.ProfileAWS),
		"output":    fixed(outputText, outputJSON, outputYAML),
		"log-level": fixed("debug", "info", "warn", "error"),
		"context":   a.completeContexts,
		"namespace": cobra.NoFileCompletions,
		"timeout":   cobra.NoFileCompletions,
	} {
		if err := root.RegisterFlagCompletionFunc(flag, complete); err != nil {
			panic(err) // a flag that does not exist: a mistake in this file
		}
	}
}

// completeContexts lists the kubeconfig's contexts.
func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = *a.flags.values["kubeconfig"]
	kubeconfig, err := rules.Load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names := make([]string, 0, len(kubeconfig.Contexts))
	for name := range kubeconfig.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}
