package kube

import (
	"fmt"
	"strings"
	"testing"
)

const (
	readyNode   = "conditions: [{type: Ready, status: 'True'}], allocatable: {cpu: '2', memory: 4Gi}"
	unreadyNode = "conditions: [{type: Ready, status: Unknown, reason: NodeStatusUnknown, message: Kubelet stopped posting node status.}]"
)

// node is a node with more in its metadata and spec.
func node(name, meta, spec, status string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: Node\nmetadata: {name: %s%s}\nspec: {%s}\nstatus: {%s}\n", name, meta, spec, status)
}

// unscheduled is a pod p that the scheduler found no node for.
func unscheduled(spec, message string) string {
	return "spec: {" + spec + "}\nstatus: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: " + quote(message) + "}]}\n"
}

func claimed(name string) string {
	return "volumes: [{name: data, persistentVolumeClaim: {claimName: " + name + "}}]"
}

// TestExplainUnscheduled: the scheduler's texts are those of Kubernetes 1.37.
func TestExplainUnscheduled(t *testing.T) {
	const claim = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, uid: p}\nspec: {storageClassName: fast}\nstatus: {phase: Pending}\n"
	class := func(more string) string {
		return "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: fast" + more + "\n"
	}
	local := func(host string) string {
		return strings.Replace(strings.Replace(claim, "Pending", "Bound", 1), "fast}", "fast, volumeName: pv1}", 1) +
			"---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv1}\nspec: {nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [" + host + "]}]}]}}}\n"
	}
	tests := map[string]struct {
		spec, message string
		beside        string
		want          string
		hint          string
		verdict       string
		evidence      string
	}{
		"no node at all": {message: "no nodes available to schedule pods", want: "Pod ns/p: Unschedulable: no nodes available", hint: "the cluster has no nodes", verdict: "still waiting: this may pass"},
		"no node ready": {
			message: "0/1 nodes are available: 1 node(s) had taints that the pod didn't tolerate.", beside: node("a", "", "taints: [{key: node.kubernetes.io/unreachable, effect: NoSchedule}]", unreadyNode),
			want: "Pod ns/p: Unschedulable", hint: "no node is ready", verdict: "still waiting: this may pass", evidence: "node a: it is not ready: NodeStatusUnknown: Kubelet stopped posting node status.",
		},
		"cordoned":      {beside: node("a", "", "unschedulable: true", readyNode), want: "Pod ns/p: Unschedulable", hint: "kubectl uncordon", verdict: "waiting 1m0s more: this may pass"},
		"node selector": {spec: "nodeSelector: {disk: ssd}", message: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.", beside: node("a", "", "", readyNode), want: "Pod ns/p: Unschedulable: 0/1", hint: "(disk=ssd)", verdict: "waiting 1m0s more: this may pass"},
		"node affinity": {
			spec:   "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [z9]}]}, {matchFields: [{key: metadata.name, operator: In, values: [b]}]}]}}}",
			beside: node("a", ", labels: {zone: z1}", "", readyNode), want: "Pod ns/p: Unschedulable", hint: "(zone in (z9) or metadata.name in (b))", verdict: "waiting 1m0s more: this may pass",
		},
		"taint": {beside: node("a", "", "taints: [{key: dedicated, value: gpu, effect: NoSchedule}]", readyNode), want: "Pod ns/p: Unschedulable", hint: "(dedicated=gpu:NoSchedule)", verdict: "waiting 1m0s more: this may pass"},
		"a taint that is tolerated, and room is short": {
			spec:   "tolerations: [{key: dedicated, operator: Exists}], containers: [{name: c, resources: {requests: {cpu: 1500m, memory: 1Gi}}}]",
			beside: node("a", "", "taints: [{key: dedicated, value: gpu, effect: NoSchedule}]", readyNode), want: "Pod ns/p: Unschedulable", hint: "asks for 1500m CPU, 1Gi memory", verdict: "still waiting: this may pass",
		},
		"too big for every node": {
			spec: "containers: [{name: c, resources: {requests: {cpu: '64'}}}]", message: "0/2 nodes are available: 2 Insufficient cpu.", beside: node("a", "", "", readyNode) + node("b", "", "", unreadyNode),
			want: "Pod ns/p: Unschedulable", hint: "the pod asks for 64 cpu, the node has 2 in all", verdict: "waiting 1m0s more: this may pass", evidence: "node b: it is not ready",
		},
		"a node is being added": {
			spec: "nodeSelector: {disk: ssd}", beside: node("a", "", "", readyNode) + event("TriggeredScaleUp", "", "pod triggered scale-up: [{asg 1->2 (max: 3)}]"),
			want: "Pod ns/p: Unschedulable", hint: "a node is being added", verdict: "still waiting: this may pass",
		},
		"host port": {
			spec: "containers: [{name: c, ports: [{hostPort: 80}]}]", message: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
			beside: node("a", "", "", readyNode) + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: traefik, namespace: kube-system, uid: t}\nspec: {nodeName: a, containers: [{name: c, ports: [{hostPort: 80, protocol: TCP}]}]}\n",
			want:   "Pod ns/p: HostPortTaken", hint: "port 80 of node a belongs to Pod kube-system/traefik", verdict: "waiting 1m0s more: this may pass",
		},
		"anti-affinity": {
			spec:   "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname}]}}",
			beside: node("a", "", "", readyNode), want: "Pod ns/p: Unschedulable", hint: "anti-affinity", verdict: "still waiting: this may pass",
		},
		"no default StorageClass": {
			spec: claimed("data"), beside: strings.Replace(claim, "storageClassName: fast", "", 1) + class("}"),
			want: "PersistentVolumeClaim ns/data: NoStorageClass", hint: "(there are fast)", verdict: "waiting 30s more: this may pass",
		},
		"a StorageClass that does not exist": {
			spec: claimed("data"), beside: claim, want: `PersistentVolumeClaim ns/data: StorageClassMissing: it names StorageClass "fast"`, hint: "kubectl get storageclass", verdict: "waiting 30s more: this may pass",
		},
		"provisioning fails": {
			spec: claimed("data"), beside: claim + class("}") + event("ProvisioningFailed", "", `failed to provision volume with StorageClass "fast": UnauthorizedOperation`),
			want: "PersistentVolumeClaim ns/data: ProvisioningFailed: failed to provision", hint: "tries again", verdict: "still waiting: this may pass",
		},
		"the provisioner does not answer": {
			spec: claimed("data"), beside: claim + class("}") + event("ExternalProvisioning", "", "Waiting for a volume to be created"),
			want: "PersistentVolumeClaim ns/data: VolumePending", hint: "does not answer", verdict: "still waiting: this may pass",
		},
		"a volume that waits for the pod is not the problem": {
			spec: claimed("data") + ", nodeSelector: {disk: ssd}", beside: claim + class("}\nvolumeBindingMode: WaitForFirstConsumer") + node("a", "", "", readyNode),
			want: "Pod ns/p: Unschedulable", hint: "(disk=ssd)", verdict: "waiting 1m0s more: this may pass",
		},
		"no claim": {spec: claimed("data"), want: "PersistentVolumeClaim ns/data: VolumeClaimMissing", hint: "pwdeploy up", verdict: "waiting 30s more: this may pass"},
		"the volume is on a node that is gone": {
			spec: claimed("data"), beside: local("b") + node("a", ", labels: {kubernetes.io/hostname: a}", "", readyNode),
			want: "PersistentVolumeClaim ns/data: VolumeOutOfReach: its volume pv1 can only be used where kubernetes.io/hostname in (b)", hint: "bring that node or zone back", verdict: "waiting 1m0s more: this may pass",
		},
		"the volume is on a node that is there": {
			spec: claimed("data"), beside: local("a") + node("a", ", labels: {kubernetes.io/hostname: a}", "", readyNode),
			want: "Pod ns/p: Unschedulable", hint: "has room", verdict: "still waiting: this may pass",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text := deployment + pod("p", "new", unscheduled(tt.spec, tt.message)) + tt.beside
			got := explained(t, Ref{GroupVersionKind: DeploymentKind, Namespace: "ns", Name: "app"}, text, nil).Problem
			if got == nil || !strings.HasPrefix(got.String(), tt.want) {
				t.Fatalf("found %v\nwant  %s", got, tt.want)
			}
			if !strings.Contains(got.Hint, tt.hint) || got.Verdict() != tt.verdict {
				t.Errorf("the hint is %q (%s)\nwant %q (%s)", got.Hint, got.Verdict(), tt.hint, tt.verdict)
			}
			if evidence := strings.Join(got.Evidence, "\n"); !strings.Contains(evidence, tt.evidence) {
				t.Errorf("the evidence is %q", evidence)
			}
		})
	}
}

