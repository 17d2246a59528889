// Package harness is what tests of pwdeploy against a cluster share: a control plane of their own, pwdeploy as a
// process, and deployments that are told apart by their names, so that all tests run side by side.
package harness

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/cli"
)

// asPwdeployVariable makes this program carry out its command line as pwdeploy does. The tests run themselves in that
// way: a process of its own has no variables of the program in common with the test (Helm, klog and the standard logger
// have some), takes real signals, and ends with a real exit code.
const asPwdeployVariable = "PWDEPLOY_E2E_AS_PWDEPLOY"

// testsAtOnce is how many tests run side by side unless it was said how many: more than there are processors, because
// they wait for the cluster most of the time.
const testsAtOnce = "8"

// Main is a package's TestMain: it runs the tests against the control plane that PWDEPLOY_TEST_LAB_DIR names, or one
// that it starts and takes away again, and returns the exit code.
func Main(m *testing.M) int {
	if os.Getenv(asPwdeployVariable) != "" {
		return pwdeploy()
	}
	flag.Parse()
	moreAtOnce()
	if testing.Short() {
		fmt.Fprintln(os.Stderr, "skipped, because -short was given: these tests start a control plane")
		return 0
	}
	stop, err := openLab()
	if err != nil {
		fmt.Fprintln(os.Stderr, "no control plane to test against:", err)
		return 1
	}
	defer stop()
	return m.Run()
}

func moreAtOnce() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if parallel := flag.Lookup("test.parallel"); !given && parallel != nil {
		_ = parallel.Value.Set(testsAtOnce) // a number that it takes
	}
}

func pwdeploy() int {
	ctx, stop := cli.Interruptible(context.Background())
	defer stop()
	return cli.Run(ctx, os.Args[1:], cli.MainStreams(), cli.Build{Version: "test"})
}
