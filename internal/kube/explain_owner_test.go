package kube

import (
	"strings"
	"testing"
)

// ownerEvent is an event about the object with the UID s.
func ownerEvent(reason, message string) string {
	return strings.Replace(event(reason, "", message), "uid: p", "uid: s", 1)
}

// written is an event as it stands in this version of the store, under a name of its own.
func written(version, event string) string {
	return strings.NewReplacer("name: e.", "name: e"+version+".", "resourceVersion: '7'", "resourceVersion: '"+version+"'").Replace(event)
}

// TestExplainOwner: what stands on the workload, Job or Service itself. Texts are those of Kubernetes 1.37.
func TestExplainOwner(t *testing.T) {
	const (
		set     = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x, uid: s, generation: 1}\nspec: {replicas: 1, template: {spec: {containers: [{name: c, resources: {requests: {cpu: 200m}, limits: {memory: 1Gi}}}]}}}\nstatus: {observedGeneration: 1, replicas: 0}\n"
		job     = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: x, uid: s}\nspec: {}\n"
		service = "apiVersion: v1\nkind: Service\nmetadata: {name: x, uid: s}\nspec: {type: LoadBalancer, clusterIP: 10.0.0.1}\n"
		quota   = "---\napiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\n"
	)
	refusal := ownerEvent("FailedCreate", `create Pod x-0 in StatefulSet x failed error: pods "x-0" is forbidden: exceeded quota: q`)
	tests := map[string]struct {
		kind, text string
		log        string
		want       string
		hint       string
		verdict    string
		evidence   string
	}{
		"quota, of pods": {
			text: set + refusal + quota + "status: {hard: {pods: '2'}, used: {pods: '2'}}\n",
			want: "StatefulSet ns/x: FailedCreate: create Pod x-0", hint: "ResourceQuota ns/q allows 2 pods: 2 are used and the pod needs 1 more", verdict: "waiting 10s more: this may pass",
		},
		"quota, of CPU": {
			text: set + refusal + quota + "status: {hard: {pods: '9', requests.cpu: 300m}, used: {pods: '2', requests.cpu: 200m}}\n",
			want: "StatefulSet ns/x: FailedCreate", hint: "allows 300m requests.cpu: 200m are used and the pod needs 200m more", verdict: "waiting 10s more: this may pass",
		},
		"quota, of what the pod does not say": {
			text: set + refusal + quota + "status: {hard: {limits.cpu: '1'}, used: {limits.cpu: '0'}}\n",
			want: "StatefulSet ns/x: FailedCreate", hint: "wants every container to set limits.cpu", verdict: "waiting 10s more: this may pass",
		},
		"limit range": {
			text: set + refusal + "---\napiVersion: v1\nkind: LimitRange\nmetadata: {name: l}\nspec: {limits: [{type: Container, max: {memory: 512Mi}}]}\n",
			want: "StatefulSet ns/x: FailedCreate", hint: "LimitRange ns/l allows a container at most 512Mi memory, and c wants 1Gi", verdict: "waiting 10s more: this may pass",
		},
		"pod security": {
			text: set + refusal + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: ns, labels: {pod-security.kubernetes.io/enforce: restricted}}\n",
			want: "StatefulSet ns/x: FailedCreate", hint: "Namespace ns enforces the pod security level restricted", verdict: "waiting 10s more: this may pass",
		},
		"refused for another reason than at first": {
			text: strings.Replace(set, "status: {", "status: {conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate, message: 'serviceaccount \"x\" not found'}], ", 1) + refusal,
			want: "StatefulSet ns/x: FailedCreate: create Pod x-0", hint: "quota", verdict: "waiting 10s more: this may pass",
		},
		"refused, and the event is gone": {
			text: strings.Replace(set, "status: {", "status: {conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate, message: 'exceeded quota: q'}], ", 1),
			want: "StatefulSet ns/x: FailedCreate: exceeded quota: q", hint: "quota", verdict: "waiting 10s more: this may pass",
		},
		"refused twice in a second": {
			text: set + written("99", ownerEvent("FailedCreate", "another quota")) + written("100", ownerEvent("FailedCreate", "exceeded quota: q")) + refusal,
			want: "StatefulSet ns/x: FailedCreate: exceeded quota: q", hint: "quota", verdict: "waiting 10s more: this may pass",
		},
		"refused once, and made then": {
			text: set + refusal + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: x-0, ownerReferences: [{uid: s}]}\nspec: {nodeName: w}\n" + node("w", "", "", readyNode),
		},
		"no controller manager": {
			text: strings.Replace(set, "generation: 1", "generation: 2", 1),
			want: "StatefulSet ns/x: NotObserved", hint: "controller manager", verdict: "still waiting: this may pass",
		},
		"paused": {
			kind: "Deployment", text: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, generation: 1}\nspec: {paused: true, replicas: 1}\nstatus: {observedGeneration: 1}\n",
			want: "Deployment ns/x: Paused", hint: "kubectl rollout resume -n ns deployment/x", verdict: "waiting does not help",
		},
		"a Job that failed": {
			kind: "Job", text: job + "status: {conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded, message: Job has reached the specified backoff limit}]}\n" +
				"---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: p, ownerReferences: [{uid: s}]}\nspec: {nodeName: w, restartPolicy: Never}\nstatus: {phase: Failed, containerStatuses: [{name: c, state: {terminated: {exitCode: 1, reason: Error}}}]}\n",
			log:  "secrets is forbidden",
			want: "Job ns/x: BackoffLimitExceeded: Job has reached the specified backoff limit; Pod ns/p: Crashed: container c ended with exit code 1", hint: "log", verdict: "waiting does not help", evidence: "secrets is forbidden",
		},
		"a Job whose pod can't be pulled": {
			kind: "Job", text: job + "status: {active: 1, startTime: '2026-11-27T12:00:00Z'}\n" +
				"---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, uid: p, ownerReferences: [{uid: s}]}\nspec: {nodeName: w}\nstatus: {phase: Pending, containerStatuses: [{name: c, image: 'certgen:1', state: {waiting: {reason: ImagePullBackOff, message: not found}}}]}\n",
			want: "Pod ns/p: ImagePullBackOff", hint: "certgen:1", verdict: "waiting 15s more: this may pass",
		},
		"a Job that may make no pod": {
			kind: "Job", text: job + "status: {startTime: '2026-11-27T12:00:00Z'}\n" + ownerEvent("FailedCreate", `Error creating: pods "x-" is forbidden: violates PodSecurity`),
			want: "Job ns/x: FailedCreate: Error creating", hint: "pod security level", verdict: "waiting 10s more: this may pass",
		},
		"a suspended Job": {kind: "Job", text: strings.Replace(job, "spec: {}", "spec: {suspend: true}", 1), want: "Job ns/x: Suspended", hint: "let it go on", verdict: "waiting does not help"},
		"no load balancer": {
			kind: "Service", text: service, want: "Service ns/x: LoadBalancerPending", hint: "MetalLB", verdict: "still waiting: this may pass",
		},
		"no load balancer of a class": {
			kind: "Service", text: strings.Replace(service, "spec: {", "spec: {loadBalancerClass: service.k8s.aws/nlb, ", 1), want: "Service ns/x: LoadBalancerPending: no load balancer has given it an address yet (class service.k8s.aws/nlb)", hint: "look whether it is installed", verdict: "still waiting: this may pass",
		},
		"the load balancer is refused": {
			kind: "Service", text: service + ownerEvent("FailedBuildModel", "Failed build model due to unable to resolve at least one subnet"), want: "Service ns/x: FailedBuildModel: Failed build model", hint: "tries again", verdict: "still waiting: this may pass",
		},
	}
	kinds := map[string]Ref{"": {GroupVersionKind: StatefulSetKind}, "Deployment": {GroupVersionKind: DeploymentKind}, "Job": {GroupVersionKind: JobKind}, "Service": {GroupVersionKind: ServiceKind}}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ref := kinds[tt.kind]
			ref.Namespace, ref.Name = "ns", "x"
			seen := explained(t, ref, tt.text, map[string]string{"c": tt.log})
			got := seen.Problem
			if tt.kind == "Service" {
				v := state(t, tt.text)
				got = serviceProblem(v, v.object(ref))
			}
			if tt.want == "" {
				if got != nil {
					t.Errorf("found %s", got)
				}
				return
			}
			if got == nil || !strings.HasPrefix(got.String(), tt.want) {
				t.Fatalf("found %v in %v\nwant  %s", got, seen, tt.want)
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
