//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pwdeploy/pwdeploy/test/snapshot"
)

// stage is one thing that both tools do. Together, in order, they go from an empty cluster to an empty cluster.
type stage struct {
	name  string
	title string
	empty bool // what the cluster is afterwards: empty, or serving
}

const (
	stageInstall = "install"
	stageAgain   = "again"
	stageImage   = "image"
	stageRemove  = "remove"
)

func stages() []stage {
	return []stage{
		{name: stageInstall, title: "From an empty cluster to a served request"},
		{name: stageAgain, title: "Once more, with nothing changed"},
		{name: stageImage, title: "Another image of the app"},
		{name: stageRemove, title: "Taking it all away", empty: true},
	}
}

// tool is a way to do it.
type tool struct {
	id       string              // in the names of files
	name     string              // in the output
	commands map[string][]string // by stage
}

func tools(o options) []tool {
	return []tool{
		{id: "pwdeploy", name: "pwdeploy", commands: map[string][]string{
			stageInstall: {"bin/pwdeploy", "up"},
			stageAgain:   {"bin/pwdeploy", "up"},
			stageImage:   {"bin/pwdeploy", "up", "--image", o.image},
			stageRemove:  {"bin/pwdeploy", "down", "--yes", "--delete-data"},
		}},
		{id: "script", name: o.label, commands: map[string][]string{
			stageInstall: {"test/bench/deploy.sh", "up"},
			stageAgain:   {"test/bench/deploy.sh", "up"},
			stageImage:   {"test/bench/deploy.sh", "up", o.image},
			stageRemove:  {"test/bench/deploy.sh", "down"},
		}},
	}
}

// bench is a benchmark on one cluster.
type bench struct {
	options
	progress   io.Writer
	config     *rest.Config // straight to the cluster
	kubernetes string       // its version
	empty      snapshot.Snapshot
	proxy      *proxy
	service    service
	caches     string // of the tools; empty at the start of each tool's round
	load       string
}

const (
	// settle bounds the wait for what should be there, or gone, when a command has returned.
	settle = time.Minute
	// settleEvery is between two looks.
	settleEvery = 200 * time.Millisecond
)

// open connects, wants the cluster to be empty, and starts the proxy.
func open(ctx context.Context, o options, progress io.Writer) (*bench, error) {
	b := &bench{options: o, progress: progress, service: service{o.address, o.host}, load: loadAverage()}
	var err error
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	b.config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	b.config.QPS, b.config.WarningHandler = -1, rest.NoWarnings{}
	if err := b.look(ctx); err != nil {
		return nil, err
	}
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return nil, err
	}
	b.caches = filepath.Join(b.dir, "caches")
	if err := os.MkdirAll(b.caches, 0o755); err != nil {
		return nil, err
	}
	if b.proxy, err = startProxy(ctx, b.config, o.delay); err != nil {
		return nil, err
	}
	return b, b.proxy.writeKubeconfig(b.kubeconfig())
}

func (b *bench) kubeconfig() string { return filepath.Join(b.dir, "kubeconfig") }

// look notes the version and what an empty cluster holds.
func (b *bench) look(ctx context.Context) error {
	client, err := discovery.NewDiscoveryClientForConfig(b.config)
	if err != nil {
		return err
	}
	version, err := client.ServerVersion()
	if err != nil {
		return err
	}
	b.kubernetes = version.GitVersion
	if b.empty, err = snapshot.Take(ctx, b.config, false); err != nil {
		return err
	}
	for _, name := range []string{"redis", "ingress-nginx", "pw-crud"} {
		if _, there := b.empty["Namespace /"+name]; there {
			return fmt.Errorf("the cluster isn't empty: there is a Namespace %s already; take it away first (pwdeploy down)", name)
		}
	}
	return nil
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}

// run lets the tools take turns, each beginning a round as often as the other.
func (b *bench) run(ctx context.Context) (*report, error) {
	r := b.newReport()
	for round := range b.rounds {
		order := tools(b.options)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, t := range order {
			if err := os.RemoveAll(b.caches); err != nil {
				return nil, err
			}
			for _, s := range stages() {
				m, err := b.measure(ctx, t, s, round+1)
				if err != nil {
					return nil, fmt.Errorf("round %d, %s, %s: %w", round+1, t.name, s.name, err)
				}
				fmt.Fprintf(b.progress, "round %d  %-8s %-8s %6.1f s, %d requests\n", round+1, t.id, s.name, m.Seconds, m.Requests)
				r.Measurements = append(r.Measurements, m)
			}
		}
	}
	return r, nil
}

// measure lets a tool do its part and compares what it says (by returning) with the truth.
func (b *bench) measure(ctx context.Context, t tool, s stage, round int) (measurement, error) {
	b.proxy.reset()
	begin := time.Now()
	stop := b.service.probe(ctx, begin)
	used, err := b.command(ctx, t, s, fmt.Sprintf("%d-%s-%s", round, t.id, s.name))
	returned := time.Since(begin)
	requests, connections := b.proxy.noted()
	if err != nil {
		stop()
		return measurement{}, err
	}
	m := measurement{Stage: s.name, Tool: t.name, Round: round, Seconds: used.Seconds, CPU: used.CPU, Peak: used.Peak, Connections: connections}
	m.count(requests)
	if s.empty {
		stop()
		m.True, m.TrueAfter, err = b.untilEmpty(ctx, begin)
		return m, err
	}
	m.True = b.service.ask(ctx) == nil
	m.TrueAfter, err = b.untilServed(ctx, begin)
	probed := stop()
	m.Asked, m.Failed = probed.asked, probed.failed
	if probed.first > 0 && probed.first < returned {
		m.TrueAfter = probed.first.Seconds()
	}
	return m, err
}

