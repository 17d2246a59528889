package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
)

// Images that the lab's nodes have, of which none is the app.
const (
	pauseImage   = "registry.k8s.io/pause:3.10"
	certgenImage = "registry.k8s.io/ingress-nginx/kube-webhook-certgen:v1.6.9@sha256:01038e7de14b78d702d2849c3aad72fd25903c4765af63cf16aa3398f5d5f2dd"
)

// appWaits is the state that a scene of the app leaves.
const appWaits = "applied, not ready: Deployment pw-crud 0/2 ready"

// labScenes are made for real, with containers that start, fail and are killed. Each begins on an empty cluster.
func labScenes() []scene {
	all := slices.Concat(containerScenes(), registryScenes(), sourceScenes(), volumeScenes(), nodeScenes(), edgeScenes())
	for i := range all {
		all[i].needs = lab
	}
	return all
}

// ofRedis is a scene that values of Redis' chart bring about, and that shows on its master.
func ofRedis(name, values string, shown func(*corev1.Pod) bool, w want) scene {
	w.code, w.object, w.state = 1, master, masterWaits
	return scene{name: name, provoke: redisValues("replica: {replicaCount: 0}\n" + values), shown: showsPod(shown), want: w}
}

// containerScenes are about containers that end, or never do what they should.
func containerScenes() []scene {
	crashes := ofRedis("crash loop with its last words", "commonConfiguration: |-\n  no-such-directive yes\n", restarted(1),
		want{reason: "Bad directive", says: []string{"ended with exit code 1", "no-such-directive"}, hint: "kubectl logs"})
	memory := ofRedis("memory limit that nothing starts with", "master: {resources: {requests: {memory: 1Mi}, limits: {memory: 1Mi}}}\n", event("FailedCreatePodSandBox"),
		want{reason: "FailedCreatePodSandBox", says: []string{"OOM-killed"}, hint: "container redis has a memory limit of 1Mi, with which nothing starts"})
	readiness := ofRedis("failing readiness", probe("customReadinessProbe", "echo not today; exit 1"), event("Unhealthy"),
		want{reason: "not today", says: []string{"Unready", "its readiness probe does not pass"}, hint: "kubectl logs"})
	readiness.command = []string{"up", "--timeout", "40s"}
	liveness := ofRedis("failing liveness", probe("customLivenessProbe", "echo no life; exit 1"), event("Killing"),
		want{reason: "no life", says: []string{"ProbeFailed", "its liveness probe failed"}, hint: "does not answer its liveness probe"})
	liveness.command = []string{"up", "--timeout", "60s"}
	return []scene{
		crashes, memory, readiness, liveness,
		{name: "image that is another program", command: []string{"up", "--image", certgenImage}, shown: showsApp(restarted(1)),
			want: want{code: 1, object: "Pod {app}/pw-crud", reason: "ended with exit code", says: []string{"unknown flag: --password-file"}, state: appWaits, hint: "kubectl logs"}},
		{name: "image that serves nothing", command: []string{"up", "--image", pauseImage, "--timeout", "60s"}, shown: showsApp(event("Unhealthy")),
			want: want{code: 1, object: "Pod {app}/pw-crud", reason: "startup probe", says: []string{"connection refused"}, state: appWaits, hint: "kubectl logs"}},
		{name: "registry that does not exist", command: []string{"up", "--image", "registry.invalid/pw/crudservice:9"}, shown: showsApp(waitsFor("ErrImagePull", "ImagePullBackOff")),
			want: want{code: 1, object: "Pod {app}/pw-crud", reason: "registry.invalid", says: []string{"ImagePull"}, state: appWaits, hint: "registry"}},
	}
}

