package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// master is the pod that most scenes are about.
const master = "Pod {redis}/redis-master-0"

// masterWaits is the state that they leave.
const masterWaits = "installed, not ready: StatefulSet redis-master 0/1 ready"

// podScenes are about pods that don't become ready. What a kubelet would write is written by the scene, in the words
// of Kubernetes 1.37 and containerd, on a node of its own on which nobody else acts.
func podScenes() []scene {
	waiting := func(reason, message string) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
	}
	crashed := func(reason string, code int32) corev1.ContainerStatus {
		s := waiting("CrashLoopBackOff", "back-off 40s restarting failed container")
		s.RestartCount = 3
		s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}
		return s
	}
	const pulling = `failed to pull and unpack image "reg.test/redis:1": failed to resolve reference "reg.test/redis:1": `
	played := func(name string, status corev1.ContainerStatus, w want) scene {
		w.code, w.object, w.state = 1, master, masterWaits
		return scene{name: name, provoke: ownNode, shown: playMaster(status), want: w}
	}
	limited := played("registry limits pulls (429)", waiting("ErrImagePull", pulling+"unexpected status from HEAD request to https://reg.test/v2/redis/manifests/1: 429 Too Many Requests"),
		want{reason: "ErrImagePull", hint: "limits how many images"})
	limited.command = []string{"up", "--timeout", "45s"} // it may pass, so pwdeploy waits
	missing := played("missing Secret", waiting("CreateContainerConfigError", `secret "login" not found`),
		want{reason: "CreateContainerConfigError", says: []string{`secret "login" not found`}, hint: "Secret {redis}/login is missing"})
	missing.provoke = ownNodeWith(", extraEnvVars: [{name: USER, valueFrom: {secretKeyRef: {name: login, key: user}}}]")
	return []scene{
		played("image not found", waiting("ErrImagePull", pulling+"reg.test/redis:1: not found"), want{reason: "ErrImagePull", says: []string{"not found"}, hint: "check that image"}),
		played("registry refuses (401)", waiting("ImagePullBackOff", pulling+"unexpected status from HEAD request to https://reg.test/v2/redis/manifests/1: 401 Unauthorized"),
			want{reason: "ImagePullBackOff", says: []string{"401 Unauthorized"}, hint: "imagePullSecrets"}),
		limited,
		played("bad image name", waiting("InvalidImageName", "couldn't parse image name"), want{reason: "InvalidImageName", hint: "is not an image name"}),
		played("crash loop", crashed("Error", 2), want{reason: "CrashLoopBackOff", says: []string{"exit code 2", "restarted 3 times"}, hint: "kubectl logs"}),
		played("OOM killed", crashed("OOMKilled", 137), want{reason: "OOMKilled", hint: "raise the limit"}),
		missing,
	}
}

// scheduleScenes are about pods that no node takes.
func scheduleScenes() []scene {
	unscheduled := func(name, values, hint string, says ...string) scene {
		return scene{name: name, command: []string{"up", "--timeout", "45s"}, // a node may be added, so pwdeploy waits a minute
			provoke: redisValues(values), shown: showsCondition(corev1.PodScheduled),
			want: want{code: 1, object: master, reason: "Unschedulable", says: says, hint: hint, state: masterWaits}}
	}
	return []scene{
		unscheduled("node selector that fits nothing", "master: {nodeSelector: {example.test/disk: none}}", "(example.test/disk=none)"),
		unscheduled("affinity that fits nothing", "master: {affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: example.test/zone, operator: In, values: [none]}]}]}}}}",
			"(example.test/zone in (none))"),
		unscheduled("not enough CPU", "master: {resources: {requests: {cpu: 100k}, limits: {cpu: 100k}}}", "no node is big enough", "100k cpu"),
	}
}

