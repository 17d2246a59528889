package kube

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func fromYAML(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	body, err := o.MarshalJSON() // so that numbers have the types that a decoder gives them
	if err != nil {
		t.Fatal(err)
	}
	if err := o.UnmarshalJSON(body); err != nil {
		t.Fatal(err)
	}
	return o
}

// driftWanted is a manifest as people write them.
const driftWanted = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: a, namespace: ns, labels: {app: a, tier: web}, annotations: {}}
spec:
  replicas: 2
  minReadySeconds: 0
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}, creationTimestamp: null}
    spec:
      hostNetwork: false
      affinity: {podAffinity: null}
      tolerations: []
      volumes: [{name: tmp, emptyDir: {}}]
      containers:
        - name: main
          image: main:1
          args: [--one, --two]
          ports: [{containerPort: 80}]
          env: [{name: A, value: "1"}, {name: EMPTY, value: ""}]
          resources: {limits: {cpu: "0.5", memory: 1024Mi}}
`

// driftLive is what becomes of it, with its defaults; parts of it are replaced by the tests.
const driftLive = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: a
  namespace: ns
  labels: {app: a, tier: web}
  annotations: {deployment.kubernetes.io/revision: "1"}
  managedFields:
    - manager: pwdeploy
      operation: Update
      time: "2026-11-30T10:00:00Z"
      fieldsV1:
        f:metadata: {f:labels: {f:app: {}, f:tier: {}}}
        f:spec:
          f:replicas: {}
          f:template: {f:spec: {f:containers: {'k:{"name":"main"}': {".": {}, f:name: {}, f:image: {}, f:args: {},
            f:env: {".": {}, 'k:{"name":"A"}': {".": {}, f:name: {}, f:value: {}}, 'k:{"name":"EMPTY"}': {".": {}, f:name: {}}},
            f:ports: {".": {}, 'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, f:containerPort: {}, f:protocol: {}}},
            f:resources: {f:limits: {f:cpu: {}, f:memory: {}}}}}}}
    - manager: kube-controller-manager
      operation: Update
      subresource: status
      time: "2026-11-30T10:00:05Z"
      fieldsV1: {f:status: {f:replicas: {}}}
spec:
  replicas: 2
  progressDeadlineSeconds: 600
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      restartPolicy: Always
      volumes: [{name: tmp, emptyDir: {}}]
      containers:
        - name: main
          image: main:1
          imagePullPolicy: IfNotPresent
          args: [--one, --two]
          ports: [{containerPort: 80, protocol: TCP}]
          env: [{name: A, value: "1"}, {name: EMPTY}]
          resources: {limits: {cpu: 500m, memory: 1Gi}}
status: {replicas: 2}
`

