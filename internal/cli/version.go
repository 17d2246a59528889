package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/pwdeploy/pwdeploy/internal/helm"
)

// versionResult is what pwdeploy is made of, and what it installs unless told otherwise.
type versionResult struct {
	Version  string     `json:"version"`
	Commit   string     `json:"commit,omitempty"`
	Date     string     `json:"date,omitempty"`
	Go       string     `json:"go"`
	Platform string     `json:"platform"`
	Charts   []chartPin `json:"charts"`
}

// chartPin is where a chart comes from, and what must arrive.
type chartPin struct {
	Ref     string `json:"ref"`
	Version string `json:"version"`
	Digest  string `json:"digest,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version, and the charts that it installs",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			v := versionResult{
				Version: a.build.Version, Commit: a.build.Commit, Date: a.build.Date, Go: runtime.Version(),
				Platform: runtime.GOOS + "/" + runtime.GOARCH,
				Charts:   []chartPin{chartPin(helm.DefaultRedis()), chartPin(helm.DefaultIngressNginx())},
			}
			return a.print(v, func() { a.printVersion(v) })
		},
	}
}

func (a *app) printVersion(v versionResult) {
	fmt.Fprintf(a.Out, "pwdeploy %s", v.Version)
	if v.Commit != "" {
		fmt.Fprintf(a.Out, " (%s, %s)", v.Commit, v.Date)
	}
	fmt.Fprintf(a.Out, ", %s, %s\n", v.Go, v.Platform)
	for _, c := range v.Charts {
		fmt.Fprintf(a.Out, "chart %s\n", helm.Source(c))
	}
}