// TestExplainLostNode: a pod that shows no problem of its own, on a node that is gone or down.
func TestExplainLostNode(t *testing.T) {
	const (
		set  = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db, uid: s, generation: 1}\nspec: {replicas: 1}\nstatus: {observedGeneration: 1, updateRevision: r1, replicas: 1}\n---\n"
		head = "apiVersion: v1\nkind: Pod\nmetadata: {name: db-0, uid: p, labels: {controller-revision-hash: r1}, ownerReferences: [{uid: s}]"
		body = "}\nspec: {nodeName: a}\nstatus: {phase: Running, conditions: [{type: Ready, status: 'False'}], containerStatuses: [{name: c, ready: true, started: true, state: {running: {}}}]}\n"
	)
	const past = ", deletionTimestamp: '2020-01-01T00:00:00Z'"
	for name, tt := range map[string]struct{ text, want, hint string }{
		"the node is down":              {head + body + node("a", "", "", unreadyNode), "Pod ns/db-0: NodeLost: its node a is down: it is not ready: NodeStatusUnknown", "kubectl delete node a"},
		"the node is gone":              {head + body, "Pod ns/db-0: NodeLost: its node a is gone", "delete pod --force"},
		"it can't end on a lost node":   {head + past + body + node("a", "", "", unreadyNode), "Pod ns/db-0: NodeLost", "kubectl delete node a"},
		"it can't end for a finalizer":  {head + past + ", finalizers: [example.test/hold]" + body + node("a", "", "", readyNode), "Pod ns/db-0: StuckTerminating: it should have ended", "finalizer"},
		"the node is fine, so it is up": {head + body + node("a", "", "", readyNode), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := explained(t, Ref{GroupVersionKind: StatefulSetKind, Namespace: "ns", Name: "db"}, set+tt.text, nil).Problem
			if tt.want == "" {
				if got != nil {
					t.Errorf("found %s", got)
				}
				return
			}
			if got == nil || !strings.HasPrefix(got.String(), tt.want) || !strings.Contains(got.Hint, tt.hint) {
				t.Errorf("found %v, hint %q", got, got.Hint)
			}
		})
	}
}
