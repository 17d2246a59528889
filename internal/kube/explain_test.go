package kube

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// state is a look at a snapshot of objects in YAML, separated by "---", in namespace ns if they name none.
func state(t *testing.T, text string) *view {
	t.Helper()
	found := snapshot{}
	for _, part := range strings.Split(text, "---\n") {
		body, err := yaml.YAMLToJSON([]byte(part))
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(body); err != nil {
			t.Fatal(err)
		}
		switch o.GetKind() {
		case NodeKind.Kind, StorageClassKind.Kind, PVKind.Kind, NamespaceKind.Kind:
		default:
			if o.GetNamespace() == "" {
				o.SetNamespace("ns")
			}
		}
		key := groupKey{o.GroupVersionKind().GroupKind(), o.GetNamespace()}
		found[key] = append(found[key], o)
	}
	return &view{source: found, answers: newAnswers(), now: time.Now()}
}

// explained assesses an object, with the other objects and the logs, by container, as the answers to what is asked.
func explained(t *testing.T, ref Ref, text string, logs map[string]string) Readiness {
	t.Helper()
	v := state(t, text)
	var out Readiness
	for range assessRounds {
		out = assess(v, ref)
		for q, version := range v.answers.due(v.now) {
			v.answers.put(q, version, answerOf(v, q, logs), v.now)
		}
	}
	return out
}

func answerOf(v *view, q query, logs map[string]string) answer {
	got := answer{known: true}
	if q.container != "" {
		if log := logs[q.container]; log != "" {
			got.lines = strings.Split(log, "\n")
		}
		return got
	}
	if q.ref.Name != "" {
		if obj := v.object(q.ref); obj != nil {
			got.objs = append(got.objs, obj)
		}
		return got
	}
	for key, objs := range v.source.(snapshot) {
		if key.kind == q.ref.GroupKind() && (q.ref.Namespace == "" || q.ref.Namespace == key.namespace) {
			got.objs = append(got.objs, objs...)
		}
	}
	return got
}

