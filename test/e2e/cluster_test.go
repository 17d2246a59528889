package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
)

// workload is a Deployment or StatefulSet of ours, and how to find its pods.
type workload struct{ namespace, name, selector string }

var (
	app         = workload{"pw-crud", "pw-crud", "app.kubernetes.io/name=pw-crud"}
	controller  = workload{"ingress-nginx", "ingress-nginx-controller", "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller"}
	redisMaster = workload{"redis", "redis-master", "app.kubernetes.io/name=redis,app.kubernetes.io/component=master"}
)

// eventually waits until something is true, for as long as a loaded machine may need.
func eventually(t *testing.T, what string, ask func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 4*time.Minute, true, ask); err != nil {
		t.Fatalf("waiting until %s: %v", what, err)
	}
}

// pods lists a workload's pods, those that are about to go included.
func (w workload) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := shared.client.CoreV1().Pods(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: w.selector})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (w workload) mustPods(t *testing.T) []corev1.Pod {
	t.Helper()
	pods, err := w.pods(t.Context())
	if err != nil || len(pods) == 0 {
		t.Fatalf("%d pods of %s, %v", len(pods), w.name, err)
	}
	return pods
}

// settle waits until as many pods as wanted are ready and no others are left.
func (w workload) settle(t *testing.T, replicas int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s has %d ready pods and no others", w.name, replicas), func(ctx context.Context) (bool, error) {
		pods, err := w.pods(ctx)
		return len(pods) == replicas && !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !ready(p) }), err
	})
}

func ready(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// deletePod deletes a pod as kubectl delete does.
func deletePod(t *testing.T, p corev1.Pod) {
	t.Helper()
	t.Logf("delete Pod %s/%s on %s", p.Namespace, p.Name, p.Spec.NodeName)
	if err := shared.client.CoreV1().Pods(p.Namespace).Delete(t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// restart does what kubectl rollout restart does, and waits until the rollout is over.
func (w workload) restart(t *testing.T) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339))
	deployments := shared.client.AppsV1().Deployments(w.namespace)
	if _, err := deployments.Patch(t.Context(), w.name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	var d *appsv1.Deployment
	eventually(t, w.name+" has rolled out", func(ctx context.Context) (bool, error) {
		var err error
		if d, err = deployments.Get(ctx, w.name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		want := *d.Spec.Replicas
		return d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == want && d.Status.AvailableReplicas == want, nil
	})
	w.settle(t, int(*d.Spec.Replicas))
}

// nodes are the names of the nodes that pods can be put on.
func nodes(t *testing.T) []string {
	t.Helper()
	list, err := shared.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range list.Items {
		if !n.Spec.Unschedulable && !slices.ContainsFunc(n.Spec.Taints, func(taint corev1.Taint) bool { return taint.Effect != corev1.TaintEffectPreferNoSchedule }) {
			names = append(names, n.Name)
		}
	}
	return names
}

// cordon keeps new pods from a node, until uncordon or the end of the test.
func cordon(t *testing.T, node string) (uncordon func()) {
	t.Helper()
	set := func(ctx context.Context, unschedulable bool) {
		patch := fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, unschedulable)
		if _, err := shared.client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Errorf("cordon %s: %v", node, err)
		}
	}
	uncordon = func() { set(context.Background(), false) }
	t.Cleanup(uncordon)
	set(t.Context(), true)
	return uncordon
}

// drain evicts a node's pods as kubectl drain --ignore-daemonsets --delete-emptydir-data does, and waits until they are
// gone: a PodDisruptionBudget that says no is asked again.
func drain(t *testing.T, node string) {
	t.Helper()
	pods, err := evictable(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
		eventually(t, "Pod "+p.Name+" may be evicted", func(ctx context.Context) (bool, error) {
			err := shared.client.PolicyV1().Evictions(p.Namespace).Evict(ctx, eviction)
			if apierrors.IsTooManyRequests(err) {
				return false, nil
			}
			if apierrors.IsNotFound(err) {
				err = nil
			}
			return err == nil, err
		})
		t.Logf("evicted Pod %s/%s from %s", p.Namespace, p.Name, node)
	}
	eventually(t, "no pod is left on "+node, func(ctx context.Context) (bool, error) {
		pods, err := evictable(ctx, node)
		return err == nil && len(pods) == 0, err
	})
}

// evictable lists a node's pods without those that belong on it: a DaemonSet's, and the kubelet's own.
func evictable(ctx context.Context, node string) ([]corev1.Pod, error) {
	list, err := shared.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		owner := metav1.GetControllerOf(&p)
		_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
		return mirror || owner != nil && owner.Kind == "DaemonSet"
	}), nil
}

// killProcess kills a program of a pod's only container with SIGKILL, as the kernel does when memory runs out. Inside
// the container nobody can do that to its first process: it is done from the machine, which sees the lab's processes.
// Where it doesn't see the cluster's, or may not, the test is skipped.
func killProcess(t *testing.T, p corev1.Pod, program string) {
	t.Helper()
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	pid := processOf(t, id, program)
	err := error(syscall.ESRCH)
	if pid > 0 {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err == nil {
		t.Logf("killed %s of Pod %s/%s", program, p.Namespace, p.Name)
		return
	}
	if os.Getenv("LAB_ADDRESS") == "" {
		t.Skipf("kill %s of container %s from this machine: %v", program, id, err)
	}
	t.Fatalf("kill %s of container %s: %v", program, id, err)
}

// processOf finds a container's process by its name, or returns 0.
func processOf(t *testing.T, container, program string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		// Processes end meanwhile.
		groups, _ := os.ReadFile(file)
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "comm"))
		if strings.Contains(string(groups), container) && strings.TrimSpace(string(name)) == program {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}
