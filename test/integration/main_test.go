package integration

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/cli"
)

// labDirVariable names the folder of a control plane that is up already (lab up --control-plane): then none is
// started, and that one stays.
const labDirVariable = "PWDEPLOY_TEST_LAB_DIR"

// asPwdeployVariable makes this program carry out its command line as pwdeploy does. The tests run themselves in that
// way: a process of its own has no variables of the program in common with the test (Helm, klog and the standard logger
// have some), takes real signals, and ends with a real exit code.
const asPwdeployVariable = "PWDEPLOY_E2E_AS_PWDEPLOY"

// updateGolden writes the golden files anew.
var updateGolden = flag.Bool("update", false, "write the golden files anew")

// labEnv is the environment in which an unchanged pwdeploy works against the control plane.
var labEnv []string

func TestMain(m *testing.M) {
	if os.Getenv(asPwdeployVariable) != "" {
		os.Exit(pwdeploy())
	}
	flag.Parse()
	moreAtOnce()
	if testing.Short() {
		fmt.Fprintln(os.Stderr, "integration: skipped, because -short was given: these tests start a control plane")
		return
	}
	os.Exit(run(m))
}

// moreAtOnce lets more tests run side by side than there are processors, unless it was said how many: they wait for
// the cluster most of the time.
func moreAtOnce() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if parallel := flag.Lookup("test.parallel"); !given && parallel != nil {
		_ = parallel.Value.Set("8") // a number that it takes
	}
}

func pwdeploy() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	return cli.Run(ctx, os.Args[1:], cli.MainStreams(), cli.Build{Version: "test"})
}

func run(m *testing.M) int {
	dir := os.Getenv(labDirVariable)
	if dir == "" {
		lab, err := startLab()
		if err != nil {
			fmt.Fprintln(os.Stderr, "integration: no control plane to test against:", err)
			return 1
		}
		defer lab.stop()
		dir = lab.dir
	}
	if err := useLab(dir); err != nil {
		fmt.Fprintln(os.Stderr, "integration: no control plane to test against:", err)
		return 1
	}
	return m.Run()
}

// useLab takes over the lab's variables, before anything reads them: Go looks at HTTPS_PROXY and SSL_CERT_FILE once.
func useLab(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		return fmt.Errorf("read the lab's variables: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		assignment, ok := strings.CutPrefix(strings.TrimSpace(line), "export ")
		name, value, found := strings.Cut(assignment, "=")
		if !ok || !found {
			continue
		}
		value = strings.ReplaceAll(strings.Trim(value, "'"), `'\''`, "'")
		labEnv = append(labEnv, name+"="+value)
		if err := os.Setenv(name, value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// lab is a control plane that this run started.
type lab struct {
	dir    string // the lab's folder
	root   string // holds the lab's folder and program
	keeper *exec.Cmd
	alive  io.Closer // closed when this process ends, however it does
}

// startLab builds the lab's program and brings a control plane up in a folder with a short name.
func startLab() (*lab, error) {
	root, err := os.MkdirTemp("", "pwit")
	if err != nil {
		return nil, err
	}
	l := &lab{root: root, dir: filepath.Join(root, "state")}
	source, err := filepath.Abs("../lab")
	if err == nil {
		err = command(source, "go", "build", "-o", l.program(), "./cmd/lab")
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := l.startKeeper(source); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	if err := command(source, l.program(), "up", "--control-plane", "--dir", l.dir); err != nil {
		l.stop()
		return nil, err
	}
	return l, nil
}

func (l *lab) program() string { return filepath.Join(l.root, "lab") }

// startKeeper starts a process that takes the lab away when this one ends, be it killed or out of time: it waits for
// the end of a pipe that only this process holds open.
func (l *lab) startKeeper(source string) error {
	l.keeper = exec.Command("sh", "-c", `cat >/dev/null; "$1" down --dir "$2" >"$3/down" 2>&1 || cat "$3/down" >&2; rm -rf "$3"`,
		"keeper", l.program(), l.dir, l.root)
	l.keeper.Dir, l.keeper.Stderr = source, os.Stderr
	l.keeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is not for it
	pipe, err := l.keeper.StdinPipe()
	if err != nil {
		return err
	}
	l.alive = pipe
	return l.keeper.Start()
}

func (l *lab) stop() {
	l.alive.Close()
	if err := l.keeper.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "integration: the control plane could not be taken away:", err)
	}
}

// command runs a program; its last lines become the error.
func command(dir string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if len(out) > 0 && err != nil {
		err = fmt.Errorf("%w: %s", err, lastLines(string(out), 5))
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(name), args[0], err)
	}
	return nil
}

func lastLines(text string, n int) string {
	var lines []string
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}
