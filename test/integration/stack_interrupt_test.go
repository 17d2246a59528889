package integration

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/chaos/proxy"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// TestUpInterrupted: what was done stays and is recorded, so that the same command comes to the end the next time.
func TestUpInterrupted(t *testing.T) {
	s := newSite(t)
	s.cleanUp(t)
	ctx, interrupt := context.WithCancel(t.Context())
	finished := make(chan result, 1)
	go func() { finished <- s.Pwdeploy(ctx, "up") }()
	eventually(t, "the app is applied", func() bool { return read(t, s.deployment()) != nil })
	begin := time.Now()
	interrupt()
	r := <-finished
	if r.Code != 130 || time.Since(begin) > 90*time.Second || !strings.Contains(r.Errors, "Running pwdeploy up again is safe: it goes on where this one stopped.") {
		t.Errorf("exit code %d after %s\n%s", r.Code, time.Since(begin), r.Errors)
	}
	if inv, err := connect(t, nil).ReadInventory(t.Context(), s.App); err != nil || inv == nil || inv.Complete {
		t.Errorf("the record is %+v, %v", inv, err)
	}
	if r := s.Pwdeploy(t.Context(), "status"); r.Code != 3 {
		t.Errorf("status: exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	startEdge(t, s.Ingress) // until now no webhook answered: the Ingress was held back
	if again := s.up(t); again.Endpoint == nil {
		t.Error("it is not served")
	}
}

// ear is a stderr that tells when words were written to it.
type ear struct {
	words string

	mu    sync.Mutex
	text  bytes.Buffer
	heard chan struct{}
}

func newEar(words string) *ear { return &ear{words: words, heard: make(chan struct{})} }

// Write implements io.Writer.
func (e *ear) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was := strings.Contains(e.text.String(), e.words)
	n, err := e.text.Write(p)
	if !was && strings.Contains(e.text.String(), e.words) {
		close(e.heard)
	}
	return n, err
}

func (e *ear) all() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.text.String()
}

// wait waits for the words.
func (e *ear) wait() bool {
	select {
	case <-e.heard:
		return true
	case <-time.After(2 * time.Minute):
		return false
	}
}

// interruptAt interrupts a command line at the first request that is so, and lets that go on when the interruption was
// heard.
func (s *site) interruptAt(t *testing.T, is func(proxy.Request) bool, args ...string) result {
	t.Helper()
	return s.pwdeployAt(t, is, func(cmd *exec.Cmd, errs *ear) {
		_ = cmd.Process.Signal(os.Interrupt) // its end tells if it was gone already
		errs.wait()
	}, args...)
}

