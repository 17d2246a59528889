// Command ingress is the programs of ingress-nginx's two images as far as its chart calls them: by its own name it is
// nginx-ingress-controller, wait-shutdown or kube-webhook-certgen.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certgen"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/ingress"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := command(log).ExecuteContext(ctx)
	stop()
	if err != nil {
		log.Error("failed", "error", err)
		os.Exit(1)
	}
}

func command(log *slog.Logger) *cobra.Command {
	switch name := filepath.Base(os.Args[0]); name {
	case "nginx-ingress-controller":
		return controller(log)
	case "wait-shutdown":
		return &cobra.Command{Use: name, SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return waitShutdown() }}
	case "kube-webhook-certgen":
		return webhookCertgen(log)
	default:
		return &cobra.Command{Use: name, SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("%s is no program of these images", name)
		}}
	}
}

func controller(log *slog.Logger) *cobra.Command {
	c := &ingress.Controller{Binary: "/usr/sbin/nginx", Dir: "/tmp/nginx", Log: log}
	cmd := &cobra.Command{
		Use: "nginx-ingress-controller", Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true,
		// The chart may pass any flag of the original's.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := newClient()
			if err != nil {
				return err
			}
			c.Client = client
			return c.Run(cmd.Context())
		},
	}
	c.Options.AddFlags(cmd.Flags())
	return cmd
}

// waitShutdown is the preStop hook of the chart's: it starts the shutdown and holds the kubelet's own signal back
// until that is over, when this process ends with its container.
func waitShutdown() error {
	err := syscall.Kill(1, syscall.SIGTERM)
	for err == nil {
		time.Sleep(100 * time.Millisecond)
		err = syscall.Kill(1, 0)
	}
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return fmt.Errorf("signal the controller: %w", err)
}

func webhookCertgen(log *slog.Logger) *cobra.Command {
	var o certgen.Options
	root := &cobra.Command{Use: "kube-webhook-certgen", SilenceErrors: true, SilenceUsage: true}
	f := root.PersistentFlags()
	f.StringVar(&o.Namespace, "namespace", "", "the namespace of the Secret")
	f.StringVar(&o.SecretName, "secret-name", "", "the Secret")
	f.StringVar(&o.CAName, "ca-name", "ca", "its key with the authority's certificate")
	f.StringVar(&o.CertName, "cert-name", "cert", "its key with the certificate")
	f.StringVar(&o.KeyName, "key-name", "key", "its key with the private key")
	add := func(name, short string, do func(context.Context, kubernetes.Interface, certgen.Options, *slog.Logger) error) *cobra.Command {
		c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true}, RunE: func(cmd *cobra.Command, _ []string) error {
			log.Warn("this is a stand-in: the lab's own program, not kube-webhook-certgen")
			client, err := newClient()
			if err != nil {
				return err
			}
			return do(cmd.Context(), client, o, log)
		}}
		root.AddCommand(c)
		return c
	}
	create := add("create", "Make the Secret with the webhook's certificate", certgen.Create)
	create.Flags().StringVar(&o.Host, "host", "", "the names of the webhook's server, separated by commas")
	patch := add("patch", "Tell the API server to trust it", certgen.Patch)
	patch.Flags().StringVar(&o.WebhookName, "webhook-name", "", "the name of the webhook configurations")
	patch.Flags().BoolVar(&o.PatchValidating, "patch-validating", true, "patch the validating one")
	patch.Flags().BoolVar(&o.PatchMutating, "patch-mutating", true, "patch the mutating one")
	patch.Flags().StringVar(&o.FailurePolicy, "patch-failure-policy", "", "Ignore or Fail, or empty to leave it")
	return root
}

func newClient() (kubernetes.Interface, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 50, 100
	config.Timeout = 0
	return kubernetes.NewForConfig(config)
}