// deployment is one of two pods ready, with its ReplicaSet and an older one that has a pod left.
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata: {name: app, uid: d, generation: 2, annotations: {deployment.kubernetes.io/revision: "2"}}
spec: {replicas: 2, template: {spec: {containers: [{name: c, image: "img:1"}]}}}
status: {observedGeneration: 2, replicas: 2, updatedReplicas: 2, readyReplicas: 1, availableReplicas: 1}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: app-new, uid: new, ownerReferences: [{uid: d}], annotations: {deployment.kubernetes.io/revision: "2"}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: app-old, uid: old, ownerReferences: [{uid: d}], annotations: {deployment.kubernetes.io/revision: "1"}}
---
`

// pod is a pod of a ReplicaSet with one container status.
func pod(name, owner, status string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: " + name + ", uid: " + name + ", ownerReferences: [{uid: " + owner + "}]}\n" + status
}

func waiting(reason string, more string) string {
	return "status: {containerStatuses: [{name: c, image: 'img:1', state: {waiting: {reason: " + reason + ", message: why}}" + more + "}]}\n"
}

func TestAssessNamesTheCause(t *testing.T) {
	tests := map[string]struct {
		pods  []string
		want  string // the problem; empty: none
		final bool
		usual bool
	}{
		"nothing known": {pods: []string{pod("p", "new", "spec: {nodeName: w}\nstatus: {phase: Pending}\n")}},
		"no scheduler at work": {
			pods: []string{pod("p", "new", "status: {phase: Pending}\n")},
			want: "Pod ns/p: NotScheduled: the scheduler default-scheduler has not looked at the pod", usual: true,
		},
		"image not there": {
			pods: []string{pod("p", "new", waiting("ImagePullBackOff", ""))},
			want: "Pod ns/p: ImagePullBackOff: why", final: true,
		},
		"first pull failed": {pods: []string{pod("p", "new", waiting("ErrImagePull", ""))}, want: "Pod ns/p: ErrImagePull: why", final: true},
		"bad image name":    {pods: []string{pod("p", "new", waiting("InvalidImageName", ""))}, want: "Pod ns/p: InvalidImageName: why", final: true},
		"missing Secret":    {pods: []string{pod("p", "new", waiting("CreateContainerConfigError", ""))}, want: "Pod ns/p: CreateContainerConfigError: why", final: true},
		"crashed once": {
			pods: []string{pod("p", "new", waiting("CrashLoopBackOff", ", restartCount: 1, lastState: {terminated: {exitCode: 2}}"))},
			want: "Pod ns/p: CrashLoopBackOff: container c ended with exit code 2, restarted once",
		},
		"crashes again and again": {
			pods: []string{pod("p", "new", waiting("CrashLoopBackOff", ", restartCount: 3, lastState: {terminated: {exitCode: 2}}"))},
			want: "Pod ns/p: CrashLoopBackOff: container c ended with exit code 2, restarted 3 times", final: true,
		},
		"out of memory": {
			pods: []string{pod("p", "new", waiting("CrashLoopBackOff", ", restartCount: 1, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}"))},
			want: "Pod ns/p: OOMKilled: container c ended with exit code 137, restarted once", final: true,
		},
		"no node": {
			pods: []string{pod("p", "new", "status: {conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no room}]}\n")},
			want: "Pod ns/p: Unschedulable: no room",
		},
		"not ready yet": {
			pods: []string{pod("p", "new", "status: {containerStatuses: [{name: c, state: {running: {}}, ready: false}]}\n")},
			want: "Pod ns/p: Unready: container c runs, but its readiness probe does not pass", usual: true,
		},
		"pods of an older rollout don't matter": {pods: []string{pod("p", "old", waiting("ImagePullBackOff", ""))}},
		"the final one first": {
			pods: []string{pod("a", "new", waiting("ErrImagePull", "")), pod("b", "new", waiting("InvalidImageName", ""))},
			want: "Pod ns/b: InvalidImageName: why", final: true,
		},
		"of equals always the same": {
			pods: []string{pod("z", "new", waiting("ErrImagePull", "")), pod("a", "new", waiting("ErrImagePull", ""))},
			want: "Pod ns/a: ErrImagePull: why", final: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			view := state(t, deployment+strings.Join(tt.pods, "---\n"))
			got := assess(view, Ref{GroupVersionKind: DeploymentKind, Namespace: "ns", Name: "app"})
			if got.Ready || got.Message != "1/2 ready" || got.Image != "img:1" {
				t.Errorf("got %+v", got)
			}
			if tt.want == "" {
				if got.Problem != nil {
					t.Errorf("found %s", got.Problem)
				}
				return
			}
			if got.Problem == nil || got.Problem.String() != tt.want {
				t.Fatalf("found %v, want %s", got.Problem, tt.want)
			}
			if got.Problem.Final != tt.final || got.Problem.Usual != tt.usual || got.Problem.Hint == "" {
				t.Errorf("got %+v", got.Problem)
			}
		})
	}
}

func TestAssessStatefulSetWithPendingClaim(t *testing.T) {
	const text = `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, uid: s, generation: 1}
