//go:build unix

package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/ui"
)

// deafVariable makes the test's program one that is interrupted and does not stop.
const deafVariable = "PWDEPLOY_TEST_DEAF"

func TestMain(m *testing.M) {
	if os.Getenv(deafVariable) != "" {
		deaf()
	}
	m.Run()
}

func deaf() {
	ctx, stop := Interruptible(context.Background())
	defer stop()
	defer stopping(ctx, ui.NewProgress(os.Stderr, ui.Style{}, os.Getenv))()
	fmt.Fprintln(os.Stderr, "begun")
	select {}
}

// TestSecondCtrlC: the first one is heard, and says that a second one stops at once; that one does.
func TestSecondCtrlC(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), deafVariable+"=1")
	errs, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(errs)
	for _, want := range []string{"begun", "Ctrl-C again stops at once"} {
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("it says %q, not %q", lines.Text(), want)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	_ = cmd.Wait() // how it ended is what counts
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGINT {
		t.Errorf("it ended with %s", cmd.ProcessState)
	}
}
