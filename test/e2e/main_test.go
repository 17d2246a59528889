// Package e2e runs the product as users do, as a program against a real cluster: the lab, or the one that
// PWDEPLOY_E2E_CONTEXT names. make e2e brings the lab up for it.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pwdeploy/pwdeploy/test/snapshot"
)

// cluster is what the tests run against.
type cluster struct {
	binary string
	config *rest.Config
	client kubernetes.Interface
}

var shared cluster

// host is the DNS name that pwdeploy serves the app under unless told otherwise.
const host = "demo.pw.test"

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "pwdeploy-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	shared.binary = filepath.Join(dir, "pwdeploy")
	build := exec.Command("go", "build", "-race", "-o", shared.binary, "../../cmd/pwdeploy")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build pwdeploy: %w\n%s", err, out)
	}
	if shared.config, err = connect(); err != nil {
		return 1, fmt.Errorf("no cluster to test on (make e2e brings the lab up; PWDEPLOY_E2E_CONTEXT names another): %w", err)
	}
	if shared.client, err = kubernetes.NewForConfig(shared.config); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// connect refuses to guess: the tests delete things, so the cluster is the lab's or is named.
func connect() (*rest.Config, error) {
	name := os.Getenv("PWDEPLOY_E2E_CONTEXT")
	if name == "" && os.Getenv("LAB_ADDRESS") == "" {
		return nil, errors.New("neither the lab's environment nor PWDEPLOY_E2E_CONTEXT is set")
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: name}).ClientConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{}
	return config, nil
}

// result is what a run of pwdeploy printed and how it ended.
type result struct {
	code   int
	stdout string
	stderr string
}

// command prepares a run of pwdeploy on the tests' cluster.
func command(ctx context.Context, args ...string) *exec.Cmd {
	if name := os.Getenv("PWDEPLOY_E2E_CONTEXT"); name != "" {
		args = append(args, "--context", name)
	}
	return exec.CommandContext(ctx, shared.binary, args...)
}

// pwdeploy runs the program and logs what it printed.
func pwdeploy(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	return finish(t, command(ctx, args...))
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	t.Logf("pwdeploy %v: exit %d after %.1fs\n%s%s", cmd.Args[1:], r.code, time.Since(begin).Seconds(), r.stderr, r.stdout)
	return r
}

// must runs pwdeploy and wants this exit code.
func must(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := pwdeploy(t, args...)
	if r.code != code {
		t.Fatalf("pwdeploy %v: exit %d, want %d", args, r.code, code)
	}
	return r
}

// upResult is what the tests read of `pwdeploy up -o json`.
type upResult struct {
	Changed  bool `json:"changed"`
	Endpoint struct {
		URL, Address, Via string
	} `json:"endpoint"`
	Components []struct{ Name, Action string } `json:"components"`
}

// up deploys and reads the result.
func up(t *testing.T, args ...string) upResult {
	t.Helper()
	r := must(t, 0, append([]string{"up", "-o", "json", "--timeout", "3m"}, args...)...)
	var out upResult
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		t.Fatalf("the result of up is not JSON: %v\n%s", err, r.stdout)
	}
	return out
}

func snap(t *testing.T, identity bool) snapshot.Snapshot {
	t.Helper()
	s, err := snapshot.Take(t.Context(), shared.config, identity)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func same(t *testing.T, what string, before, after snapshot.Snapshot) {
	t.Helper()
	for _, line := range before.Diff(after) {
		t.Errorf("%s: %s", what, line)
	}
}

// request asks the app for a path of its host by way of an address that up reported.
func request(ctx context.Context, method, address, host, path string) (int, string, error) {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// wantAnswer sends a request through the ingress and wants this answer.
func wantAnswer(t *testing.T, u upResult, method, path, want string) {
	t.Helper()
	if u.Endpoint.Via != "direct" {
		t.Fatalf("the ingress can only be reached by %s from here: these tests need its address", u.Endpoint.Via)
	}
	code, body, err := request(t.Context(), method, u.Endpoint.Address, host, path)
	if err != nil || code != http.StatusOK || body != want {
		t.Errorf("%s %s: %d %q, %v, want 200 %q", method, path, code, body, err, want)
	}
}
