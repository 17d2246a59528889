package chaos

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

// runTests starts nothing unless the matrix is asked for.
func runTests(m *testing.M) int {
	if os.Getenv("PWDEPLOY_E2E_AS_PWDEPLOY") != "" { // a process that the harness starts: its command line is pwdeploy's
		return harness.Main(m)
	}
	flag.Parse()
	if !asked() {
		fmt.Fprintln(os.Stderr, "chaos: skipped; make chaos runs it")
		return 0
	}
	return harness.Main(m)
}
