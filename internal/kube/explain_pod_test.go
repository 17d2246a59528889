package kube

import (
	"strings"
	"testing"
)

// event is an event about the pod p, as the kubelet records it.
func event(reason, container, message string) string {
	path := ""
	if container != "" {
		path = ", fieldPath: 'spec.containers{" + container + "}'"
	}
	return "---\napiVersion: v1\nkind: Event\nmetadata: {name: e." + reason + container + ", resourceVersion: '7'}\n" +
		"involvedObject: {kind: Pod, namespace: ns, name: p, uid: p" + path + "}\n" +
		"type: Warning\nreason: " + reason + "\nmessage: " + quote(message) + "\nlastTimestamp: '2026-11-27T12:00:00Z'\n"
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// TestExplainPod: texts as Kubernetes 1.37 and containerd write them.
func TestExplainPod(t *testing.T) {
	const (
		running  = "status: {phase: Running, containerStatuses: [{name: c, restartCount: 0, started: true, ready: false, state: {running: {startedAt: '2026-11-27T12:00:00Z'}}}]}\n"
		starting = "status: {phase: Running, containerStatuses: [{name: c, restartCount: 0, started: false, ready: false, state: {running: {startedAt: '2026-11-27T12:00:00Z'}}}]}\n"
		creating = "status: {phase: Pending, containerStatuses: [{name: c, restartCount: 0, ready: false, state: {waiting: {reason: ContainerCreating}}}]}\n"
		probes   = "spec: {nodeName: w, containers: [{name: c, PROBES}]}\n"
	)
	waits := func(reason, message string) string {
		return "status: {phase: Pending, containerStatuses: [{name: c, image: 'reg.test/a/b:1', state: {waiting: {reason: " + reason + ", message: " + quote(message) + "}}}]}\n"
	}
	ended := func(restarts, terminated string) string {
		return "status: {containerStatuses: [{name: c, restartCount: " + restarts + ", state: {waiting: {reason: CrashLoopBackOff, message: back-off 10s}}, lastState: {terminated: {" + terminated + "}}}]}\n"
	}
	tests := map[string]struct {
		pod      string
		beside   string // other objects
		log      string // of the container c
		want     string // the problem begins so
		hint     string // is in the hint
		verdict  string
		usual    bool
		evidence string // is in the evidence
	}{
		"the registry wants a login": {
			pod:  waits("ImagePullBackOff", `Back-off pulling image "reg.test/a/b:1": ErrImagePull: failed to pull and unpack image "reg.test/a/b:1": failed to resolve reference "reg.test/a/b:1": unexpected status from HEAD request to https://reg.test/v2/a/b/manifests/1: 401 Unauthorized`),
			want: "Pod ns/p: ImagePullBackOff: Back-off", hint: "the pod names no imagePullSecrets", verdict: "waiting 15s more: this may pass",
		},
		"the login is refused": {
			pod:  "spec: {imagePullSecrets: [{name: regcred}]}\n" + waits("ErrImagePull", `failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://auth.test/token: 403 Forbidden`),
			want: "Pod ns/p: ErrImagePull", hint: "the pod names imagePullSecrets regcred", verdict: "waiting 15s more: this may pass",
		},
		"the registry limits pulls": {
			pod:  waits("ErrImagePull", `failed to pull and unpack image "docker.io/library/redis:8": failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/library/redis/manifests/sha256:1: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.`),
			want: "Pod ns/p: ErrImagePull", hint: "limits how many images", verdict: "still waiting: this may pass",
		},
		"the registry is in trouble": {
			pod:  waits("ErrImagePull", `unexpected status from HEAD request to https://reg.test/v2/a/b/manifests/1: 503 Service Unavailable`),
			want: "Pod ns/p: ErrImagePull", hint: "the registry is in trouble", verdict: "still waiting: this may pass",
		},
		"the registry's token is not good for it": {
			pod:  waits("ErrImagePull", `failed to pull and unpack image "docker.io/a/b:1": failed to resolve reference "docker.io/a/b:1": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed`),
			want: "Pod ns/p: ErrImagePull", hint: "needs a login (the pod names no imagePullSecrets)", verdict: "waiting 15s more: this may pass",
		},
		"the registry has no certificate": {
			pod:  waits("ErrImagePull", `failed to do request: Head "https://10.0.0.1:5000/v2/a/b/manifests/1": http: server gave HTTP response to HTTPS client`),
			want: "Pod ns/p: ErrImagePull", hint: "speaks plain HTTP", verdict: "waiting 15s more: this may pass",
		},
		"the registry's certificate is not trusted": {
			pod:  waits("ErrImagePull", `failed to do request: Head "https://reg.test/v2/a/b/manifests/1": tls: failed to verify certificate: x509: certificate signed by unknown authority`),
			want: "Pod ns/p: ErrImagePull", hint: "don't trust the certificate", verdict: "waiting 15s more: this may pass",
		},
		"an older kubelet leaves the answer to an event": {
			pod:    waits("ImagePullBackOff", `Back-off pulling image "reg.test/a/b:1"`),
			beside: event("Failed", "c", `Failed to pull image "reg.test/a/b:1": unexpected status from HEAD request: 429 Too Many Requests`),
			want:   "Pod ns/p: ImagePullBackOff: Failed to pull", hint: "limits how many images", verdict: "still waiting: this may pass",
		},
		"the image must be there": {
			pod:  waits("ErrImageNeverPull", `Container image "reg.test/a/b:1" is not present with pull policy of Never`),
			want: "Pod ns/p: ErrImageNeverPull", hint: "kind load docker-image", verdict: "waiting does not help",
		},
		"the image is for another processor": {
			pod:    "spec: {nodeName: w}\n" + ended("1", "exitCode: 255, reason: Error"),
			beside: "---\napiVersion: v1\nkind: Node\nmetadata: {name: w}\nstatus: {nodeInfo: {architecture: arm64}}\n",
			log:    "exec /crudservice: exec format error",
			want:   "Pod ns/p: WrongPlatform: container c ended with exit code 255", hint: "node w's, which is arm64", verdict: "waiting does not help", evidence: "exec format error",
		},
		"it crashes": {
			pod: ended("4", "exitCode: 2, reason: Error"), log: "1\n2\n3\n4\n5\n6\nno password file",
			want: "Pod ns/p: CrashLoopBackOff: container c ended with exit code 2, restarted 4 times", hint: "kubectl logs -n ns p -c c --previous", verdict: "waiting does not help", evidence: "no password file",
		},
		"it has just crashed": {
			pod:  "status: {containerStatuses: [{name: c, restartCount: 0, state: {terminated: {exitCode: 2, reason: Error}}}]}\n",
			want: "Pod ns/p: Crashed: container c ended with exit code 2", hint: "log", verdict: "still waiting: this may pass",
		},
		"it runs again after a crash": {
			pod:  "status: {containerStatuses: [{name: c, restartCount: 3, state: {running: {}}, lastState: {terminated: {exitCode: 2}}}]}\n",
			want: "Pod ns/p: Crashed: container c ended with exit code 2, restarted 3 times", hint: "log", verdict: "waiting does not help",
		},
		"out of memory": {
			pod:  "spec: {containers: [{name: c, resources: {limits: {memory: 64Mi}}}]}\n" + ended("1", "exitCode: 137, reason: OOMKilled"),
			want: "Pod ns/p: OOMKilled", hint: "its limit of 64Mi", verdict: "waiting does not help",
		},
		"it is not a program": {
			pod:  ended("1", `exitCode: 128, reason: StartError, message: "failed to create containerd task: runc create failed: exec: \"/nope\": no such file or directory"`),
			want: "Pod ns/p: StartError: container c ended with exit code 128, restarted once: failed to create", hint: "look at its command", verdict: "still waiting: this may pass",
		},
		"liveness": {
			pod:    strings.Replace(probes, "PROBES", "livenessProbe: {httpGet: {path: /}}", 1) + ended("1", "exitCode: 137, reason: Error"),
			beside: event("Unhealthy", "c", "Liveness probe failed: HTTP probe failed with statuscode: 500") + event("Killing", "c", "Container c failed liveness probe, will be restarted"),
			want:   "Pod ns/p: ProbeFailed: container c was killed and restarted, because its liveness probe failed: Liveness probe failed: HTTP probe failed with statuscode: 500", hint: "liveness probe in time", verdict: "still waiting: this may pass",
		},
		"startup, again and again": {
			pod:    strings.Replace(probes, "PROBES", "startupProbe: {httpGet: {path: /}}", 1) + ended("3", "exitCode: 137, reason: Error"),
			beside: event("Killing", "c", "Container c failed startup probe, will be restarted"),
			want:   "Pod ns/p: ProbeFailed: container c was killed and restarted, because its startup probe failed", hint: "startup probe", verdict: "waiting does not help",
		},
		"readiness": {
			pod:    strings.Replace(probes, "PROBES", "readinessProbe: {httpGet: {path: /}}, startupProbe: {httpGet: {path: /}}", 1) + running,
			beside: event("Unhealthy", "c", "Readiness probe failed: HTTP probe failed with statuscode: 503"), log: `{"msg":"Redis cannot serve"}`,
			want: "Pod ns/p: Unready: container c runs, but its readiness probe does not pass: Readiness probe failed: HTTP probe failed with statuscode: 503", hint: "kubectl logs", verdict: "still waiting: this may pass", usual: true, evidence: "Redis cannot serve",
		},
		"startup": {
			pod:  strings.Replace(probes, "PROBES", "startupProbe: {httpGet: {path: /}}", 1) + starting,
			want: "Pod ns/p: Unready: container c runs, but its startup probe does not pass", hint: "kubectl logs", verdict: "still waiting: this may pass", usual: true,
		},
		"the load balancer does not find it healthy": {
			pod: "spec: {readinessGates: [{conditionType: target-health.elbv2.k8s.aws/k8s-x}]}\nstatus: {conditions: [{type: ContainersReady, status: 'True'}, {type: target-health.elbv2.k8s.aws/k8s-x, status: 'False', reason: Target.FailedHealthChecks, message: Health checks failed}]," +
				" containerStatuses: [{name: c, ready: true, state: {running: {}}}]}\n",
			want: "Pod ns/p: ReadinessGate: its containers are ready, but its readiness gate target-health.elbv2.k8s.aws/k8s-x is closed (Target.FailedHealthChecks: Health checks failed)", hint: "security group", verdict: "still waiting: this may pass", usual: true,
		},
		"nobody opens the gate": {
			pod:  "spec: {readinessGates: [{conditionType: example.test/gate}]}\nstatus: {conditions: [{type: ContainersReady, status: 'True'}], containerStatuses: [{name: c, ready: true, state: {running: {}}}]}\n",
			want: "Pod ns/p: ReadinessGate: its containers are ready, but its readiness gate example.test/gate is closed", hint: "controller", verdict: "still waiting: this may pass", usual: true,
		},
		"an init container hangs": {
			pod:  "status: {initContainerStatuses: [{name: i, state: {running: {startedAt: '2026-11-27T12:00:00Z'}}}], containerStatuses: [{name: c, state: {waiting: {reason: PodInitializing}}}]}\n",
			want: "Pod ns/p: Initializing: init container i still runs", hint: "-c i -f", verdict: "still waiting: this may pass", usual: true,
		},
		"an init container fails": {
			pod:  "status: {initContainerStatuses: [{name: i, restartCount: 3, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 7}}}], containerStatuses: [{name: c, state: {waiting: {reason: PodInitializing}}}]}\n",
			want: "Pod ns/p: CrashLoopBackOff: init container i ended with exit code 7", hint: "-c i", verdict: "waiting does not help",
		},
		"a sidecar has started": {
			pod: "spec: {initContainers: [{name: i, restartPolicy: Always}]}\nstatus: {initContainerStatuses: [{name: i, started: true, state: {running: {}}}], containerStatuses: [{name: c, state: {waiting: {reason: ContainerCreating}}}]}\n",
		},
		"a Secret is missing": {
			pod:  "spec: {containers: [{name: c, envFrom: [{secretRef: {name: login}}]}]}\n" + waits("CreateContainerConfigError", `secret "login" not found`),
			want: `Pod ns/p: CreateContainerConfigError: secret "login" not found`, hint: "Secret ns/login is missing, which container c needs", verdict: "waiting 15s more: this may pass",
		},
		"nothing is missing": {
			pod:    "spec: {containers: [{name: c, env: [{name: E, valueFrom: {configMapKeyRef: {name: cfg, key: port}}}]}]}\n" + waits("CreateContainerConfigError", "container's runAsUser breaks non-root policy"),
			beside: "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: cfg}\ndata: {port: '1'}\n",
			want:   "Pod ns/p: CreateContainerConfigError", hint: "security settings", verdict: "waiting 15s more: this may pass",
		},
		"a key is missing": {
			pod:    "spec: {containers: [{name: c, env: [{name: E, valueFrom: {configMapKeyRef: {name: cfg, key: host}}}]}]}\n" + waits("CreateContainerConfigError", `couldn't find key host in ConfigMap ns/cfg`),
			beside: "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: cfg}\ndata: {port: '1'}\n",
			want:   "Pod ns/p: CreateContainerConfigError", hint: `ConfigMap ns/cfg has no key "host", which container c needs`, verdict: "waiting 15s more: this may pass",
		},
		"a volume's ConfigMap is missing": {
			pod:    "spec: {nodeName: w, volumes: [{name: opt, configMap: {name: x, optional: true}}, {name: config, configMap: {name: service-config}}]}\n" + creating,
			beside: event("FailedMount", "", `MountVolume.SetUp failed for volume "config" : configmap "service-config" not found`),
			want:   "Pod ns/p: FailedMount: MountVolume.SetUp failed", hint: "ConfigMap ns/service-config is missing, which volume config needs", verdict: "waiting 20s more: this may pass",
		},
		"a projected Secret's key is missing": {
			pod:    "spec: {nodeName: w, volumes: [{name: all, projected: {sources: [{secret: {name: s, items: [{key: k, path: k}]}}]}}]}\n" + creating,
			beside: event("FailedMount", "", `MountVolume.SetUp failed for volume "all" : references non-existent secret key: k`) + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {}\n",
			want:   "Pod ns/p: FailedMount", hint: `Secret ns/s has no key "k", which volume all needs`, verdict: "waiting 20s more: this may pass",
		},
		"a volume is attached elsewhere": {
			pod:    "spec: {nodeName: w}\n" + creating,
			beside: event("FailedAttachVolume", "", `Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node and can't be attached to another`),
			want:   "Pod ns/p: FailedAttachVolume: Multi-Attach", hint: "after six minutes", verdict: "still waiting: this may pass",
		},
		"no network": {
			pod:    "spec: {nodeName: w}\n" + creating,
			beside: event("FailedCreatePodSandBox", "", `Failed to create pod sandbox: plugin type="bridge" failed (add): no IP addresses available`),
			want:   "Pod ns/p: FailedCreatePodSandBox", hint: "network plugin", verdict: "still waiting: this may pass",
		},
		"no memory for anything to start": {
			pod:    "spec: {nodeName: w, containers: [{name: c, resources: {limits: {memory: 1Mi}}}]}\n" + creating,
			beside: event("FailedCreatePodSandBox", "", `Failed to create pod sandbox: container init was OOM-killed (memory limit too low?)`),
			want:   "Pod ns/p: FailedCreatePodSandBox", hint: "container c has a memory limit of 1Mi, with which nothing starts", verdict: "waiting 15s more: this may pass",
		},
		"a mount that failed and then did not": {
			pod:    "spec: {nodeName: w}\n" + running,
			beside: event("FailedMount", "", "not yet"),
			want:   "Pod ns/p: Unready", hint: "kubectl logs", verdict: "still waiting: this may pass", usual: true,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := explained(t, Ref{GroupVersionKind: DeploymentKind, Namespace: "ns", Name: "app"}, deployment+pod("p", "new", tt.pod)+tt.beside, map[string]string{"c": tt.log}).Problem
			if tt.want == "" {
				if got != nil {
					t.Errorf("found %s", got)
				}
				return
			}
			if got == nil || !strings.HasPrefix(got.String(), tt.want) {
				t.Fatalf("found %v\nwant  %s", got, tt.want)
			}
			if !strings.Contains(got.Hint, tt.hint) {
				t.Errorf("the hint is %q, want %q in it", got.Hint, tt.hint)
			}
			if got.Verdict() != tt.verdict || got.Usual != tt.usual {
				t.Errorf("got %q, usual %v", got.Verdict(), got.Usual)
			}
			if evidence := strings.Join(got.Evidence, "\n"); !strings.Contains(evidence, tt.evidence) || len(got.Evidence) > showLogLines {
				t.Errorf("the evidence is %q", evidence)
			}
		})
	}
}
