package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// noKubelet is the name of a node that does not exist: nobody plays the kubelet of pods that are bound to it, so that
// a test can write their status.
const noKubelet = "no-kubelet"

// deployment is a Deployment whose pods have this spec beside their one container, which is spec too.
func deployment(t *testing.T, ns, name, pod, container string) *unstructured.Unstructured {
	t.Helper()
	return owned(t, ns, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: 2
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {%[2]s containers: [{name: main, image: "example.test/%[1]s:1", %[3]s}]}
`, name, pod, container))
}

func apply(t *testing.T, client *kube.Client, o *unstructured.Unstructured) kube.Ref {
	t.Helper()
	change, err := client.Apply(t.Context(), o, o.GetNamespace())
	if err != nil {
		t.Fatal(err)
	}
	return change.Ref
}

// Pods that no node takes, pods of a node without kubelet, and containers that the baseline level forbids.
const (
	nowhere   = "nodeSelector: {disk: none},"
	unserved  = "nodeName: " + noKubelet + ","
	forbidden = "securityContext: {privileged: true}"
)

// TestWait ends when the last pod is ready, by watches alone.
func TestWait(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	var traffic requests
	client := connect(t, traffic.wrap)
	ref := apply(t, client, deployment(t, ns, "web", nowhere, ""))
	service := apply(t, client, owned(t, ns, "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {ports: [{port: 80}], selector: {app: web}}}"))
	before := traffic.count()
	var mu sync.Mutex
	var seen []string
	done := make(chan error, 1)
	go func() {
		done <- client.Wait(within(t, 2*time.Minute), []kube.Ref{ref, service}, func(states []kube.Readiness) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(states))
		})
	}()
	lastSeen := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(seen[max(0, len(seen)-1):], "")
	}
	eventually(t, "the wait tells of pods without a node", func() bool { return strings.Contains(lastSeen(), "Unschedulable") })
	opened := traffic.settled(t)        // the nodes are asked for once
	time.Sleep(2500 * time.Millisecond) // more than two heartbeats, in which nothing happens
	if n := traffic.count() - opened; n != 0 {
		t.Errorf("%d requests while nothing happened: %v", n, traffic.all()[opened:])
	}
	if n := opened - before; n > 11 {
		t.Errorf("%d requests for the watches of 5 kinds and the nodes: %v", n, traffic.all()[before:])
	}
	select {
	case err := <-done:
		t.Fatalf("the wait gave up on pods without a node: %v", err)
	default:
	}
	apply(t, client, deployment(t, ns, "web", "", ""))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := lastSeen(); !strings.Contains(got, "2/2 ready") {
		t.Errorf("the last report is %s", got)
	}
	if strings.Contains(fmt.Sprint(seen), "Service") {
		t.Error("a Service has nothing to wait for")
	}
	if err := client.Wait(t.Context(), []kube.Ref{service}, nil); err != nil {
		t.Errorf("nothing to wait for: got %v", err)
	}
}

// settled waits until no request is made for half a second, and gives their number.
func (r *requests) settled(t *testing.T) int {
	t.Helper()
	n, at := r.count(), time.Now()
	eventually(t, "the requests come to an end", func() bool {
		if now := r.count(); now != n {
			n, at = now, time.Now()
		}
		return time.Since(at) > 500*time.Millisecond
	})
	return n
}

// TestWaitProblems: what keeps pods from becoming ready is named, and ends the wait early only where waiting can't
// help.
func TestWaitProblems(t *testing.T) {
	t.Parallel()
	waiting := func(reason, message string) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: "main", Image: "example.test/web:1", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
	}
	crashing := func(restarts int32, reason string) corev1.ContainerStatus {
		s := waiting("CrashLoopBackOff", "back-off")
		s.RestartCount = restarts
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 3, Reason: reason}
		return s
	}
	for name, test := range map[string]struct {
		labels         map[string]string // of the namespace
		beside         string            // an object beside the Deployment
		pod, container string
		status         *corev1.ContainerStatus // of every pod
		final          bool
		want           []string // in the message
		hint           string
	}{
		"no node takes the pod": {pod: nowhere, want: []string{"Pod ", "Unschedulable", "0/2 ready"}, hint: "add a node"},
		"no volume": {
			beside: "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}",
			pod:    "volumes: [{name: data, persistentVolumeClaim: {claimName: data}}],",
			want:   []string{"PersistentVolumeClaim ", "/data", "NoStorageClass"}, hint: "mark a StorageClass as default",
		},
		"the quota is used up": {
			beside: "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {pods: 0}}}",
			want:   []string{"ReplicaSet ", "FailedCreate", "exceeded quota: none"}, final: true, hint: "quota",
		},
		"the pod security level forbids it": {
			labels: map[string]string{"pod-security.kubernetes.io/enforce": "baseline"}, container: forbidden,
			want: []string{"ReplicaSet ", "FailedCreate", "PodSecurity"}, final: true, hint: "pod security level",
		},
		"the image can't be pulled": {
			pod: unserved, status: new(waiting("ImagePullBackOff", "not found")),
			want: []string{"Pod ", "ImagePullBackOff", "not found"}, final: true, hint: "image example.test/web:1",
		},
		"the first pull failed":         {pod: unserved, status: new(waiting("ErrImagePull", "not found")), want: []string{"ErrImagePull"}, hint: "check that image"},
		"the image's name is not valid": {pod: unserved, status: new(waiting("InvalidImageName", "")), want: []string{"InvalidImageName"}, final: true, hint: "set --image"},
		"it crashed once":               {pod: unserved, status: new(crashing(1, "Error")), want: []string{"CrashLoopBackOff", "exit code 3", "restarted once"}, hint: "kubectl logs"},
		"it crashes again and again":    {pod: unserved, status: new(crashing(4, "Error")), want: []string{"CrashLoopBackOff", "restarted 4 times"}, final: true, hint: "--previous"},
		"it is out of memory":           {pod: unserved, status: new(crashing(1, "OOMKilled")), want: []string{"OOMKilled"}, final: true, hint: "raise the limit"},
		"it is being created":           {pod: unserved, status: new(waiting("ContainerCreating", "")), want: []string{"0/2 ready"}, hint: "kubectl describe deployment"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, test.labels)
			client := connect(t, nil)
			if test.beside != "" {
				create(t, object(t, ns, test.beside))
			}
			ref := apply(t, client, deployment(t, ns, "web", test.pod, test.container))
			if test.status != nil {
				setPodStatus(t, ns, *test.status, 2)
			}
			// What may pass is waited for: the wait ends when it has been told, however long the cluster took to show it.
			ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
			defer stop()
			err := client.Wait(ctx, []kube.Ref{ref}, func(states []kube.Readiness) {
				if !test.final && containsAll(fmt.Sprint(states), test.want) {
					stop()
				}
			})
			var notReady *kube.NotReadyError
			if !errors.As(err, &notReady) {
				t.Fatalf("got %v", err)
			}
			if notReady.Timeout == test.final || errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Errorf("it gave up: %v, the time ran out: %v", !notReady.Timeout, errors.Is(ctx.Err(), context.DeadlineExceeded))
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %q", want, err)
				}
			}
			if !strings.Contains(notReady.Hint(), test.hint) {
				t.Errorf("the hint is %q", notReady.Hint())
			}
		})
	}
}

func containsAll(text string, words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// setPodStatus plays the kubelet of all pods in a namespace that are bound to noKubelet, from when there are n until the
// test ends: the pod garbage collector takes pods of a node that does not exist away, at a time of its own.
func setPodStatus(t *testing.T, ns string, status corev1.ContainerStatus, n int) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{status}}})
	if err != nil {
		t.Fatal(err)
	}
	pods := adminClient(t).CoreV1().Pods(ns)
	played := map[types.UID]bool{}
	play := func() bool {
		list, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + noKubelet})
		if err != nil {
			return false
		}
		for _, p := range list.Items {
			if played[p.UID] {
				continue
			}
			_, err := pods.Patch(t.Context(), p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
			played[p.UID] = err == nil
		}
		return len(list.Items) == n && !slices.ContainsFunc(list.Items, func(p corev1.Pod) bool { return !played[p.UID] })
	}
	eventually(t, "the pods have their status", play)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for t.Context().Err() == nil {
			time.Sleep(100 * time.Millisecond)
			play()
		}
	}()
	t.Cleanup(func() { <-done })
}

// TestWaitOldPods: pods of an earlier rollout are on their way out; what ails them neither ends the wait nor is told.
func TestWaitOldPods(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	ref := apply(t, client, deployment(t, ns, "web", unserved, ""))
	setPodStatus(t, ns, corev1.ContainerStatus{Name: "main", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}, 2)
	apply(t, client, deployment(t, ns, "web", "nodeName: null, "+nowhere, ""))
	ctx, enough := context.WithCancel(within(t, 2*time.Minute))
	err := client.Wait(ctx, []kube.Ref{ref}, func(states []kube.Readiness) {
		if strings.Contains(fmt.Sprint(states), "Unschedulable") {
			enough()
		}
	})
	var notReady *kube.NotReadyError
	if !errors.As(err, &notReady) || !notReady.Timeout || !strings.Contains(err.Error(), "Unschedulable") || strings.Contains(err.Error(), "ImagePullBackOff") {
		t.Errorf("got %v", err)
	}
}

// TestWaitMissing: an object that is not there is waited for.
func TestWaitMissing(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	o := deployment(t, ns, "late", "", "")
	ctx, enough := context.WithCancel(within(t, 2*time.Minute))
	err := client.Wait(ctx, []kube.Ref{kube.RefOf(o)}, func([]kube.Readiness) { enough() })
	if err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- client.Wait(within(t, 2*time.Minute), []kube.Ref{kube.RefOf(o)}, nil) }()
	time.Sleep(300 * time.Millisecond)
	apply(t, client, o)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestWaitWatchCut: a wait outlives its watches.
func TestWaitWatchCut(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	var traffic requests
	var cut cutter
	client := connect(t, func(next http.RoundTripper) http.RoundTripper { return traffic.wrap(cut.wrap(next)) })
	ref := apply(t, client, deployment(t, ns, "web", nowhere, ""))
	done := make(chan error, 1)
	told := make(chan struct{}, 100)
	go func() {
		done <- client.Wait(within(t, 2*time.Minute), []kube.Ref{ref}, func([]kube.Readiness) { told <- struct{}{} })
	}()
	<-told
	eventually(t, "the watches are open", func() bool { return cut.count() >= 4 })
	before := traffic.count()
	cut.cut()
	apply(t, client, deployment(t, ns, "web", "", ""))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	again := traffic.all()[before:]
	if !slices.ContainsFunc(again, func(s string) bool { return strings.Contains(s, "watch=true") }) {
		t.Errorf("no watch was begun again: %v", again)
	}
}

// cutter breaks watches off, as a load balancer does that forgets a connection.
type cutter struct {
	mu   sync.Mutex
	open []io.Closer
}

func (c *cutter) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(r)
		if err == nil && r.URL.Query().Get("watch") == "true" {
			c.mu.Lock()
			c.open = append(c.open, res.Body)
			c.mu.Unlock()
		}
		return res, err
	})
}

// count says how many watches are open.
func (c *cutter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// cut closes all open watches.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.open {
		o.Close()
	}
	c.open = nil
}

// TestAssess says of each object how it is, at one moment and without waiting.
func TestAssess(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil)
	client := connect(t, nil)
	refs := []kube.Ref{
		apply(t, client, deployment(t, ns, "good", "", "")),
		apply(t, client, deployment(t, ns, "bad", nowhere, "")),
		apply(t, client, owned(t, ns, configMap("settings", "key", "value"))),
		kube.RefOf(deployment(t, ns, "gone", "", "")),
	}
	if err := client.Wait(within(t, 2*time.Minute), refs[:1], nil); err != nil {
		t.Fatal(err)
	}
	var states []kube.Readiness
	eventually(t, "the pods without a node are known", func() bool {
		var err error
		states, err = client.Assess(context.Background(), refs)
		return err == nil && states[1].Problem != nil
	})
	for i, want := range []struct {
		ready, missing bool
		message        string
	}{{true, false, "2/2 ready"}, {false, false, "0/2 ready"}, {true, false, "ready"}, {false, true, "missing"}} {
		s := states[i]
		if s.Ref != refs[i] || s.Ready != want.ready || s.Missing != want.missing || s.Message != want.message {
			t.Errorf("got %+v, want %+v", s, want)
		}
	}
	if p := states[1].Problem; p.Reason != "Unschedulable" || p.Ref.Kind != "Pod" {
		t.Errorf("got %+v", p)
	}
}
