package integration

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

func (s *site) rollback(t *testing.T, args ...string) stack.RollbackResult {
	t.Helper()
	var out stack.RollbackResult
	s.must(t, &out, append([]string{"rollback", "--yes"}, args...)...)
	return out
}

// fewestReady follows the app's Deployment; the function that it gives stops that and tells how many pods were ready
// when the fewest were.
func (s *site) fewestReady(t *testing.T) func() int32 {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w, err := adminClient(t).AppsV1().Deployments(s.App).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=pw-crud"})
	if err != nil {
		t.Fatal(err)
	}
	fewest := make(chan int32, 1)
	go func() {
		least := int32(1000)
		for event := range w.ResultChan() {
			if d, ok := event.Object.(*appsv1.Deployment); ok {
				least = min(least, d.Status.ReadyReplicas)
			}
		}
		fewest <- least
	}()
	return func() int32 {
		stop()
		return <-fewest
	}
}

// TestRollback: an up that fails leaves what was there serving and says how to go back; a rollback puts the app and
// the releases back, and touches neither what is the same in both nor Redis' data.
func TestRollback(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	s.up(t, "--image", "pw/crudservice:1")
	requireRefused(t, s.Pwdeploy(t.Context(), "rollback", "--yes"), 1, "nothing to go back to", "pwdeploy history")
	requireRefused(t, s.Pwdeploy(t.Context(), "rollback"), 2, "no terminal", "--yes")
	requireRefused(t, s.Pwdeploy(t.Context(), "rollback", "--yes", "last"), 2, `"last" is not the number`, "pwdeploy history")
	redis := takeSnapshot(t, s.Redis)

	quota, fewest := s.noMorePods(t, 2), s.fewestReady(t)
	failed := s.Pwdeploy(t.Context(), "up", "--image", "pw/crudservice:2")
	if failed.Code != 1 || !strings.Contains(failed.Errors, "pwdeploy rollback returns to revision 1, image pw/crudservice:1") {
		t.Errorf("exit code %d\n%s", failed.Code, failed.Errors)
	}
	if !strings.Contains(failed.Errors, "the version before goes on serving, with 2 ready pods of image pw/crudservice:1\n") {
		t.Errorf("it is not said that what was there serves on:\n%s", failed.Errors)
	}
	if n := fewest(); n != 2 {
		t.Errorf("%d pods were ready while the update failed", n)
	}
	back := s.rollback(t)
	if got, want := actions(*back.UpResult), "redis unchanged, ingress-nginx reused, app applied"; got != want || !back.Changed || back.RollbackTo != 1 || back.Endpoint == nil {
		t.Errorf("%s, %+v", got, back)
	}
	s.requireHistory(t, "3 deployed 1 rollback to 1", "2 failed 2", "1 superseded 1")
	requireUntouched(t, redis, takeSnapshot(t, s.Redis))
	if r := s.Pwdeploy(t.Context(), "status"); r.Code != 0 || !strings.Contains(r.Out, "pw/crudservice:1") {
		t.Errorf("status: exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	if again := s.up(t, "--image", "pw/crudservice:1"); again.Changed {
		t.Errorf("what there is again is as it was: %s", actions(again))
	}
	requireRefused(t, s.Pwdeploy(t.Context(), "rollback", "--yes", "2"), 1, "revision 2 was never deployed", "these were deployed: 3, 1")
	remove(t, quota)
	s.rollbackOfReleases(t)
	s.rollbackOnFailure(t)
}

// rollbackOfReleases changes Redis' release too, and goes there and back.
func (s *site) rollbackOfReleases(t *testing.T) {
	t.Helper()
	password := secretValue(t, s.password(), "redis-password")
	requireReplicas := func(want int64) {
		t.Helper()
		o := read(t, kube.Ref{GroupVersionKind: kube.StatefulSetKind, Namespace: s.Redis, Name: "redis-replicas"})
		if n, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); n != want {
			t.Errorf("Redis has %d replicas, want %d", n, want)
		}
	}
	values := filepath.Join(t.TempDir(), "redis.yaml")
	if err := os.WriteFile(values, []byte("replica: {replicaCount: 2}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Env = []string{"PWDEPLOY_REDIS_CHART_VALUES=" + values}
	if up := s.up(t, "--image", "pw/crudservice:3"); !strings.Contains(actions(up), "redis upgraded") {
		t.Errorf("up: %s", actions(up))
	}
	requireReplicas(2)
	s.Env = nil
	const want = "redis rolled back, ingress-nginx reused, app applied"
	if got := actions(*s.rollback(t, "1").UpResult); got != want {
		t.Errorf("rollback: %s", got)
	}
	requireReplicas(1)
	s.requireHistory(t, "5 deployed 1 rollback to 1", "4 superseded 3", "3 superseded 1 rollback to 1", "2 failed 2", "1 superseded 1")
	if got := actions(*s.rollback(t).UpResult); got != want { // to the one before: where it came from
		t.Errorf("rollback: %s", got)
	}
	requireReplicas(2)
	if secretValue(t, s.password(), "redis-password") != password {
		t.Error("the password changed")
	}
	charts := s.history(t).Revisions[0].Charts
	if len(charts) != 1 || charts[0].ReleaseRevision != 4 {
		t.Errorf("the charts are %+v", charts)
	}
}

// rollbackOnFailure goes back by itself, once the failure has been told.
func (s *site) rollbackOnFailure(t *testing.T) {
	t.Helper()
	s.noMorePods(t, 2)
	r := s.Pwdeploy(t.Context(), "up", "--image", "pw/crudservice:9", "--rollback-on-failure")
	_, told, _ := strings.Cut(r.Errors, "Error:")
	evidence, after, found := strings.Cut(told, "Rolling back")
	if r.Code != 1 || !found || r.Out != "" || !strings.Contains(evidence, "exceeded quota") || !strings.Contains(after, "Back to revision 6, image pw/crudservice:3") {
		t.Errorf("exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	if strings.Contains(after, "Error:") {
		t.Errorf("the failure is told twice:\n%s", r.Errors)
	}
	requireSpec(t, read(t, s.deployment()), []string{"--image", "pw/crudservice:3"})
	if h := s.history(t).Revisions; h[0].Note != "rollback to 6" || h[1].Status != stack.RevisionFailed {
		t.Errorf("the history is %+v", h[:2])
	}
	failed := s.Pwdeploy(t.Context(), "rollback", "--yes", "1")
	if failed.Code != 1 || !strings.Contains(failed.Errors, "exceeded quota") || !strings.Contains(failed.Errors, "Running pwdeploy rollback again is safe") {
		t.Errorf("exit code %d\n%s", failed.Code, failed.Errors)
	}
}

// TestRollbackOnFailureFirst: where nothing was deployed before, what failed is left to be looked at.
func TestRollbackOnFailureFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	makeNamespace(t, s.App, nil)
	s.noMorePods(t, 1) // the second can't be made
	r := s.Pwdeploy(t.Context(), "up", "--rollback-on-failure")
	if r.Code != 1 || !strings.Contains(r.Errors, "exceeded quota") || !strings.Contains(r.Errors, "Not rolled back: nothing else was deployed before") {
		t.Errorf("exit code %d\n%s", r.Code, r.Errors)
	}
	if read(t, s.deployment()) == nil {
		t.Error("what failed is gone")
	}
	s.requireHistory(t, "1 failed latest")
	s.down(t, "--delete-data")
	s.requireHistory(t) // although the namespace is somebody else's, and stays
}

// TestRollbackKilled: the same command again comes to the end, and it is one rollback.
func TestRollbackKilled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	edge := s.ForeignController(t)
	s.up(t, "--image", "pw/crudservice:1")
	s.up(t, "--image", "pw/crudservice:2")
	edge.Close() // nobody answers: it waits at the end
	cmd, err := s.Command(t.Context(), "rollback", "--yes")
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the old image is asked for again", func() bool { return kube.FirstImage(read(t, s.deployment())) == "pw/crudservice:1" })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	s.requireHistory(t, "3 pending 1 under way, or cut off", "2 deployed 2", "1 superseded 1")
	eventually(t, "the status names the command that was killed", func() bool {
		return strings.Contains(s.Pwdeploy(t.Context(), "status").Out, "run pwdeploy rollback again")
	})
	harness.StartEdge(t, s.Controller)
	if back := s.rollback(t); back.RollbackTo != 1 {
		t.Errorf("%+v", back)
	}
	s.requireHistory(t, "3 deployed 1 rollback to 1", "2 superseded 2", "1 superseded 1")
}
