// Package cli is the command `lab`.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/image"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/lab"
)

// Exit codes, as far as they aren't 0 and 1.
const (
	exitUsage = 2
	// exitUnsupported is that of `up` on a machine that can't run a lab, and of `status` and `env` where none is up.
	exitUnsupported = 3
)

// usageError is a mistake in the command line.
type usageError struct{ error }

// Run carries a command line out and returns the exit code.
func Run(ctx context.Context, args []string, out, problems io.Writer) int {
	root := newRoot(out) //nolint:contextcheck // the commands get the context when they run
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(problems)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(problems, "lab:", err)
	var usage usageError
	var unsupported *lab.UnsupportedError
	var notUp *lab.NotUpError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &unsupported), errors.As(err, &notUp):
		return exitUnsupported
	default:
		return 1
	}
}

func newRoot(out io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "A real Kubernetes cluster on one machine, for trying and testing pwdeploy",
		Long: `A real Kubernetes cluster on one machine, for trying and testing pwdeploy: built from Go modules and Debian
packages, without a container engine or an image registry, in namespaces of its own.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	o := &lab.Options{}
	flags := root.PersistentFlags()
	flags.StringVar(&o.Dir, "dir", environment("LAB_DIR", lab.DefaultDir), "the lab's folder ($LAB_DIR)")
	flags.StringVar(&o.Cache, "cache", environment("LAB_CACHE", lab.DefaultCache), "where built programs and images are kept ($LAB_CACHE)")
	with := func(do func(context.Context, *lab.Lab) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			l, err := lab.New(*o, out)
			if err != nil {
				return err
			}
			return do(cmd.Context(), l)
		}
	}
	images := newImage(o, out)
	images.AddCommand(imageCommands(with)...)
	root.AddCommand(images)
	root.AddCommand(machineCommands(o, with)...)
	for _, c := range root.Commands() {
		c.Args = usage(c.Args)
	}
	return root
}

// usage marks a mistake in the arguments as one.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}

func newImage(o *lab.Options, out io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use: "image", Short: "Build container images without a container engine", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var output, tag, arch string
	service := &cobra.Command{
		Use: "service --output FILE", Short: "Build the service's image into an archive", Args: usage(cobra.NoArgs),
		Long: `Build the service's image into an archive that docker load, ctr images import and kind load image-archive read.
It needs Go and nothing else: no cluster, no root, no container engine.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if arch != "amd64" && arch != "arm64" {
				return usageError{fmt.Errorf("the architecture %q: amd64 or arm64", arch)}
			}
			l, err := lab.New(*o, out)
			if err != nil {
				return err
			}
			digest, err := l.ServiceImage(cmd.Context(), output, tag, arch)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s (linux/%s, %s) is in %s\n", tag, arch, digest, output)
			return nil
		},
	}
	service.Flags().StringVarP(&output, "output", "o", "crudservice.tar", "the archive to write")
	service.Flags().StringVar(&tag, "tag", image.ServiceReference, "the image's reference")
	service.Flags().StringVar(&arch, "arch", runtime.GOARCH, "amd64 or arm64")
	c.AddCommand(service)
	return c
}

// environment is a variable's value, or another where it is empty.
func environment(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// environmentInt is a variable's number, or another where it is none.
func environmentInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// Defaults of the waits.
const (
	bootTimeout  = 3 * time.Minute
	buildTimeout = 60 * time.Minute
)