spec: {replicas: 1}
status: {observedGeneration: 1, updateRevision: r1, replicas: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: db-0, labels: {controller-revision-hash: r1}, ownerReferences: [{uid: s}]}
spec: {volumes: [{name: data, persistentVolumeClaim: {claimName: data-db-0}}]}
status: {conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: unbound}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data-db-0}
spec: {SPEC}
status: {phase: Pending}
`
	ref := Ref{GroupVersionKind: StatefulSetKind, Namespace: "ns", Name: "db"}
	for spec, want := range map[string]string{
		"accessModes: []":       "PersistentVolumeClaim ns/data-db-0: NoStorageClass",
		"storageClassName: gp3": `PersistentVolumeClaim ns/data-db-0: VolumePending: no volume of StorageClass "gp3"`,
	} {
		got := assess(state(t, strings.Replace(text, "SPEC", spec, 1)), ref)
		if got.Problem == nil || !strings.HasPrefix(got.Problem.String(), want) {
			t.Errorf("found %v, want %s", got.Problem, want)
		}
	}
}

func TestAssessOtherKinds(t *testing.T) {
	tests := map[string]struct {
		text    string
		ready   bool
		missing bool
		message string
	}{
		"missing":     {text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", missing: true, message: "missing"},
		"job running": {text: "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nstatus: {active: 1, startTime: '2026-01-01T00:00:00Z'}\n", message: "running"},
		"job done":    {text: "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x}\nstatus: {succeeded: 1, conditions: [{type: Complete, status: 'True'}]}\n", ready: true, message: "ready"},
		"config map":  {text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", ready: true, message: "ready"},
		"rolling out": {
			text:    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, generation: 2}\nspec: {replicas: 2}\nstatus: {observedGeneration: 2, replicas: 3, updatedReplicas: 1, readyReplicas: 2, availableReplicas: 2}\n",
			message: "rolling out, 1/2 updated, 2 ready",
		},
		"being deleted": {
			text:    "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, deletionTimestamp: '2026-01-01T00:00:00Z'}\nspec: {replicas: 2}\n",
			message: "being deleted",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			view := state(t, tt.text)
			ref := Ref{GroupVersionKind: DeploymentKind, Namespace: "ns", Name: "x"}
			for _, objs := range view.source.(snapshot) {
				if !tt.missing {
					ref.GroupVersionKind = objs[0].GroupVersionKind()
				}
			}
			if got := assess(view, ref); got.Ready != tt.ready || got.Missing != tt.missing || got.Message != tt.message {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestJudgeIsPatient(t *testing.T) {
	problem := &Problem{Ref: Ref{Name: "p"}, Reason: "X", Final: true, Patience: 10 * time.Second}
	states := []Readiness{{Problem: problem}}
	start := time.Now()
	j := newJudge()
	j.see(states, start)
	if j.hopeless(states, start.Add(9*time.Second)) {
		t.Error("it gave up before the time")
	}
	j.see(states, start.Add(9*time.Second))
	if !j.hopeless(states, start.Add(10*time.Second)) {
		t.Error("it did not give up")
	}
	j.see([]Readiness{{}}, start.Add(11*time.Second)) // it went away ...
	j.see(states, start.Add(12*time.Second))          // ... and came back
	if j.hopeless(states, start.Add(13*time.Second)) {
		t.Error("it counted the time before the problem went away")
	}
	if j.hopeless([]Readiness{{Ready: true, Problem: problem}}, start.Add(time.Hour)) {
		t.Error("what is ready has no problem")
	}
}

// TestJudgeTellsWhatLasts: what every start has for a while is told when it lasts, and what is gone in a moment is
// none before.
func TestJudgeTellsWhatLasts(t *testing.T) {
	j, start := newJudge(), time.Now()
	for _, tt := range []struct {
		at          time.Duration
		there, tell bool
	}{{0, false, false}, {4 * time.Second, false, false}, {6 * time.Second, true, false}, {21 * time.Second, true, true}} {
		states := []Readiness{{Problem: &Problem{Reason: "X", Usual: true, passing: true}}}
		j.see(states, start.Add(tt.at))
		p := states[0].Problem
		if (p != nil) != tt.there || p != nil && p.Usual == tt.tell {
			t.Errorf("after %s: got %+v", tt.at, p)
		}
	}
}

// TestJudgeAwaitsLog: a crash is told with its log, or without it when that does not come; what is waited for anyhow
// is not held back.
func TestJudgeAwaitsLog(t *testing.T) {
	j, start := newJudge(), time.Now()
	crashed := []Readiness{{Problem: &Problem{Reason: "Crashed", logDue: true}}}
	j.see(crashed, start)
	for after, want := range map[time.Duration]bool{0: true, logPatience - 1: true, logPatience: false} {
		if got := j.awaitsLog(crashed, start.Add(after)); got != want {
			t.Errorf("after %s: %v", after, got)
		}
	}
	read := []Readiness{{Problem: &Problem{Reason: "Crashed"}}, {Problem: &Problem{Reason: "Unready", logDue: true, Usual: true}}, {Ready: true}}
	j.see(read, start)
	if j.awaitsLog(read, start) {
		t.Error("there is nothing to wait for")
	}
}

// TestLogOfWhatEnded: what a container said before it ended does not stand for what it said at its end.
func TestLogOfWhatEnded(t *testing.T) {
	a, q := newAnswers(), query{container: "c"}
	a.get(q, "0")
	for q, version := range a.due(time.Now()) {
		a.put(q, version, answer{known: true}, time.Now())
	}
	if !a.has(q, "0") || a.has(q, "ended 0") {
		t.Error("which version was read is not known")
	}
	a.get(q, "ended 0")
	if len(a.due(time.Now().Add(askAgain))) != 1 {
		t.Error("the log is not read again")
	}
}