// pwdeployAt carries a command line out, and does something before the first request that is so goes on.
func (s *site) pwdeployAt(t *testing.T, is func(proxy.Request) bool, do func(*exec.Cmd, *ear), args ...string) result {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(stop)
	between, err := proxy.Start(ctx, harness.Admin(t).Config)
	if err != nil {
		t.Fatal(err)
	}
	through := *s
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	through.Env = append([]string{"PWDEPLOY_KUBECONFIG=" + kubeconfig}, s.Env...)
	cmd, err := through.Command(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	errs, begun := newEar("Ctrl-C again stops at once"), make(chan struct{})
	cmd.Stderr = errs
	did := false
	err = between.Begin(proxy.Session{
		Pick: func(r proxy.Request) proxy.Kind {
			if did || !is(r) {
				return proxy.None
			}
			did = true
			return proxy.Interrupt
		},
		Interrupt: func() {
			<-begun
			do(cmd, errs)
		},
	}, kubeconfig)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	close(begun)
	return ended(cmd, errs)
}

func ended(cmd *exec.Cmd, errs *ear) result {
	_ = cmd.Wait() // the exit code says it
	return result{Code: cmd.ProcessState.ExitCode(), Errors: errs.all()}
}

// request tells requests by their method and the path, a dry run apart.
func request(method, path string) func(proxy.Request) bool {
	return func(r proxy.Request) bool {
		at, query, _ := strings.Cut(r.URI, "?")
		return r.Method == method && at == path && !strings.Contains(query, "dryRun")
	}
}

// second tells the second request that is so.
func second(is func(proxy.Request) bool) func(proxy.Request) bool {
	n := 0
	return func(r proxy.Request) bool {
		if is(r) {
			n++
		}
		return n == 2
	}
}

// watches tells the watches of the pods in a namespace.
func watches(namespace string) func(proxy.Request) bool {
	return func(r proxy.Request) bool {
		return strings.HasPrefix(r.URI, "/api/v1/namespaces/"+namespace+"/pods?") && strings.Contains(r.URI, "watch=true")
	}
}

// requireLast compares what was said last with patterns, a line each.
func requireLast(t *testing.T, r result, code int, lines ...string) {
	t.Helper()
	said := strings.Split(strings.TrimRight(r.Errors, "\n"), "\n")
	if r.Code != code || len(said) < len(lines) {
		t.Fatalf("exit code %d\n%s", r.Code, r.Errors)
	}
	for i, line := range said[len(said)-len(lines):] {
		if !regexp.MustCompile("^" + lines[i] + "$").MatchString(line) {
			t.Errorf("the end is another, want %q, got %q\n%s", lines[i], line, r.Errors)
		}
	}
}

// What an interrupted up says at its end.
const (
	goesOn  = `Running pwdeploy up again is safe: it goes on where this one stopped\. pwdeploy status shows the whole\.`
	thereIs = `Interrupted\. What there is now:`
)

// TestInterruptedPlanning: nothing was changed, and it is said.
func TestInterruptedPlanning(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	empty := s.snapshot(t)
	r := s.interruptAt(t, request(http.MethodGet, "/apis/networking.k8s.io/v1/ingressclasses"), "up")
	requireLast(t, r, 130, `Interrupted before anything was changed\. Running pwdeploy up again is safe\.`)
	requireUntouched(t, empty, s.snapshot(t))
}

// TestInterruptedNamespace: the namespace that is being made when it is interrupted is there.
func TestInterruptedNamespace(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	r := s.interruptAt(t, request(http.MethodPatch, "/api/v1/namespaces/"+s.App), "up")
	requireLast(t, r, 130, thereIs, `  redis          not begun`, `  ingress-nginx  not begun`, `  app            not begun`,
		`  namespaces     (`+s.App+` made|making `+s.App+` was cut off; it may be there)`, goesOn)
	if read(t, kube.Ref{GroupVersionKind: kube.NamespaceKind, Name: s.App}) == nil {
		t.Error("the namespace is not there")
	}
	s.up(t)
}

// TestInterruptedRelease: a release that was cut off is named, and the same command comes to the end.
func TestInterruptedRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	helmsRecord := second(request(http.MethodPost, "/api/v1/namespaces/"+s.Redis+"/secrets")) // the first one is the password
	r := s.interruptAt(t, helmsRecord, "up")
	requireLast(t, r, 130, thereIs, `  redis          installing chart redis \S+ was cut off; the next run recovers the release`,
		`  ingress-nginx  not ours: class `+s.Class+` is used as it is`, `  app            .*image pw/crudservice:latest.*`, goesOn)
	if again := s.up(t); !strings.HasPrefix(actions(again), "redis upgraded") {
		t.Errorf("the next up: %s", actions(again))
	}
}

// TestInterruptedRollout: the version before serves on, and it is said.
func TestInterruptedRollout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t, "--image", "pw/crudservice:1")
	quota := s.noMorePods(t, 2)
	r := s.interruptAt(t, watches(s.App), "up", "--image", "pw/crudservice:2")
	requireLast(t, r, 130, thereIs, `  redis          (ready, )?chart redis \S+ unchanged.*`, `  ingress-nginx  not ours: class `+s.Class+` is used as it is`,
		`  app            image pw/crudservice:2 applied, not ready.*`,
		`                 the version before goes on serving, with 2 ready pods of image pw/crudservice:1`, goesOn)

	remove(t, quota)
	s.up(t, "--image", "pw/crudservice:2")
	quota = s.noMorePods(t, 2)
	r = s.interruptAt(t, watches(s.App), "rollback", "--yes")
	requireLast(t, r, 130, `  app            image pw/crudservice:1 applied, not ready.*`,
		`                 the version before goes on serving, with 2 ready pods of image pw/crudservice:2`, strings.Replace(goesOn, "up", "rollback", 1))
	remove(t, quota)
	if back := s.rollback(t); back.RollbackTo != 1 {
		t.Errorf("it went back to %d", back.RollbackTo)
	}
}