// sourceScenes are about what a container is made of.
func sourceScenes() []scene {
	return []scene{
		ofRedis("missing ConfigMap", "master: {extraVolumes: [{name: more, configMap: {name: nowhere}}], extraVolumeMounts: [{name: more, mountPath: /more}]}", event("FailedMount"),
			want{reason: "FailedMount", hint: "ConfigMap {redis}/nowhere is missing"}),
		ofRedis("missing key of a ConfigMap", "master: {extraEnvVars: [{name: A, valueFrom: {configMapKeyRef: {name: redis-configuration, key: nope}}}]}", waitsFor("CreateContainerConfigError"),
			want{reason: "CreateContainerConfigError", hint: `ConfigMap {redis}/redis-configuration has no key "nope"`}),
		ofRedis("missing Secret of a variable", "master: {extraEnvVars: [{name: A, valueFrom: {secretKeyRef: {name: nowhere, key: a}}}]}", waitsFor("CreateContainerConfigError"),
			want{reason: "CreateContainerConfigError", hint: "Secret {redis}/nowhere is missing"}),
		ofRedis("user that the image must not have", "master: {containerSecurityContext: {runAsUser: 0}}", waitsFor("CreateContainerConfigError"),
			want{reason: "CreateContainerConfigError", says: []string{"breaks non-root policy"}, hint: "security settings"}),
	}
}

// volumeScenes are about volumes that nobody makes.
func volumeScenes() []scene {
	persistent := func(class string) string {
		return fmt.Sprintf("replica: {replicaCount: 0}\nmaster: {persistence: {enabled: true%s}}\n", class)
	}
	pending := scene{name: "volume pending", command: []string{"up", "--timeout", "40s"}, provoke: func(t *testing.T, s *harness.Site) {
		storageClass(t, s.Redis)
		redisValues(persistent(", storageClass: "+s.Redis))(t, s)
	}, want: want{code: 1, object: "PersistentVolumeClaim {redis}/redis-data-redis-master-0", reason: "VolumePending", says: []string{"{redis}"}, state: masterWaits, hint: "provisioner"}}
	return []scene{
		{name: "no default StorageClass", provoke: func(t *testing.T, s *harness.Site) {
			noDefaultClass(t)
			redisValues(persistent(""))(t, s)
		}, want: want{code: 1, object: "StorageClass", reason: "default", state: masterWaits, hint: "StorageClass"}},
		{name: "StorageClass that does not exist", provoke: redisValues(persistent(", storageClass: nowhere")),
			want: want{code: 1, object: "nowhere", reason: "StorageClass", state: masterWaits, hint: "kubectl get storageclass"}},
		pending,
	}
}

// nodeScenes are about nodes that take no pods.
func nodeScenes() []scene {
	taint := `{"spec": {"taints": [{"key": "example.test/gpu", "value": "only", "effect": "NoSchedule"}]}}`
	return []scene{
		{name: "taint that nothing tolerates", command: []string{"up", "--timeout", "30s"}, provoke: everyNode(taint, `{"spec": {"taints": null}}`),
			want: want{code: 1, object: master, reason: "Unschedulable", says: []string{"example.test/gpu"}, state: masterWaits, hint: "taint"}},
		{name: "no node takes pods", command: []string{"up", "--timeout", "30s"}, provoke: everyNode(`{"spec": {"unschedulable": true}}`, `{"spec": {"unschedulable": null}}`),
			want: want{code: 1, object: "node", reason: "cordoned", state: masterWaits, hint: "kubectl uncordon"}},
	}
}

