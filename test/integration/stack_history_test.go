package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
)

func (s *site) history(t *testing.T) stack.History {
	t.Helper()
	var out stack.History
	s.must(t, &out, "history")
	return out
}

// requireHistory compares revisions, the newest first, with "number status image note".
func (s *site) requireHistory(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, r := range s.history(t).Revisions {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%d %s %s %s", r.Number, r.Status, strings.TrimPrefix(r.Image, "pw/crudservice:"), r.Note)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the history is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// noMorePods keeps the app's namespace from holding more pods than so many.
func (s *site) noMorePods(t *testing.T, most int) kube.Ref {
	t.Helper()
	quota := kube.RefOf(create(t, object(t, s.App, fmt.Sprintf("{apiVersion: v1, kind: ResourceQuota, metadata: {name: full}, spec: {hard: {pods: %d}}}", most))))
	eventually(t, "the quota is in force", func() bool {
		_, counted, _ := unstructured.NestedMap(read(t, quota).Object, "status", "hard")
		return counted
	})
	return quota
}

// TestHistory: a set that is deployed is one revision, however many runs it takes, and says where it came from.
func TestHistory(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.ForeignController(t)
	if r := s.Pwdeploy(t.Context(), "history"); r.Code != 0 || !strings.Contains(r.Out, "Nothing was deployed yet") {
		t.Errorf("before anything: exit code %d\n%s%s", r.Code, r.Out, r.Errors)
	}
	s.requireHistory(t)

	file := filepath.Join(t.TempDir(), "pwdeploy.yaml")
	if err := os.WriteFile(file, []byte("image: pw/crudservice:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.up(t, "--config", file)
	first := s.history(t).Revisions
	if len(first) != 1 {
		t.Fatalf("got %+v", first)
	}
	requireOrigin(t, first[0], file)
	before := s.snapshot(t)
	s.up(t, "--image", "pw/crudservice:1") // from elsewhere, but the same
	remove(t, kube.Ref{GroupVersionKind: kube.ServiceKind, Namespace: s.App, Name: "pw-crud"})
	s.up(t, "--image", "pw/crudservice:1") // mends what somebody deleted
	s.requireHistory(t, "1 deployed 1")
	if lines := differences(before, s.snapshot(t)); slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "pwdeploy-") }) {
		t.Errorf("there was nothing to record: %v", lines)
	}

	quota := s.noMorePods(t, 2)
	for range 2 { // the second run tries the same again
		if r := s.Pwdeploy(t.Context(), "up", "--image", "pw/crudservice:2"); r.Code != 1 {
			t.Fatalf("exit code %d\n%s", r.Code, r.Errors)
		}
		s.requireHistory(t, "2 failed 2", "1 deployed 1")
	}
	remove(t, quota)
	s.up(t, "--image", "pw/crudservice:3")
	s.requireHistory(t, "3 deployed 3", "2 failed 2", "1 superseded 1")

	table := s.Pwdeploy(t.Context(), "history")
	if table.Code != 0 || strings.Count(table.Out, "\n") != 4 || !strings.Contains(table.Out, "redis 23.1.1") {
		t.Errorf("exit code %d\n%s%s", table.Code, table.Out, table.Errors)
	}
	s.requireSecretKept(t)
	if down := s.down(t, "--delete-data"); len(down.Kept) > 0 {
		t.Errorf("down kept %v", down.Kept)
	}
	s.requireHistory(t)
}

func requireOrigin(t *testing.T, r stack.Revision, file string) {
	t.Helper()
	if r.By == "" || r.Pwdeploy != "test" || r.ConfigFile != file || r.Profile != "local" || r.EndedAt.Before(r.StartedAt) || r.StartedAt.IsZero() {
		t.Errorf("got %+v", r)
	}
	user := connect(t, nil).WhoAmI(t.Context())
	if user == "" || r.User != user {
		t.Errorf("the cluster calls the user %q, the revision %q", user, r.User)
	}
	if len(r.Charts) != 1 || r.Charts[0].Chart != "redis" || r.Charts[0].ReleaseRevision != 1 || r.Charts[0].ReleaseDigest == "" || !strings.HasPrefix(r.Charts[0].ChartDigest, "sha256:") {
		t.Errorf("the charts are %+v", r.Charts)
	}
}

// requireSecretKept fails if a revision holds a Secret's value, packed or not.
func (s *site) requireSecretKept(t *testing.T) {
	t.Helper()
	stored, err := connect(t, nil).ReadRevisions(t.Context(), s.App)
	if err != nil {
		t.Fatal(err)
	}
	password := secretValue(t, s.password(), "redis-password")
	for _, rev := range stored {
		if len(rev.Objects) == 0 {
			t.Errorf("revision %d holds no objects", rev.Number)
		}
		for _, o := range rev.Objects {
			if o.GetKind() == "Secret" || strings.Contains(intent(t, o), password) {
				t.Errorf("revision %d holds %s with a secret", rev.Number, kube.RefOf(o))
			}
		}
	}
}
