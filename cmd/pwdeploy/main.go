// Command pwdeploy deploys the CRUD service, with Redis and ingress-nginx, to a Kubernetes cluster.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"github.com/pwdeploy/pwdeploy/internal/cli"
)

// Set by the linker: see .goreleaser.yaml and the Makefile.
var (
	version = ""
	commit  = ""
	date    = ""
)

func main() {
	ctx, stop := cli.Interruptible(context.Background())
	code := cli.Run(ctx, os.Args[1:], cli.MainStreams(), build())
	stop()
	os.Exit(code)
}

// build falls back to what go install knows.
func build() cli.Build {
	b := cli.Build{Version: version, Commit: commit, Date: date}
	if b.Version != "" {
		return b
	}
	b.Version = "dev"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		b.Version = info.Main.Version
	}
	return b
}
