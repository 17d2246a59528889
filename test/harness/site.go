package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// Site is a deployment's names: each test has its own.
type Site struct {
	App, Redis, Ingress string // namespaces
	Host                string
	Class               string   // of ingresses
	Controller          string   // the namespace of somebody else's controller, if there is one
	Env                 []string // of pwdeploy; replaces what is there
	Unset               []string // variables that the lab sets and pwdeploy does not get
}

// NewSite chooses names; its namespaces go, if they are still there, when the test ends.
func NewSite(t *testing.T) *Site {
	t.Helper()
	base := UniqueName("s")
	s := &Site{App: base + "-app", Redis: base + "-redis", Ingress: base + "-ingress", Host: base + ".test", Class: "nginx"}
	for _, ns := range []string{s.App, s.Redis, s.Ingress} {
		RemoveNamespace(t, ns)
	}
	return s
}

// Environ is the whole environment of pwdeploy: nothing of the machine's gets in but what every program needs.
func (s *Site) Environ() ([]string, error) {
	lab, err := labEnviron(os.Getenv(labDirVariable))
	lab = slices.DeleteFunc(lab, func(assignment string) bool {
		name, _, _ := strings.Cut(assignment, "=")
		return slices.Contains(s.Unset, name)
	})
	environ := []string{
		"PWDEPLOY_NAMESPACE=" + s.App, "PWDEPLOY_REDIS_NAMESPACE=" + s.Redis, "PWDEPLOY_INGRESS_NAMESPACE=" + s.Ingress,
		"PWDEPLOY_HOST=" + s.Host, "PWDEPLOY_INGRESS_CLASS_NAME=" + s.Class, "PWDEPLOY_TIMEOUT=2m", "PWDEPLOY_PROFILE=local",
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), asPwdeployVariable + "=1",
	}
	return append(append(environ, lab...), s.Env...), err
}

// Result is what a command line did.
type Result struct {
	Code        int
	Out, Errors string
}

// Pwdeploy carries a command line out, in a process of its own. It is interrupted when ctx ends.
func (s *Site) Pwdeploy(ctx context.Context, args ...string) Result {
	var out, errs bytes.Buffer
	cmd, err := s.Command(ctx, args...)
	if err != nil {
		return Result{Code: -1, Errors: err.Error()}
	}
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return Result{Code: -1, Errors: err.Error()}
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Out: out.String(), Errors: errs.String()}
}

// Command is the process of a command line, for callers that follow it. It is interrupted when ctx ends.
func (s *Site) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Stdin = strings.NewReader("")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Minute
	var err error
	cmd.Env, err = s.Environ()
	return cmd, err
}

// ForeignController puts somebody else's ingress controller beside the site, and plays it: a class, and a Service with
// a node port. It is quicker than ours and leaves nothing to share with other tests, which ours does.
func (s *Site) ForeignController(t *testing.T) *Edge {
	t.Helper()
	s.Controller = Namespace(t, nil)
	s.Class = s.Controller
	class := Object(t, "", fmt.Sprintf("{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: %s}, spec: {controller: example.test/ingress}}", s.Class))
	class.SetAnnotations(map[string]string{"meta.helm.sh/release-name": "platform", "meta.helm.sh/release-namespace": s.Controller})
	ref := kube.RefOf(Create(t, class))
	t.Cleanup(func() { Remove(t, ref) })
	Create(t, Object(t, s.Controller, `{apiVersion: v1, kind: Service, metadata: {name: controller, labels: {
  app.kubernetes.io/name: ingress-nginx, app.kubernetes.io/component: controller}}, spec: {type: NodePort, ports: [{port: 80}], selector: {a: b}}}`))
	return StartEdge(t, s.Controller)
}