// untilServed waits for the service and gives the seconds since begin.
func (b *bench) untilServed(ctx context.Context, begin time.Time) (float64, error) {
	for deadline := time.Now().Add(settle); ; sleep(ctx, settleEvery) {
		err := b.service.ask(ctx)
		if err == nil || time.Now().After(deadline) || ctx.Err() != nil {
			return time.Since(begin).Seconds(), err
		}
	}
}

// untilEmpty waits until the cluster holds what it held before all of this, and gives the seconds since begin.
func (b *bench) untilEmpty(ctx context.Context, begin time.Time) (atOnce bool, seconds float64, err error) {
	for deadline := time.Now().Add(settle); ; sleep(ctx, settleEvery) {
		looked := time.Since(begin).Seconds()
		now, err := snapshot.Take(ctx, b.config, false)
		if err != nil {
			return false, 0, err
		}
		left := b.empty.Diff(now)
		if len(left) == 0 {
			return seconds == 0, looked, nil
		}
		if time.Now().After(deadline) {
			return false, 0, fmt.Errorf("the cluster isn't as empty as before:\n%s", strings.Join(left, "\n"))
		}
		seconds = looked
	}
}

// usage is what the program measure writes.
type usage struct {
	Seconds, CPU float64
	Peak         int64
}

// command runs a tool's command against the proxy. What it prints, and its requests, are kept under name.
func (b *bench) command(ctx context.Context, t tool, s stage, name string) (usage, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	result := filepath.Join(b.dir, "usage.json")
	printed, err := os.Create(filepath.Join(b.dir, name+".out"))
	if err != nil {
		return usage{}, err
	}
	defer printed.Close()
	cmd := exec.CommandContext(ctx, "bin/bench/measure", append([]string{result}, t.commands[s.name]...)...)
	cmd.Env = b.environment()
	cmd.Stdout, cmd.Stderr = printed, printed
	err = runGroup(cmd)
	if logErr := b.writeRequests(name + ".requests"); logErr != nil {
		return usage{}, logErr
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it was cut off: %w", ctx.Err())
	}
	if err != nil {
		return usage{}, fmt.Errorf("%s: %w\n%s", strings.Join(t.commands[s.name], " "), err, tail(printed.Name()))
	}
	return readUsage(result)
}

// stopTime is how long a command that is cut off may take to end by itself.
const stopTime = 30 * time.Second

// runGroup runs the command as a process group of its own. When it is cut off, all of the group is asked to end; nothing
// of it is left afterwards.
func runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	err := cmd.Run()
	if err == nil || cmd.Process == nil {
		return err
	}
	if killErr := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); killErr != nil && !errors.Is(killErr, syscall.ESRCH) {
		return errors.Join(err, killErr)
	}
	return err
}

func readUsage(file string) (usage, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return usage{}, err
	}
	var u usage
	return u, json.Unmarshal(text, &u)
}

// environment is the user's, with the proxy as cluster, and caches of charts and discovery that begin empty.
func (b *bench) environment() []string {
	return append(os.Environ(), "KUBECONFIG="+b.kubeconfig(), "KUBECACHEDIR="+filepath.Join(b.caches, "kube"),
		"XDG_CACHE_HOME="+filepath.Join(b.caches, "cache"), "XDG_CONFIG_HOME="+filepath.Join(b.caches, "config"),
		"XDG_DATA_HOME="+filepath.Join(b.caches, "data"))
}

// writeRequests keeps what went through the proxy, a line a request.
func (b *bench) writeRequests(name string) error {
	var text bytes.Buffer
	requests, _ := b.proxy.noted()
	for _, r := range requests {
		fmt.Fprintf(&text, "%8.3f %7.3f %3d %-9s %-6s %s\n", r.At.Seconds(), r.Took.Seconds(), r.Code, r.kind(), r.Method, r.URI)
	}
	return os.WriteFile(filepath.Join(b.dir, name), text.Bytes(), 0o600)
}

// tail is the end of what a command printed.
func tail(file string) string {
	const most = 20
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

// cleanUp takes away what a benchmark that broke off has left, whichever tool made it.
func (b *bench) cleanUp(ctx context.Context) error {
	fmt.Fprintln(b.progress, "taking away what is left")
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	proxy, err := startProxy(ctx, b.config, 0) // the other one may have ended with its context
	if err != nil {
		return err
	}
	b.proxy = proxy
	if err := proxy.writeKubeconfig(b.kubeconfig()); err != nil {
		return err
	}
	for _, t := range tools(b.options) {
		_, commandErr := b.command(ctx, t, stage{name: stageRemove}, "cleanup-"+t.id)
		err = errors.Join(err, commandErr)
	}
	_, _, emptyErr := b.untilEmpty(ctx, time.Now())
	if emptyErr == nil {
		return nil
	}
	return errors.Join(err, emptyErr)
}
