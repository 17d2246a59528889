package integration

import (
	"slices"
	"strings"
	"testing"
)

// TestLifecycle takes an empty cluster to a served request and back: up, up again, status, down.
func TestLifecycle(t *testing.T) {
	edge := startEdge(t)
	s := newSite(t)
	empty := s.snapshot(t)

	first := s.up(t)
	if got, want := actions(first), "redis installed, ingress-nginx installed, app applied"; got != want || !first.Changed {
		t.Errorf("the first up: %s, changed: %v", got, first.Changed)
	}
	if e := first.Endpoint; e == nil || !strings.HasPrefix(e.URL, "http://"+s.host) || e.Via != "direct" {
		t.Errorf("the endpoint is %+v", e)
	}
	if asked, left := edge.served(); len(asked) != 3 || left != 0 {
		t.Errorf("the app was asked %v, and %d keys are left", asked, left)
	}
	if edge.webhookAsked() < 2 {
		t.Error("the Ingress did not go through the admission webhook, by dry run and in earnest")
	}
	before := s.snapshot(t)
	for key := range before {
		if _, old := empty[key]; !old && !strings.Contains(key, "/sh.helm.release") {
			requireOurManagers(t, key)
		}
	}

	again := s.up(t)
	if got, want := actions(again), "redis unchanged, ingress-nginx unchanged, app unchanged"; got != want || again.Changed {
		t.Errorf("the second up: %s, changed: %v", got, again.Changed)
	}
	requireUntouched(t, before, s.snapshot(t))

	if r := s.pwdeploy(t.Context(), "status"); r.code != 0 {
		t.Errorf("status: exit code %d\n%s%s", r.code, r.out, r.errors)
	}
	requireUntouched(t, before, s.snapshot(t))

	down := s.down(t, "--delete-data")
	if len(down.Kept) > 0 {
		t.Errorf("down kept %v", down.Kept)
	}
	requireUntouched(t, empty, s.snapshot(t))
	if r := s.pwdeploy(t.Context(), "down", "--yes"); r.code != 0 || !strings.Contains(r.out, "Nothing to take away") {
		t.Errorf("down again: exit code %d\n%s%s", r.code, r.out, r.errors)
	}
}

func requireOurManagers(t *testing.T, key string) {
	t.Helper()
	if strings.HasPrefix(key, "ValidatingWebhookConfiguration") || slices.ContainsFunc([]string{"Pod ", "ReplicaSet ", "ControllerRevision ", "ServiceAccount ", "ConfigMap ", "Namespace "}, func(p string) bool { return strings.HasPrefix(key, p) }) {
		return
	}
	t.Log(key)
}