// TestInterruptedDown: what is gone and what is not is told, and the same command takes away the rest.
func TestInterruptedDown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	empty := s.snapshot(t)
	s.up(t)
	r := s.interruptAt(t, request(http.MethodDelete, "/apis/apps/v1/namespaces/"+s.App+"/deployments/pw-crud"), "down", "--yes", "--delete-data")
	requireLast(t, r, 130, thereIs, `  redis          (uninstall|not begun).*`, `  app            (removing 8 objects was cut off|deleted 8 objects, not all gone yet)`,
		`  data           not begun`, `  namespaces     not begun`, `Running pwdeploy down again is safe: it goes on where this one stopped\. pwdeploy status shows the whole\.`)
	s.down(t, "--delete-data")
	requireUntouched(t, empty, s.snapshot(t))
}

// TestTwoFirstRuns: a run that finds the lock taken says what is true of the namespace that it needed: that it made it, or
// that somebody else did.
func TestTwoFirstRuns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		at     func(*site) func(proxy.Request) bool
		before func(*testing.T, *site)
		want   func(*site) []string
	}{
		"it made the namespace": {
			at:     func(s *site) func(proxy.Request) bool { return request(http.MethodGet, lockPath(s)) },
			before: func(*testing.T, *site) {},
			want: func(s *site) []string {
				return []string{`What there is now:`, `  redis          not begun`, `  ingress-nginx  not begun`, `  app            not begun`, `  namespaces     ` + s.App + ` made`,
					`Running pwdeploy up again is safe; pwdeploy status shows the whole\.`}
			}},
		"somebody else made the namespace": {
			at: func(s *site) func(proxy.Request) bool {
				return second(request(http.MethodGet, "/api/v1/namespaces/"+s.App)) // the first is the plan's
			},
			before: func(t *testing.T, s *site) {
				theirs := object(t, "", "{apiVersion: v1, kind: Namespace, metadata: {name: "+s.App+"}}")
				kube.MarkOwned(theirs, s.App)
				create(t, theirs)
			},
			want: func(*site) []string {
				return []string{"", `Nothing was changed\. Running pwdeploy up again is safe\.`}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.ForeignController(t)
			client := connect(t, nil)
			var lock *kube.Lock
			var err error
			r := s.pwdeployAt(t, test.at(s), func(*exec.Cmd, *ear) {
				test.before(t, s)
				_, lock, err = client.Lock(t.Context(), lockAs(s.App, "anna@laptop pid 7"))
			}, "up")
			if err != nil || lock == nil {
				t.Fatalf("the lock was not to be had: %v\n%s", err, r.Errors)
			}
			requireLast(t, r, 5, test.want(s)...)
			if err := lock.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func lockPath(s *site) string {
	return "/apis/coordination.k8s.io/v1/namespaces/" + s.App + "/leases/" + kube.LockName
}

// TestHookLastWords: what a hook waited for is in the last words of a run that ran out of time, and of one that was
// interrupted.
func TestHookLastWords(t *testing.T) {
	s := newSite(t)
	s.cleanUp(t)
	values := filepath.Join(t.TempDir(), "ingress.yaml")
	if err := os.WriteFile(values, []byte("controller: {admissionWebhooks: {patch: {nodeSelector: {kubernetes.io/os: plan9}}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Env = []string{"PWDEPLOY_INGRESS_CHART_VALUES=" + values}
	late := s.Pwdeploy(t.Context(), "up", "--timeout", "40s")
	_, end, _ := strings.Cut(late.Errors, "Error:")
	for _, words := range []string{"ingress-nginx: not ready in time", "Job " + s.Ingress + "/ingress-nginx-admission-create: ", "Unschedulable", "Hint: ",
		"  ingress-nginx  installing chart ingress-nginx 4.15.1 was cut off, waiting for Job ingress-nginx-admission-create; the next run recovers the release\n"} {
		if late.Code != 1 || !strings.Contains(end, words) {
			t.Errorf("exit code %d, the end does not say %q:\n%s", late.Code, words, late.Errors)
		}
	}

	cmd, err := s.Command(t.Context(), "up")
	if err != nil {
		t.Fatal(err)
	}
	errs := newEar("Unschedulable")
	cmd.Stderr = errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !errs.wait() {
		t.Errorf("the hook's problem is not told")
	}
	_ = cmd.Process.Signal(os.Interrupt) // its end tells if it was gone already
	r := ended(cmd, errs)
	_, end, _ = strings.Cut(r.Errors, "Interrupted.")
	for _, words := range []string{"was cut off, waiting for Job ingress-nginx-admission-create; the next run recovers the release\n                 Pod " + s.Ingress + "/", "Unschedulable"} {
		if r.Code != 130 || !strings.Contains(end, words) {
			t.Errorf("exit code %d, the end does not say %q:\n%s", r.Code, words, r.Errors)
		}
	}
}
