package stack

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

func named(kind, name string) kube.Ref {
	ref := kube.Ref{Namespace: "ns", Name: name}
	ref.Kind = kind
	return ref
}

// TestLedger words how far a run got, by what it noted.
func TestLedger(t *testing.T) {
	pull := &kube.Problem{Reason: "ImagePullBackOff"}
	for name, test := range map[string]struct {
		note      func(*ledger)
		unchanged bool // nothing was written to the cluster
		cutOff    bool
		want      []ComponentState
	}{
		"only planned": {unchanged: true, cutOff: true, note: func(l *ledger) { l.plan(Redis, App) }},
		"about to make a namespace": {unchanged: true, cutOff: true, note: func(l *ledger) {
			l.plan(Redis, App)
			l.begin(Namespaces, "making pw-crud", "it may be there")
		}},
		"making a namespace": {cutOff: true, note: func(l *ledger) {
			l.plan(Redis, App)
			l.begin(Namespaces, "making pw-crud", "it may be there")
		}, want: []ComponentState{{Name: Redis, Message: "not begun"}, {Name: App, Message: "not begun"}, {Name: Namespaces, Message: "making pw-crud was cut off; it may be there"}}},
		"a hook": {cutOff: true, note: func(l *ledger) {
			l.begin(Ingress, "installing chart nginx 1", "the next run recovers the release")
			l.saw(Ingress, []kube.Readiness{{Ref: named("Job", "create"), Message: "0/1 done", Problem: pull}})
		}, want: []ComponentState{{Name: Ingress, Message: "installing chart nginx 1 was cut off, waiting for Job create; the next run recovers the release", Problems: []*kube.Problem{pull}}}},
		"a release that fails": {note: func(l *ledger) {
			l.begin(Redis, "upgrading chart redis 2", "the next run recovers the release")
		}, want: []ComponentState{{Name: Redis, Message: "upgrading chart redis 2 failed; the next run recovers the release"}}},
		"a rollout": {note: func(l *ledger) {
			l.begin(App, "applying image a", "")
			l.carry(App, "image a applied but for its Ingress")
			l.saw(App, []kube.Readiness{
				{Ref: named("Deployment", "pw-crud"), Message: "1/2 ready", Problem: &kube.Problem{Reason: "ContainerCreating", Usual: true}}, {Ref: named("Service", "pw-crud"), Ready: true},
			})
			l.carry(App, "image a applied")
		}, want: []ComponentState{{Name: App, Message: "image a applied, not ready: Deployment pw-crud 1/2 ready"}}},
		"a release that was not looked at yet": {note: func(l *ledger) {
			l.begin(Redis, "installing chart redis 1", "")
			l.saw(Redis, []kube.Readiness{{Ref: named("Job", "hook")}})
			l.carry(Redis, "chart redis 1 installed")
		}, want: []ComponentState{{Name: Redis, Message: "chart redis 1 installed, not ready"}}},
		"a release that could not be looked at": {note: func(l *ledger) {
			l.carry(Redis, "chart redis 1 installed")
			l.saw(Redis, []kube.Readiness{{Ref: named("StatefulSet", "redis-master"), Unread: true, Message: "its state could not be read"}})
		}, want: []ComponentState{{Name: Redis, Message: "chart redis 1 installed, not ready: StatefulSet redis-master"}}},
		"nothing to change, not ready": {unchanged: true, note: func(l *ledger) {
			l.settle(Redis, "ready, chart redis 1 unchanged")
			l.carry(App, "image a unchanged")
		}, want: []ComponentState{{Name: Redis, Message: "ready, chart redis 1 unchanged"}, {Name: App, Message: "image a unchanged, not ready"}}},
		"a teardown": {cutOff: true, note: func(l *ledger) {
			l.plan(App, Redis, Namespaces)
			l.leave(App, "deleted 8 objects")
			l.begin(Redis, "uninstalling release redis", "the next down takes it up")
		}, want: []ComponentState{
			{Name: Redis, Message: "uninstalling release redis was cut off; the next down takes it up"}, {Name: App, Message: "deleted 8 objects, not all gone yet"}, {Name: Namespaces, Message: "not begun"}}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			test.note(l)
			if diff := cmp.Diff(test.want, l.states(!test.unchanged, test.cutOff), cmp.AllowUnexported(kube.Problem{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