// edgeScenes are about the ingress controller and what the app finds in the cluster.
func edgeScenes() []scene {
	return []scene{
		{name: "certgen job fails", provoke: ingressValues("controller: {admissionWebhooks: {createSecretJob: {securityContext: {runAsUser: 0}}}}"),
			want: want{code: 1, object: "{ingress}/ingress-nginx-admission-create", reason: "CreateContainerConfigError", says: []string{"breaks non-root policy"}, state: "waiting for Job ingress-nginx-admission-create", hint: "security settings"}},
		{name: "LoadBalancer pending", command: []string{"up", "--profile", "aws"}, shown: showsPod(lastReady), provoke: redisValues("master: {persistence: {enabled: false}}\nreplica: {persistence: {enabled: false}}\n"),
			want: want{object: "Service {ingress}/ingress-nginx-controller", reason: "LoadBalancerPending", says: []string{"service.k8s.aws/nlb"}, hint: "AWS"}},
		{name: "host port taken", command: []string{"up", "--timeout", "40s"}, provoke: takePorts,
			want: want{code: 1, object: "port", reason: "80", state: "ingress-nginx-controller 0/1 ready", hint: "port"}},
		{name: "service can't reach Redis", command: []string{"up", "--timeout", "60s"}, provoke: redisValues("replica: {replicaCount: 0}\nmaster: {service: {ports: {redis: 6390}}}\n"),
			want: want{code: 1, object: "Pod {app}/pw-crud", reason: "Redis", state: appWaits, hint: "Redis"}},
		{name: "Redis password changed while Redis runs", provoke: otherPassword, shown: showsApp(event("Unhealthy")),
			want: want{code: 1, object: "Pod {app}/pw-crud", reason: "RedisRefusesPassword", says: []string{"WRONGPASS"}, state: "not ready: Deployment pw-crud 0/2 ready", hint: "kubectl rollout restart Redis' StatefulSets"}},
		{name: "DNS in the cluster broken", command: []string{"up", "--timeout", "60s"}, provoke: noNameServer,
			want: want{code: 1, object: "Pod {app}/pw-crud", reason: "lookup", state: appWaits, hint: "kube-system"}},
	}
}

// otherPassword changes Redis' password under a deployment that serves, as restoring an old Secret does, and has the app
// start anew: Redis still has the password that it was started with.
func otherPassword(t *testing.T, s *harness.Site) {
	if r := s.Pwdeploy(t.Context(), "up"); r.Code != 0 {
		t.Fatalf("the first up: exit code %d\n%s", r.Code, r.Errors)
	}
	admin := harness.Admin(t).CoreV1()
	for _, secret := range []struct{ namespace, name string }{{s.Redis, "pwdeploy-redis"}, {s.App, "pw-crud-redis"}} {
		patch := []byte(`{"stringData": {"redis-password": "restored-from-somewhere"}}`)
		if _, err := admin.Secrets(secret.namespace).Patch(t.Context(), secret.name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := admin.Pods(s.App).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
}

// probe is a probe of Redis' master that runs a shell every second, and fails at once.
func probe(name, script string) string {
	return fmt.Sprintf("master: {%s: {exec: {command: [sh, -c, %q]}, periodSeconds: 1, failureThreshold: 1}}", name, script)
}

// lastReady tells the pod that is ready last of all, and is: Redis' replica, which waits for the master.
func lastReady(p *corev1.Pod) bool {
	return p.Name == "redis-replicas-0" && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// restarted tells a pod with a container that was restarted so often.
func restarted(times int32) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.RestartCount >= times })
	}
}

// waitsFor tells a pod with a container that waits for one of these reasons.
func waitsFor(reasons ...string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
			return c.State.Waiting != nil && slices.Contains(reasons, c.State.Waiting.Reason)
		})
	}
}

// event tells a pod about which its node has said this.
func event(reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Annotations[shownEvents+reason] != "" }
}

// shownEvents marks a pod, as showsPod gives it, with the reasons of its events.
const shownEvents = "events.example.test/"

// showsPod is when Redis' master shows it.
func showsPod(is func(*corev1.Pod) bool) func(*testing.T, *harness.Site) time.Time {
	return func(t *testing.T, s *harness.Site) time.Time { return showsAny(t, s.Redis, is) }
}

// showsApp is when a pod of the app shows it.
func showsApp(is func(*corev1.Pod) bool) func(*testing.T, *harness.Site) time.Time {
	return func(t *testing.T, s *harness.Site) time.Time { return showsAny(t, s.App, is) }
}

