package chaos

import (
	"os"
	"testing"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }
