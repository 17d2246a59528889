//go:build linux

package cli_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/cli"
)

func TestExitCodes(t *testing.T) {
	t.Setenv("LAB_DIR", filepath.Join(t.TempDir(), "lab"))
	for _, tc := range []struct {
		args, says string
		code       int
	}{
		{"--help", "A real Kubernetes cluster", 0},
		{"nonsense", "unknown command", 2},
		{"up --nonsense", "unknown flag", 2},
		{"up --nodes 3", "1 or 2", 2},
		{"image service --arch mips", "amd64 or arm64", 2},
		{"status", "no lab is up", 3},
		{"env", "no lab is up", 3},
		{"down", "no lab in", 0},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var out, problems strings.Builder
			code := cli.Run(t.Context(), strings.Fields(tc.args), &out, &problems)
			if said := out.String() + problems.String(); code != tc.code || !strings.Contains(said, tc.says) {
				t.Errorf("code %d, said %q; want %d, %q", code, said, tc.code, tc.says)
			}
		})
	}
}
