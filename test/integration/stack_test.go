package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// site is a deployment of a test.
type site struct{ harness.Site }

// newSite chooses its names.
func newSite(t *testing.T) *site {
	t.Helper()
	return &site{*harness.NewSite(t)}
}

// result is what a command line did.
type result = harness.Result

// start begins a command line, and returns how to kill it.
func (s *site) start(t *testing.T, args ...string) (kill func()) {
	t.Helper()
	cmd, err := s.Command(t.Context(), args...)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return kill
}

func (s *site) namespaces() []string { return []string{s.App, s.Redis, s.Ingress, s.Controller} }

// must carries out a command line that has to succeed, and reads its result.
func (s *site) must(t *testing.T, into any, args ...string) result {
	t.Helper()
	r := s.Pwdeploy(t.Context(), append(args, "-o", "json")...)
	if r.Code != 0 {
		t.Fatalf("pwdeploy %s: exit code %d\n%s%s", strings.Join(args, " "), r.Code, r.Out, r.Errors)
	}
	if err := json.Unmarshal([]byte(r.Out), into); err != nil {
		t.Fatalf("pwdeploy %s: %v\n%s", strings.Join(args, " "), err, r.Out)
	}
	return r
}

func (s *site) up(t *testing.T, args ...string) stack.UpResult {
	t.Helper()
	var out stack.UpResult
	s.must(t, &out, append([]string{"up"}, args...)...)
	return out
}

// lateUp runs up, whose --timeout has to end while it waits for what the words tell of. A slow machine may not come that
// far in the time: up goes on where it stopped, so that a later run does.
func (s *site) lateUp(t *testing.T, timeout, words string) result {
	t.Helper()
	var r result
	for range 4 {
		r = s.Pwdeploy(t.Context(), "up", "--timeout", timeout)
		if _, end, _ := strings.Cut(r.Errors, "Error:"); strings.Contains(end, words) {
			break
		}
		t.Logf("not yet, exit code %d:\n%s", r.Code, r.Errors)
	}
	return r
}

func (s *site) down(t *testing.T, args ...string) stack.DownResult {
	t.Helper()
	var out stack.DownResult
	s.must(t, &out, append([]string{"down", "--yes"}, args...)...)
	return out
}

func (s *site) snapshot(t *testing.T) snapshot {
	t.Helper()
	return takeSnapshot(t, slices.DeleteFunc(s.namespaces(), func(n string) bool { return n == "" })...)
}

// actions gives what up did to each component.
func actions(r stack.UpResult) string {
	var parts []string
	for _, c := range r.Components {
		parts = append(parts, fmt.Sprintf("%s %s", c.Name, c.Action))
	}
	return strings.Join(parts, ", ")
}
