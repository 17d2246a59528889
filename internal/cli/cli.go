// Package cli is pwdeploy's command line: a file a command, flags, and exit codes.
package cli

import (
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/internal/ui"
)

// Build is what the linker wrote into the program.
type Build struct{ Version, Commit, Date string }

// Streams are where a command reads and writes, and the environment that it sees.
type Streams struct {
	In      io.Reader
	Out     io.Writer // results
	Err     io.Writer // progress, questions, errors
	Environ []string
}

// getenv looks a variable up.
func (s Streams) getenv(name string) string {
	for _, e := range s.Environ {
		if len(e) > len(name) && e[len(name)] == '=' && e[:len(name)] == name {
			return e[len(name)+1:]
		}
	}
	return ""
}

// app is what the commands share.
type app struct {
	Streams
	build  Build
	style  ui.Style // of Err
	flags  flags
	parsed bool // the command line was right: what fails now is not wrong usage
}

// flags are those that every command has and config does not know.
type flags struct {
	config string
	output string
	values map[string]*string // the settings' flags, by name
}

// Run carries out one command line and returns the exit code.
func Run(ctx context.Context, args []string, s Streams, b Build) int {
	a := &app{Streams: s, build: b, style: ui.NewStyle(s.Err, s.getenv), flags: flags{values: map[string]*string{}}}
	root := a.rootCommand() //nolint:contextcheck // commands take theirs from cobra, which ExecuteContext gives it to
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	return a.report(ctx, root.ExecuteContext(ctx))
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "pwdeploy",
		Short: "Deploy the CRUD service, with Redis and ingress-nginx, to any Kubernetes cluster",
		Long: `pwdeploy takes a Kubernetes cluster from empty to a public, verified service, and back.

It installs Redis and ingress-nginx, applies the app, waits until all of it is ready,
and proves it by a request. Each command can be run again at any time.`,
		Example: `  pwdeploy up                        # deploy to the current kubectl context
  pwdeploy up --host pw.example.org  # under another name
  pwdeploy status                    # what is there, and how it is
  pwdeploy down                      # take it away; Redis' data stays`,
		SilenceErrors: true, SilenceUsage: true,
		Version: a.build.Version,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.parsed = true
			return a.checkOutput()
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	f := root.PersistentFlags()
	f.SortFlags = false
	a.settingFlags(f, "kubeconfig", "context", "namespace", "profile", "timeout")
	f.StringVar(&a.flags.config, "config", "", "configuration `FILE` (default: pwdeploy.yaml if it is there)")
	a.settingFlags(f, "log-level")
	f.StringVarP(&a.flags.output, "output", "o", outputText, "`FORMAT` of the result: text, json or yaml")
	root.AddCommand(a.checkCommand(), a.upCommand(), a.statusCommand(), a.historyCommand(), a.rollbackCommand(), a.downCommand(), a.versionCommand())
	a.completions(root)
	return root
}

// config loads the configuration that the command line and the environment name.
func (a *app) config(cmd *cobra.Command) (config.Config, error) {
	given := map[string]string{}
	for name, value := range a.flags.values {
		if cmd.Flags().Changed(name) {
			given[name] = *value
		}
	}
	cfg, warnings, err := config.Load(config.Sources{File: a.flags.config, Environ: a.Environ, Flags: given})
	for _, w := range warnings {
		a.warn(w)
	}
	return cfg, err
}

// open connects to the cluster and says which one it is before anything happens.
func (a *app) open(ctx context.Context, cfg config.Config, verb string, progress ui.Progress) (*stack.Engine, error) {
	engine, err := stack.Open(ctx, cfg, stack.Options{Version: a.build.Version, Emit: progress.Handle, Log: a.logger(cfg.LogLevel)})
	if err != nil {
		return nil, err
	}
	ui.Target(a.Err, a.style, verb, engine.Target())
	return engine, nil
}

// logger writes to standard error at the configured level. What libraries log (klog here, the standard logger
// in internal/helm) goes the same way, so that none of it reaches the terminal raw.
func (a *app) logger(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelWarn
	}
	handler := slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: l})
	logger := slog.New(handler)
	klog.SetSlogLogger(slog.New(quieter{handler}))
	return logger
}

// quieter lets what libraries log through only where everything is asked for: their errors come back as
// errors too, and their warnings are not for users. What they log below debug it never lets through: client-go writes
// whole requests and answers there, Secrets among them.
type quieter struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quieter) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelDebug && q.Handler.Enabled(ctx, slog.LevelDebug)
}

// WithAttrs implements slog.Handler.
func (q quieter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quieter{q.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (q quieter) WithGroup(name string) slog.Handler { return quieter{q.Handler.WithGroup(name)} }

// interactive reports whether a person can be asked.
func (a *app) interactive() bool {
	return ui.IsTerminal(a.In) && ui.IsTerminal(a.Err)
}

// MainStreams are the process's own.
func MainStreams() Streams {
	return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()}
}
