package integration

import (
	"flag"
	"os"
	"testing"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// updateGolden writes the golden files anew.
var updateGolden = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