func showsAny(t *testing.T, namespace string, is func(*corev1.Pod) bool) time.Time {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if slices.ContainsFunc(podsWithEvents(t, namespace), is) {
			return time.Now()
		}
	}
	t.Error("the cluster does not show the cause")
	return time.Now()
}

// podsWithEvents are a namespace's pods, each with its events in the place of its annotations.
func podsWithEvents(t *testing.T, namespace string) []*corev1.Pod {
	t.Helper()
	core := harness.Admin(t).CoreV1()
	pods, err := core.Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	events, err := core.Events(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out []*corev1.Pod
	for i := range pods.Items {
		p := &pods.Items[i]
		p.Annotations = map[string]string{}
		for _, e := range events.Items {
			if e.InvolvedObject.UID == p.UID {
				p.Annotations[shownEvents+e.Reason] = e.Message
			}
		}
		out = append(out, p)
	}
	return out
}

// storageClass makes one whose provisioner is nobody.
func storageClass(t *testing.T, name string) {
	t.Helper()
	ref := kube.RefOf(harness.Create(t, harness.Object(t, "", fmt.Sprintf("{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: %s}, provisioner: example.test/nobody}", name))))
	t.Cleanup(func() { harness.Remove(t, ref) })
}

// noDefaultClass takes the mark of the default class away until the scene ends.
func noDefaultClass(t *testing.T) {
	t.Helper()
	const mark = "storageclass.kubernetes.io/is-default-class"
	classes := harness.Admin(t).StorageV1().StorageClasses()
	set := func(name, value string) {
		patch := fmt.Appendf(nil, `{"metadata": {"annotations": {%q: %q}}}`, mark, value)
		if _, err := classes.Patch(context.WithoutCancel(t.Context()), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := classes.List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Items {
		if c.Annotations[mark] == "true" {
			set(c.Name, "false")
			t.Cleanup(func() { set(c.Name, "true") })
		}
	}
}

// everyNode changes all nodes until the scene ends.
func everyNode(patch, back string) func(*testing.T, *harness.Site) {
	return func(t *testing.T, _ *harness.Site) {
		t.Helper()
		nodes := harness.Admin(t).CoreV1().Nodes()
		all, err := nodes.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range all.Items {
			if _, err := nodes.Patch(t.Context(), n.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if _, err := nodes.Patch(context.WithoutCancel(t.Context()), n.Name, types.MergePatchType, []byte(back), metav1.PatchOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// ingressValues gives ingress-nginx' chart more values.
func ingressValues(values string) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		t.Helper()
		s.Env = append(s.Env, "PWDEPLOY_INGRESS_CHART_VALUES="+file(t, "ingress.yaml", []byte(values)))
	}
}

// takePorts lets somebody else's pods have port 80 of every node.
func takePorts(t *testing.T, _ *harness.Site) {
	t.Helper()
	ns := harness.Namespace(t, nil)
	nodes, err := harness.Admin(t).CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes.Items {
		harness.Create(t, harness.Object(t, ns, fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: on-%s}, spec: {nodeName: %[1]s, containers: [{name: web, image: '%s', ports: [{containerPort: 80, hostPort: 80}]}]}}", n.Name, pauseImage)))
	}
}

// noNameServer stops the cluster's DNS until the scene ends.
func noNameServer(t *testing.T, _ *harness.Site) {
	t.Helper()
	deployments := harness.Admin(t).AppsV1().Deployments(metav1.NamespaceSystem)
	scale := func(ctx context.Context, n int32) {
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"replicas": n}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := deployments.Patch(ctx, "coredns", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	was, err := deployments.Get(t.Context(), "coredns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	scale(t.Context(), 0)
	t.Cleanup(func() { scale(context.WithoutCancel(t.Context()), *was.Spec.Replicas) })
	harness.Eventually(t, "the name server is gone", func() bool {
		pods, err := harness.Admin(t).CoreV1().Pods(metav1.NamespaceSystem).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pods.Items {
			if strings.HasPrefix(p.Name, "coredns-") {
				return false
			}
		}
		return true
	})
}
