package helm

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// rollBack carries out what PlanRollback says.
func rollBack(t *testing.T, c *Client, spec Spec, digest string, want Plan) {
	t.Helper()
	plan, err := c.PlanRollback(t.Context(), spec, digest)
	if err != nil || plan.Action != want.Action || plan.RollbackTo != want.RollbackTo || plan.Digest != digest {
		t.Fatalf("%+v, %v; want %+v", plan, err, want)
	}
	if plan.Action == ActionNone {
		return
	}
	if err := c.Rollback(t.Context(), spec, plan); err != nil {
		t.Fatal(err)
	}
}

func TestRollback(t *testing.T) {
	for _, name := range []string{"redis", "ingress-nginx"} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t)
			client, spec := newTestClient(t, api), testSpec(t, name)
			first := mustApply(t, client, spec, ActionInstall)
			rollBack(t, client, spec, first.Digest, Plan{Action: ActionNone})
			changed := spec
			changed.Values = cloneValues(spec.Values)
			changed.Values["extra"] = true
			second := mustApply(t, client, changed, ActionUpgrade)
			api.take()

			named := Spec{Name: spec.Name, Namespace: spec.Namespace, Instance: spec.Instance, Chart: &Chart{Name: name, Version: spec.Chart.Version}}
			rollBack(t, client, named, first.Digest, Plan{Action: ActionRollback, RollbackTo: 1})
			back, err := client.Get(t.Context(), spec.Namespace, spec.Name)
			if err != nil || back.Revision != 3 || back.Status != StatusDeployed || back.Digest != first.Digest || back.Instance != spec.Instance || back.ChartVersion != spec.Chart.Version {
				t.Errorf("%+v, %v", back, err)
			}
			mustApply(t, client, spec, ActionNone)
			rollBack(t, client, named, first.Digest, Plan{Action: ActionNone})
			rollBack(t, client, named, second.Digest, Plan{Action: ActionRollback, RollbackTo: 2})
			mustApply(t, client, changed, ActionNone)
			checkUninstall(t, api, client, spec)
		})
	}
}

// The names and namespace are all that a rollback needs of a Spec, beside whose it is.
func TestDecideRollback(t *testing.T) {
	release := func(revision int, status, digest string) *Release {
		return &Release{Name: "redis", Namespace: "redis", Instance: "pw-crud", Revision: revision, Status: status, Digest: digest}
	}
	spec := Spec{Name: "redis", Namespace: "redis", Instance: "pw-crud", Chart: &Chart{Name: "redis", Version: "1"}}
	forced := spec
	forced.Force = true
	foreign := release(1, StatusDeployed, "a")
	foreign.Instance = "other"
	for name, tt := range map[string]struct {
		all  []*Release
		spec Spec
		to   int
		err  string
	}{
		"it is that already":        {[]*Release{release(1, StatusDeployed, "a")}, spec, 0, ""},
		"objects of it are missing": {[]*Release{release(1, StatusDeployed, "a")}, forced, 1, ""},
		"after an upgrade":          {[]*Release{release(2, StatusDeployed, "b"), release(1, StatusSuperseded, "a")}, spec, 1, ""},
		"after one that failed":     {[]*Release{release(1, StatusDeployed, "a"), release(2, StatusFailed, "b")}, spec, 1, ""},
		"after one that was killed": {[]*Release{release(1, StatusDeployed, "a"), release(2, StatusPendingUpgrade, "b")}, spec, 1, ""},
		"a rollback was killed":     {[]*Release{release(1, StatusSuperseded, "a"), release(2, StatusDeployed, "b"), release(3, StatusPendingRollback, "a")}, spec, 1, ""},
		"and it is all there is":    {[]*Release{release(2, StatusDeployed, "b"), release(3, StatusPendingRollback, "a")}, spec, 3, ""},
		"the latest of that digest": {[]*Release{release(3, StatusSuperseded, "a"), release(1, StatusSuperseded, "a"), release(4, StatusDeployed, "b")}, spec, 3, ""},

		"none of that digest": {[]*Release{release(9, StatusDeployed, "b"), release(8, StatusSuperseded, "c")}, spec, 0, "can't go back to chart redis 1"},
		"somebody else's":     {[]*Release{foreign}, spec, 0, "belongs to another deployment"},
		"on its way out":      {[]*Release{release(1, StatusUninstalling, "a")}, spec, 0, "has been uninstalling"},
	} {
		plan, err := decideRollback(tt.all, tt.spec, "a")
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if want := (map[bool]Action{true: ActionRollback, false: ActionNone})[tt.to > 0]; err != nil || plan.RollbackTo != tt.to || plan.Action != want {
			t.Errorf("%s: got %+v, %v", name, plan, err)
		}
	}
}

func TestRollbackOfNothing(t *testing.T) {
	client, spec := newTestClient(t, newFakeAPI(t)), testSpec(t, "redis")
	_, err := client.PlanRollback(t.Context(), spec, "a")
	var gone *RevisionGoneError
	if !errors.As(err, &gone) || gone.Release.Name != "redis" || gone.Hint() == "" {
		t.Errorf("got %v", err)
	}
}

