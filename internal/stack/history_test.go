package stack

import (
	"slices"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// revisions makes stored revisions of statuses, the newest first: the last one has number 1.
func revisions(statuses ...kube.RevisionStatus) []*kube.Revision {
	out := make([]*kube.Revision, 0, len(statuses))
	for i, s := range statuses {
		out = append(out, &kube.Revision{Number: len(statuses) - i, Status: s})
	}
	return out
}

const (
	good    = kube.RevisionDeployed
	bad     = kube.RevisionFailed
	pending = kube.RevisionPending
)

func TestRevisionsOf(t *testing.T) {
	stored := revisions(pending, bad, good, pending, good)
	stored[2].RollbackTo = 1
	var got []string
	for _, r := range revisionsOf(stored) {
		got = append(got, string(r.Status)+": "+r.Note)
	}
	want := []string{"pending: under way, or cut off", "failed: ", "deployed: rollback to 1", "pending: did not end", "superseded: "}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestExpired(t *testing.T) {
	for name, tt := range map[string]struct {
		statuses []kube.RevisionStatus
		want     []int
	}{
		"few":               {slices.Repeat([]kube.RevisionStatus{good}, keptRevisions), nil},
		"many good ones":    {slices.Repeat([]kube.RevisionStatus{good}, keptRevisions+2), []int{2, 1}},
		"one good, failing": {append(append([]kube.RevisionStatus{good}, slices.Repeat([]kube.RevisionStatus{bad}, keptRevisions)...), good, bad), []int{3, 1}},
		"a third good one":  {append([]kube.RevisionStatus{good, good}, append(slices.Repeat([]kube.RevisionStatus{bad}, keptRevisions-2), good)...), []int{1}},
	} {
		if got := expired(revisions(tt.statuses...)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}