// TestDrift tells what somebody changed from what the API server and others add.
func TestDrift(t *testing.T) {
	container := []string{"spec", "template", "spec"}
	// by makes a manager the last to have set fields.
	by := func(o *unstructured.Unstructured, manager, fields string) {
		t.Helper()
		entry := fromYAML(t, `{kind: none, manager: `+manager+`, operation: Update, time: "2026-11-30T11:00:00Z", fieldsV1: `+fields+`}`)
		list, _, _ := unstructured.NestedSlice(o.Object, "metadata", "managedFields")
		if err := unstructured.SetNestedSlice(o.Object, append(list, entry.Object), "metadata", "managedFields"); err != nil {
			t.Fatal(err)
		}
	}
	set := func(o *unstructured.Unstructured, value any, fields ...string) {
		t.Helper()
		if err := unstructured.SetNestedField(o.Object, value, fields...); err != nil {
			t.Fatal(err)
		}
	}
	main := func(o *unstructured.Unstructured, change func(map[string]any)) {
		t.Helper()
		list, _, _ := unstructured.NestedSlice(o.Object, append(container, "containers")...)
		change(list[0].(map[string]any))
		set(o, list, append(container, "containers")...)
	}
	for name, test := range map[string]struct {
		change func(live *unstructured.Unstructured)
		want   []string // Field: Ours -> Theirs Manager
	}{
		"nothing": {func(*unstructured.Unstructured) {}, nil},
		"what is not ours": {func(o *unstructured.Unstructured) {
			set(o, "x", "metadata", "labels", "theirs")
			set(o, "now", "spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt")
			by(o, "kubectl-edit", `{f:metadata: {f:labels: {f:theirs: {}}}}`)
		}, nil},
		"another value that nobody else has set": {func(o *unstructured.Unstructured) {
			main(o, func(c map[string]any) { c["image"] = "registry.test/main:1" }) // a webhook did, as we applied it
		}, nil},
		"scaled": {func(o *unstructured.Unstructured) {
			set(o, int64(5), "spec", "replicas")
			by(o, "kubectl-scale", `{f:spec: {f:replicas: {}}}`)
		}, []string{".spec.replicas: 2 -> 5 kubectl-scale"}},
		"scaled to nothing": {func(o *unstructured.Unstructured) {
			set(o, int64(0), "spec", "replicas")
			by(o, "kubectl-scale", `{f:spec: {f:replicas: {}}}`)
		}, []string{".spec.replicas: 2 -> 0 kubectl-scale"}},
		"another image": {func(o *unstructured.Unstructured) {
			main(o, func(c map[string]any) { c["image"] = "main:2" })
			by(o, "kubectl-set", `{f:spec: {f:template: {f:spec: {f:containers: {'k:{"name":"main"}': {f:image: {}}}}}}}`)
		}, []string{`.spec.template.spec.containers[name="main"].image: main:1 -> main:2 kubectl-set`}},
		"a list that is one value": {func(o *unstructured.Unstructured) {
			main(o, func(c map[string]any) { c["args"] = []any{"--one"} })
			by(o, "kubectl-edit", `{f:spec: {f:template: {f:spec: {f:containers: {'k:{"name":"main"}': {f:args: {}}}}}}}`)
		}, []string{`.spec.template.spec.containers[name="main"].args: ["--one","--two"] -> ["--one"] kubectl-edit`}},
		"a variable that was taken away": {func(o *unstructured.Unstructured) {
			main(o, func(c map[string]any) { c["env"] = []any{map[string]any{"name": "EMPTY"}} })
		}, []string{`.spec.template.spec.containers[name="main"].env[name="A"]: {"name":"A","value":"1"} -> (none) `}},
		"a label that was taken away": {func(o *unstructured.Unstructured) {
			unstructured.RemoveNestedField(o.Object, "metadata", "labels", "tier")
		}, []string{".metadata.labels.tier: web -> (none) "}},
		"another quantity": {func(o *unstructured.Unstructured) {
			main(o, func(c map[string]any) {
				c["resources"] = map[string]any{"limits": map[string]any{"cpu": "500m", "memory": "2Gi"}}
			})
			by(o, "console", `{f:spec: {f:template: {f:spec: {f:containers: {'k:{"name":"main"}': {f:resources: {f:limits: {f:memory: {}}}}}}}}}`)
		}, []string{`.spec.template.spec.containers[name="main"].resources.limits.memory: 1Gi -> 2Gi console`}},
		"a field that was off": {func(o *unstructured.Unstructured) {
			set(o, true, append(container, "hostNetwork")...)
			by(o, "kubectl-edit", `{f:spec: {f:template: {f:spec: {f:hostNetwork: {}}}}}`)
		}, []string{".spec.template.spec.hostNetwork: false -> true kubectl-edit"}},
		"the same value, set by somebody else, too": {func(o *unstructured.Unstructured) {
			by(o, "console", `{f:spec: {f:replicas: {}}}`)
		}, nil},
		"without the notes of who has set what": {func(o *unstructured.Unstructured) {
			set(o, int64(5), "spec", "replicas")
			o.SetManagedFields(nil)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			live := fromYAML(t, driftLive)
			test.change(live)
			var got []string
			for _, c := range Drift(fromYAML(t, driftWanted), live) {
				got = append(got, c.Field+": "+c.Ours+" -> "+c.Theirs+" "+c.Manager)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDriftHidesSecrets: what is in a Secret is never told, and text is what it is stored as.
func TestDriftHidesSecrets(t *testing.T) {
	wanted := fromYAML(t, `{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: ns}, stringData: {key: value, same: "1"}}`)
	live := fromYAML(t, `{apiVersion: v1, kind: Secret, metadata: {name: a, namespace: ns, managedFields: [
  {manager: pwdeploy, operation: Update, fieldsV1: {f:data: {f:same: {}}}}, {manager: console, operation: Update, fieldsV1: {f:data: {f:key: {}}}}]},
  data: {key: dGhlaXJz, same: MQ==}}`)
	got := Drift(wanted, live)
	if len(got) != 1 || got[0].Ours != Hidden || got[0].Theirs != Hidden || got[0].Change() != ".data.key has another value, set by console" {
		t.Errorf("got %+v", got)
	}
}