// A rollback that fails is no operation that goes on: Helm itself would leave some of them pending.
func TestRollbackFails(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "redis")
	first := mustApply(t, client, spec, ActionInstall)
	spec.Values["extra"] = true
	mustApply(t, client, spec, ActionUpgrade)
	plan, err := client.PlanRollback(t.Context(), spec, first.Digest)
	if err != nil {
		t.Fatal(err)
	}
	api.edit(func() {
		delete(api.objects, "/api/v1/namespaces/redis/services/redis-master")
		api.before = func(w http.ResponseWriter, r *http.Request) bool {
			refuse := r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/services")
			if refuse {
				answerStatus(w, http.StatusForbidden, "Forbidden")
			}
			return refuse
		}
	})
	if err := client.Rollback(t.Context(), spec, plan); err == nil || !strings.Contains(err.Error(), "roll back release redis/redis to revision 1") {
		t.Errorf("got %v", err)
	}
	api.edit(func() { api.before = nil })
	if rel, err := client.Get(t.Context(), "redis", "redis"); err != nil || rel.Status != StatusFailed {
		t.Errorf("%+v, %v", rel, err)
	}
	rollBack(t, client, spec, first.Digest, Plan{Action: ActionRollback, RollbackTo: 1})
}

// killedLater lets a run make its release's record, and what goes on with it is refused, as if it had been killed then.
// It needs the lock.
func killedLater(api *fakeAPI, goesOn string) {
	killed := false
	api.before = func(w http.ResponseWriter, r *http.Request) bool {
		refuse := killed && r.Method != http.MethodGet && (goesOn == "" || !strings.HasSuffix(r.URL.Path, goesOn))
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/secrets") {
			killed = true
		}
		if refuse {
			answerStatus(w, http.StatusForbidden, "Forbidden")
		}
		return refuse
	}
}

// A rollback that was killed and is run again takes back what it had still to take back, and finds what it has made.
func TestRollbackKilled(t *testing.T) {
	for name, test := range map[string]struct {
		before, after int  // controllers
		budget        bool // there is one when the rollback is killed
	}{
		"before it deleted":  {before: 1, after: 2, budget: true},
		"before it made any": {before: 2, after: 1, budget: false},
		"after it made some": {before: 2, after: 1, budget: true},
	} {
		t.Run(name, func(t *testing.T) {
			api := newFakeAPI(t)
			client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
			first := mustApply(t, client, withReplicas(spec, test.before), ActionInstall)
			mustApply(t, client, withReplicas(spec, test.after), ActionUpgrade)
			plan, err := client.PlanRollback(t.Context(), spec, first.Digest)
			if err != nil || plan.RollbackTo != 1 {
				t.Fatalf("%+v, %v", plan, err)
			}
			goesOn := ""
			if test.budget {
				goesOn = "/poddisruptionbudgets"
			}
			api.edit(func() { killedLater(api, goesOn) })
			if err := client.Rollback(t.Context(), spec, plan); err == nil {
				t.Fatal("it was not killed")
			}
			api.edit(func() { api.before = nil })
			requireNewest(t, client, StatusPendingRollback, 3)
			if there := api.objects[budgetPath] != nil; there != test.budget {
				t.Fatal("it was killed somewhere else")
			}
			rollBack(t, client, spec, first.Digest, Plan{Action: ActionRollback, RollbackTo: 1})
			requireNewest(t, client, StatusDeployed, 3)
			if there := api.objects[budgetPath] != nil; there != (test.before == 2) {
				t.Errorf("there is a budget: %v", there)
			}
			mustApply(t, client, withReplicas(spec, test.before), ActionNone)
		})
	}
}

// However often runs are killed, what they made is found: by the way back of an up, too.
func TestRecoveryKilled(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	mustApply(t, client, withReplicas(spec, 1), ActionInstall)
	mustApply(t, client, withReplicas(spec, 2), ActionUpgrade)
	budget := api.objects[budgetPath]
	mustApply(t, client, withReplicas(spec, 1), ActionUpgrade)
	applyKilled(t, api, client, withReplicas(spec, 2), StatusPendingUpgrade, 4)
	api.edit(func() { api.objects[budgetPath] = budget }) // it was killed after that was made

	other := withReplicas(spec, 1)
	other.Values["other"] = "value"
	api.edit(func() { killedLater(api, "") })
	for range 2 {
		if _, _, err := client.Apply(t.Context(), other); err == nil {
			t.Fatal("it was not killed")
		}
	}
	api.edit(func() { api.before = nil })
	mustApply(t, client, other, ActionUpgrade)
	if api.objects[budgetPath] != nil {
		t.Error("what only the killed run made is still there")
	}
}

// Without a revision that was ever deployed, Helm compares with the newest only.
func TestInstallsKilled(t *testing.T) {
	api := newFakeAPI(t)
	client, spec := newTestClient(t, api), testSpec(t, "ingress-nginx")
	applyKilled(t, api, client, withReplicas(spec, 2), StatusPendingInstall, 1)
	api.edit(func() { api.objects[budgetPath] = markedBudget() }) // it was killed after that was made
	api.edit(func() { killedLater(api, "") })
	if _, _, err := client.Apply(t.Context(), withReplicas(spec, 1)); err == nil {
		t.Fatal("it was not killed")
	}
	api.edit(func() { api.before = nil })
	requireNewest(t, client, StatusPendingUpgrade, 2)
	mustApply(t, client, withReplicas(spec, 1), ActionUpgrade)
	if api.objects[budgetPath] != nil {
		t.Error("what only the first run made is still there")
	}
}
