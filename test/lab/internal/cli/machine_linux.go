package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certs"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/charts"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/cluster"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/lab"
)

// runner carries a command out on the lab that the flags name.
type runner func(func(context.Context, *lab.Lab) error) func(*cobra.Command, []string) error

// machineCommands are those that need Linux.
func machineCommands(o *lab.Options, with runner) []*cobra.Command {
	return []*cobra.Command{
		newUp(o, with),
		{Use: "down", Short: "Take the lab away and leave nothing but the cache", Args: cobra.NoArgs, RunE: with(func(ctx context.Context, l *lab.Lab) error { return l.Down(ctx) })},
		{Use: "status", Short: "Say how the lab is, and what in it is a stand-in", Args: cobra.NoArgs, RunE: with(func(ctx context.Context, l *lab.Lab) error { return l.Status(ctx) })},
		{Use: "env", Short: "Print the shell lines that make pwdeploy work against the lab", Args: cobra.NoArgs, RunE: with(func(_ context.Context, l *lab.Lab) error { return l.Env() })},
		newBoot(o), newServeCharts(o), newProbe(),
	}
}

// imageCommands are those of `lab image` that need a lab.
func imageCommands(with runner) []*cobra.Command { return []*cobra.Command{newImageLoad(with)} }

func newUp(o *lab.Options, with runner) *cobra.Command {
	c := &cobra.Command{
		Use: "up", Short: "Bring the lab up; does nothing when it is up", Args: cobra.NoArgs,
		Long: `Bring the lab up. The first time it builds Kubernetes from its Go modules, which takes 8 to 16 minutes on two cores
and 8 GB of disk; afterwards it takes about 15 seconds. On a lab that is up, charts and images that changed are
replaced.`,
	}
	run := with(func(ctx context.Context, l *lab.Lab) error { return l.Up(ctx) })
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if o.Nodes != 1 && o.Nodes != 2 {
			return usageError{fmt.Errorf("the number of nodes is %d: 1 or 2", o.Nodes)}
		}
		return run(cmd, args)
	}
	c.Flags().IntVar(&o.Nodes, "nodes", environmentInt("NODES", 1), "1 or 2 nodes ($NODES)")
	c.Flags().BoolVar(&o.ControlPlane, "control-plane", false, "only a control plane on loopback, whose nodes are played by KWOK; needs no root")
	c.Flags().StringVar(&o.Charts, "charts", os.Getenv("CHARTS"), "a folder with the charts redis and ingress-nginx to serve instead of the stand-ins ($CHARTS)")
	c.Flags().IntVar(&o.Index, "index", environmentInt("LAB_INDEX", -1), "chooses the lab's addresses, 0 to 31; -1 for the first that is free ($LAB_INDEX)")
	c.Flags().DurationVar(&o.Timeout, "timeout", bootTimeout, "how long the boot may take")
	c.Flags().DurationVar(&o.BuildTimeout, "build-timeout", buildTimeout, "how long everything before the boot may take")
	return c
}

// newImageLoad loads an image of the user's into the lab.
func newImageLoad(with runner) *cobra.Command {
	c := &cobra.Command{
		Use: "load FILE", Short: "Load an image archive into the nodes of the lab", Args: usage(cobra.ExactArgs(1)),
		Long: "Load an image archive, as docker save or `lab image service` write it, into the nodes of the lab that is up.",
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return with(func(ctx context.Context, l *lab.Lab) error { return l.LoadImage(ctx, args[0]) })(cmd, args)
	}
	return c
}

// newBoot is the lab's first process, or that of another node.
func newBoot(o *lab.Options) *cobra.Command {
	var node int
	var timeout time.Duration
	c := &cobra.Command{Use: "boot", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		// The gate, the events, and the lock that says that this process lives: none is for the programs started here.
		for fd := 3; fd <= 5; fd++ {
			unix.CloseOnExec(fd)
		}
		spec, err := cluster.Load(o.Dir)
		if err != nil {
			return err
		}
		b := &cluster.Booter{
			Spec: spec, Node: node, Self: spec.Path("bin", "lab"), Gate: os.NewFile(3, "gate"), Events: os.NewFile(4, "events"),
			Timeout: timeout, Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)),
		}
		return b.Run(cmd.Context())
	}}
	c.Flags().IntVar(&node, "node", 0, "the number of the node, 0 for a control plane alone")
	c.Flags().DurationVar(&timeout, "timeout", bootTimeout, "how long the boot may take")
	return c
}

func newServeCharts(o *lab.Options) *cobra.Command {
	return &cobra.Command{Use: "serve-charts", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		spec, err := cluster.Load(o.Dir)
		if err != nil {
			return err
		}
		ca, err := certs.LoadAuthority(spec.Path("pki"), "ca")
		if err != nil {
			return err
		}
		var config net.ListenConfig
		listener, err := config.Listen(cmd.Context(), "tcp", net.JoinHostPort(spec.Address(), fmt.Sprint(spec.Ports.Charts)))
		if err != nil {
			return fmt.Errorf("serve the charts: %w", err)
		}
		s := &charts.Server{Dir: spec.Path("charts"), CA: ca, Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))}
		return s.Serve(cmd.Context(), listener)
	}}
}

func newProbe() *cobra.Command {
	return &cobra.Command{Use: "probe", Hidden: true, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return lab.Probe(cmd.Context())
	}}
}
