package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pwdeploy/pwdeploy/test/chaos/proxy"
	"github.com/pwdeploy/pwdeploy/test/harness"
	"github.com/pwdeploy/pwdeploy/test/snapshot"
)

// life is one deployment, reached through a proxy.
type life struct {
	course
	base     string // begins the names of its namespaces
	site     *harness.Site
	edge     *harness.Edge
	proxy    *proxy.Proxy
	dir      string
	password string            // of Redis, as soon as it is known
	claim    types.UID         // of Redis' volume, as soon as there is one
	hashes   map[string]string // what stands for hashes in names
	log      bytes.Buffer
}

func newLife(t *testing.T, c course) *life {
	t.Helper()
	l := &life{course: c, site: harness.NewSite(t), dir: t.TempDir(), hashes: map[string]string{}}
	l.base = strings.TrimSuffix(l.site.App, "-app")
	if c.before {
		for _, ns := range []string{l.site.App, l.site.Redis} {
			harness.MakeNamespace(t, ns, map[string]string{"team": "crud"})
		}
	}
	if !c.addsData {
		harness.Volume(t, l.base)
	}
	var err error
	if l.proxy, err = proxy.Start(t.Context(), harness.Admin(t).Config); err != nil {
		t.Fatal(err)
	}
	for file, text := range valuesFiles {
		if err := os.WriteFile(filepath.Join(l.dir, file), []byte(strings.ReplaceAll(text, "CLASS", l.base)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if c.own {
		l.edge = harness.StartEdge(t, l.site.Ingress)
		t.Cleanup(func() { l.cleanUp(t) })
	} else {
		l.edge = l.site.ForeignController(t)
	}
	return l
}

// cleanUp takes away what a life that failed left: our own controller has objects in no namespace, and would be in the
// way of the next life.
func (l *life) cleanUp(t *testing.T) {
	if !t.Failed() {
		return
	}
	l.site.Env = nil
	if r := l.site.Pwdeploy(context.WithoutCancel(t.Context()), "down", "--yes", "--delete-data"); r.Code != 0 {
		t.Logf("down: exit code %d\n%s", r.Code, r.Errors)
	}
}

// environ names the values that a stage has.
func (l *life) environ(s stage) []string {
	return []string{
		"PWDEPLOY_REDIS_CHART_VALUES=" + filepath.Join(l.dir, s.redis),
		"PWDEPLOY_INGRESS_CHART_VALUES=" + filepath.Join(l.dir, s.ingress),
	}
}

func (l *life) namespaces() []string {
	return slices.DeleteFunc([]string{l.site.App, l.site.Redis, l.site.Ingress, l.site.Controller}, func(n string) bool { return n == "" })
}

// run is what a command did.
type run struct {
	code     int // of the exit; -1: it was killed
	out      string
	requests []proxy.Request
}

// fired reports whether a fault happened.
func (r run) fired() bool {
	return slices.ContainsFunc(r.requests, func(q proxy.Request) bool { return q.Fault != proxy.None })
}

// runLimit is far more than a run may take, which ends by itself after PWDEPLOY_TIMEOUT.
const runLimit = 5 * time.Minute

// run carries a stage's command out once, through the proxy.
func (l *life) run(t *testing.T, s stage, session proxy.Session) run {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), runLimit)
	defer cancel()
	kubeconfig := filepath.Join(l.dir, "kubeconfig")
	l.site.Env = append(l.environ(s), "KUBECONFIG="+kubeconfig)
	cmd, err := l.site.Command(ctx, s.args...)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	started, ended := make(chan struct{}), make(chan struct{})
	session.Kill = func() {
		<-started
		_ = cmd.Process.Kill() // it may have ended by itself
		<-ended
	}
	session.Interrupt = func() {
		<-started
		_ = cmd.Process.Signal(os.Interrupt)
	}
	if err := l.proxy.Begin(session, kubeconfig); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	_ = cmd.Wait() // the exit code says it
	close(ended)
	r := run{code: cmd.ProcessState.ExitCode(), out: out.String(), requests: l.proxy.End()}
	fmt.Fprintf(&l.log, "$ pwdeploy %s\n%sexit code %d after %d requests\n", strings.Join(s.args, " "), r.out, r.code, len(r.requests))
	l.watchPassword(t, s)
	l.watchClaim(t, s)
	return r
}

// watchPassword remembers Redis' password and requires that it stays, until the data is deleted.
func (l *life) watchPassword(t *testing.T, s stage) {
	t.Helper()
	now := ""
	secret, err := harness.Admin(t).CoreV1().Secrets(l.site.Redis).Get(t.Context(), "pwdeploy-redis", metav1.GetOptions{})
	switch {
	case err == nil:
		now = string(secret.Data["redis-password"])
	case !apierrors.IsNotFound(err):
		t.Fatal(err)
	}
	if l.password != "" && now != l.password && (now != "" || !s.deletesData()) {
		t.Errorf("%s: Redis' password was changed or lost", s.name)
	}
	if l.password == "" {
		l.password = now
	}
}

// watchClaim requires that Redis' volume stays the same, until the data is deleted.
func (l *life) watchClaim(t *testing.T, s stage) {
	t.Helper()
	if s.deletesData() {
		return
	}
	claim, err := harness.Admin(t).CoreV1().PersistentVolumeClaims(l.site.Redis).Get(t.Context(), claimName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && l.claim == "":
	case err != nil:
		t.Errorf("%s: Redis' volume: %v", s.name, err)
	case l.claim != "" && l.claim != claim.UID || claim.DeletionTimestamp != nil:
		t.Errorf("%s: Redis' volume is another one, or about to be deleted", s.name)
	default:
		l.claim = claim.UID
	}
}

// claimName is that of the volume of Redis' master, as its StatefulSet calls it.
const claimName = "redis-data-redis-master-0"

// addData gives Redis a volume, as the chart's StatefulSets leave them behind where Redis' data persists.
func (l *life) addData(t *testing.T) {
	t.Helper()
	harness.Create(t, harness.Object(t, l.site.Redis, `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: `+claimName+`, labels: {
  app.kubernetes.io/instance: redis, app.kubernetes.io/name: redis}}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`))
}

// settle bounds the wait for what controllers do when a command has ended: they remove old pods, for one.
const settle = time.Minute

// requireWorld waits until the deployment is what it should be.
func (l *life) requireWorld(t *testing.T, name string, want snapshot.Snapshot) bool {
	t.Helper()
	for deadline := time.Now().Add(settle); ; time.Sleep(200 * time.Millisecond) {
		diff := want.Diff(l.world(t))
		if len(diff) == 0 {
			return true
		}
		if time.Now().After(deadline) {
			t.Errorf("after %s the cluster differs from that of an undisturbed run:\n%s", name, strings.Join(diff, "\n"))
			return false
		}
	}
}
