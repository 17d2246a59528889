// Command lab is a real Kubernetes cluster on one machine, for trying and testing pwdeploy.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
