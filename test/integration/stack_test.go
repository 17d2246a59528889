package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// site is a deployment's names: each test has its own.
type site struct {
	app, redis, ingress string
	host                string
	class               string   // of ingresses
	controller          string   // the namespace of somebody else's controller, if there is one
	env                 []string // of pwdeploy; replaces what is there
}

// newSite chooses names; its namespaces go, if they are still there, when the test ends.
func newSite(t *testing.T) *site {
	t.Helper()
	base := uniqueName("s")
	s := &site{app: base + "-app", redis: base + "-redis", ingress: base + "-ingress", host: base + ".test", class: "nginx"}
	for _, ns := range []string{s.app, s.redis, s.ingress} {
		removeNamespace(t, ns)
	}
	return s
}

func (s *site) namespaces() []string {
	return []string{s.app, s.redis, s.ingress, s.controller}
}

func (s *site) environ() []string {
	return append(append([]string{
		"PWDEPLOY_NAMESPACE=" + s.app, "PWDEPLOY_REDIS_NAMESPACE=" + s.redis, "PWDEPLOY_INGRESS_NAMESPACE=" + s.ingress,
		"PWDEPLOY_HOST=" + s.host, "PWDEPLOY_INGRESS_CLASS_NAME=" + s.class, "PWDEPLOY_TIMEOUT=2m", "PWDEPLOY_PROFILE=local",
	}, labEnv...), s.env...)
}

// result is what a command line did.
type result struct {
	code        int
	out, errors string
}

// command is a command line of pwdeploy, to be carried out in a process of its own.
func (s *site) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(s.environ(), asPwdeployVariable+"=1", "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"))
	return cmd
}

// start begins a command line, and returns how to kill it.
func (s *site) start(t *testing.T, args ...string) (kill func()) {
	t.Helper()
	cmd := s.command(t.Context(), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return kill
}

// pwdeploy carries a command line out. It is interrupted when ctx ends.
func (s *site) pwdeploy(ctx context.Context, args ...string) result {
	var out, errs bytes.Buffer
	cmd := s.command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(""), &out, &errs
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	r := result{}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		r.code, r.errors = -1, err.Error()
		return r
	}
	r.code, r.out, r.errors = cmd.ProcessState.ExitCode(), out.String(), errs.String()
	return r
}

// must carries out a command line that has to succeed, and reads its result.
func (s *site) must(t *testing.T, into any, args ...string) result {
	t.Helper()
	r := s.pwdeploy(t.Context(), append(args, "-o", "json")...)
	if r.code != 0 {
		t.Fatalf("pwdeploy %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.out, r.errors)
	}
	if err := json.Unmarshal([]byte(r.out), into); err != nil {
		t.Fatalf("pwdeploy %s: %v\n%s", strings.Join(args, " "), err, r.out)
	}
	return r
}

func (s *site) up(t *testing.T, args ...string) stack.UpResult {
	t.Helper()
	var out stack.UpResult
	s.must(t, &out, append([]string{"up"}, args...)...)
	return out
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

// foreignController puts somebody else's ingress controller beside the site, and plays it: a class, and a Service with
// a node port. It is quicker than ours and leaves nothing to share with other tests, which ours does.
func (s *site) foreignController(t *testing.T) *edge {
	t.Helper()
	s.controller = namespace(t, nil)
	s.class = s.controller
	class := object(t, "", fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: %s}, spec: {controller: example.test/ingress}}", s.class))
	class.SetAnnotations(map[string]string{"meta.helm.sh/release-name": "platform", "meta.helm.sh/release-namespace": s.controller})
	ref := kube.RefOf(create(t, class))
	t.Cleanup(func() { remove(t, ref) })
	create(t, object(t, s.controller, `{apiVersion: v1, kind: Service, metadata: {name: controller, labels: {
  app.kubernetes.io/name: ingress-nginx, app.kubernetes.io/component: controller}}, spec: {type: NodePort, ports: [{port: 80}], selector: {a: b}}}`))
	return startEdge(t, s.controller)
}