// refusalScenes are about pods that the namespace does not let in: that is seen before anything is made.
func refusalScenes() []scene {
	refused := func(name, object, says string) scene {
		return scene{name: name, provoke: func(t *testing.T, s *harness.Site) {
			harness.MakeNamespace(t, s.Redis, nil)
			harness.Create(t, harness.Object(t, s.Redis, object))
		}, want: want{code: 1, object: "StatefulSet {redis}/redis-master", reason: "the cluster does not take its pods", says: []string{says}, hint: "describe resourcequota,limitrange", state: nothingChanged}}
	}
	return []scene{
		refused("quota", "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, spec: {hard: {count/pods: 0}}}", "exceeded quota: none"),
		refused("limit range", "{apiVersion: v1, kind: LimitRange, metadata: {name: tiny}, spec: {limits: [{type: Container, max: {memory: 1Mi}}]}}", "maximum memory usage"),
	}
}

// redisValues gives Redis' chart more values.
func redisValues(values string) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "values.yaml")
		if err := os.WriteFile(path, []byte(values), 0o600); err != nil {
			t.Fatal(err)
		}
		s.Env = append(s.Env, "PWDEPLOY_REDIS_CHART_VALUES="+path)
	}
}

// ownNode makes a node for the scene alone, without a kubelet, and sends Redis' master there.
func ownNode(t *testing.T, s *harness.Site) { ownNodeWith("")(t, s) }

// ownNodeWith is ownNode with more values of the master. The master tolerates everything: the node has no heartbeat, and
// is tainted as unreachable at a time of the node controller's own.
func ownNodeWith(values string) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		t.Helper()
		makeOwnNode(t, s)
		redisValues(fmt.Sprintf("master: {nodeSelector: {%[1]s: %[2]s}, tolerations: [{operator: Exists}]%[3]s}", nodeKey, s.Redis, values))(t, s)
	}
}

// nodeKey labels and taints a scene's own node.
const nodeKey = "example.test/scene"

func makeOwnNode(t *testing.T, s *harness.Site) {
	t.Helper()
	admin := harness.Admin(t)
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: s.Redis, Labels: map[string]string{nodeKey: s.Redis}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: nodeKey, Value: s.Redis, Effect: corev1.TaintEffectNoSchedule}}},
	}
	if _, err := admin.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, now := context.WithoutCancel(t.Context()), int64(0)
		// Nobody else ends its pods.
		if err := admin.CoreV1().Pods(s.Redis).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: &now}, metav1.ListOptions{}); err != nil {
			t.Error(err)
		}
		if err := admin.CoreV1().Nodes().Delete(ctx, node.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	status := []byte(`{"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}, "capacity": {"cpu": "4", "memory": "8Gi", "pods": "10"}, "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "` +
		time.Now().UTC().Format(time.RFC3339) + `"}]}}`)
	if _, err := admin.CoreV1().Nodes().Patch(t.Context(), node.Name, types.StrategicMergePatchType, status, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
}

// pod waits until Redis' master is there as it should be.
func pod(t *testing.T, s *harness.Site, is func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var found *corev1.Pod
	harness.Eventually(t, "Redis' master is there", func() bool {
		p, err := harness.Admin(t).CoreV1().Pods(s.Redis).Get(t.Context(), "redis-master-0", metav1.GetOptions{})
		found = p
		return err == nil && is(p)
	})
	return found
}

// playMaster writes the status of Redis' master as its kubelet would.
func playMaster(status corev1.ContainerStatus) func(*testing.T, *harness.Site) time.Time {
	return func(t *testing.T, s *harness.Site) time.Time {
		t.Helper()
		p := pod(t, s, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
		status := status
		status.Name, status.Image = p.Spec.Containers[0].Name, p.Spec.Containers[0].Image
		patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{status}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := harness.Admin(t).CoreV1().Pods(s.Redis).Patch(t.Context(), p.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}
}

// showsCondition is when the master's condition has become False.
func showsCondition(kind corev1.PodConditionType) func(*testing.T, *harness.Site) time.Time {
	return func(t *testing.T, s *harness.Site) time.Time {
		t.Helper()
		pod(t, s, func(p *corev1.Pod) bool {
			for _, c := range p.Status.Conditions {
				if c.Type == kind && c.Status == corev1.ConditionFalse {
					return true
				}
			}
			return false
		})
		return time.Now()
	}
}
