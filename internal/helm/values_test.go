package helm

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// rendered is the objects of a chart, found by what a test calls them: "StatefulSet redis-master".
type rendered map[string]*unstructured.Unstructured

func render(t *testing.T, spec Spec) rendered {
	t.Helper()
	client := NewClient(ClientOptions{FieldManager: "pwdeploy", KubeVersion: "v1.34.0"})
	objects, err := client.Template(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	byName := rendered{}
	for _, o := range objects {
		byName[o.GetKind()+" "+o.GetName()] = o
	}
	return byName
}

// at reads a field: at("Service redis", "spec.type"). Numbers stand for the elements of lists. What is
// not there is nil.
func (r rendered) at(object, path string) any {
	o, ok := r[object]
	if !ok {
		return "no " + object
	}
	var v any = o.Object
	for key := range strings.SplitSeq(path, ".") {
		switch node := v.(type) {
		case map[string]any:
			v = node[strings.ReplaceAll(key, "|", ".")]
		case []any:
			i := int(key[0] - '0')
			if i >= len(node) {
				return nil
			}
			v = node[i]
		default:
			return nil
		}
	}
	return v
}

type want map[string]any // "object: path": value

func (r rendered) check(t *testing.T, wants want) {
	t.Helper()
	for field, value := range wants {
		object, path, _ := strings.Cut(field, ": ")
		if diff := cmp.Diff(asJSON(t, value), asJSON(t, r.at(object, path))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", field, diff)
		}
	}
	if t.Failed() {
		t.Log("objects:", strings.Join(slices.Sorted(maps.Keys(r)), ", "))
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var redisParams = RedisParams{SecretName: "pw-crud-redis", SecretKey: "redis-password"}

func redisSpec(chart *Chart, profile Profile) Spec {
	params := redisParams
	params.Profile = profile
	return Spec{Name: "redis", Namespace: "redis", Chart: chart, Values: RedisValues(params)}
}

// checkRedis holds for the publisher's chart and for the stand-in in testdata.
func checkRedis(t *testing.T, chart *Chart, profile Profile) {
	t.Helper()
	objects := render(t, redisSpec(chart, profile))
	container := "spec.template.spec.containers.0."
	wants := want{
		"Service redis-master: spec.ports.0.port":                                                6379,
		"Service redis-replicas: spec.ports.0.port":                                              6379,
		"StatefulSet redis-replicas: spec.template.spec.containers.0.startupProbe.periodSeconds": 2,
		"Secret redis: kind": "no Secret redis",
	}
	for _, set := range []string{"StatefulSet redis-master: ", "StatefulSet redis-replicas: "} {
		maps.Copy(wants, want{
			set + "spec.replicas":                                   1,
			set + container + "image":                               "docker.io/library/redis@sha256:2f7462b9e93e0a7ae2edf3a0a0babc8a4d29f8bfc50849b906b7caaef925edc1",
			set + container + "resources.requests":                  map[string]string{"cpu": "100m", "memory": "100Mi"},
			set + container + "resources.limits":                    map[string]string{"cpu": "1", "memory": "256Mi"},
			set + container + "readinessProbe.initialDelaySeconds":  5,
			set + container + "securityContext.runAsNonRoot":        true,
			set + "spec.template.spec.automountServiceAccountToken": false,
		})
		maps.Copy(wants, redisStorage(set, profile))
	}
	objects.check(t, wants)
	if secrets := secretsOf(objects["StatefulSet redis-master"]); !slices.Equal(secrets, []string{"pw-crud-redis/redis-password"}) {
		t.Errorf("the master reads its password from %v", secrets)
	}
}

func redisStorage(set string, profile Profile) want {
	if profile == ProfileLocal {
		return want{set + "spec.volumeClaimTemplates": nil}
	}
	return want{
		set + "spec.volumeClaimTemplates.0.spec.storageClassName":           "gp3",
		set + "spec.volumeClaimTemplates.0.spec.resources.requests.storage": "8Gi",
		set + "spec.persistentVolumeClaimRetentionPolicy":                   map[string]string{"whenDeleted": "Retain", "whenScaled": "Retain"},
	}
}

// secretsOf lists the Secrets and keys that a StatefulSet mounts.
func secretsOf(set *unstructured.Unstructured) []string {
	var names []string
	volumes, _, _ := unstructured.NestedSlice(set.Object, "spec", "template", "spec", "volumes")
	for _, v := range volumes {
		secret, ok, _ := unstructured.NestedMap(v.(map[string]any), "secret")
		if !ok {
			continue
		}
		items, _, _ := unstructured.NestedSlice(secret, "items")
		for _, item := range items {
			names = append(names, secret["secretName"].(string)+"/"+item.(map[string]any)["key"].(string))
		}
	}
	return names
}

func ingressSpec(chart *Chart, profile Profile) Spec {
	return Spec{Name: "ingress-nginx", Namespace: "ingress-nginx", Chart: chart, Values: IngressValues(IngressParams{Profile: profile})}
}

// checkIngress holds for the publisher's chart and for the stand-in in testdata.
func checkIngress(t *testing.T, chart *Chart, profile Profile) {
	t.Helper()
	objects := render(t, ingressSpec(chart, profile))
	deployment := "Deployment ingress-nginx-controller: "
	container := deployment + "spec.template.spec.containers.0."
	wants := want{
		container + "resources.requests":                                                         map[string]string{"cpu": "100m", "memory": "100Mi"},
		container + "readinessProbe.initialDelaySeconds":                                         2,
		container + "readinessProbe.httpGet.path":                                                "/healthz",
		container + "securityContext.allowPrivilegeEscalation":                                   false,
		container + "securityContext.runAsNonRoot":                                               true,
		container + "securityContext.seccompProfile.type":                                        "RuntimeDefault",
		container + "securityContext.capabilities":                                               map[string][]string{"drop": {"ALL"}, "add": {"NET_BIND_SERVICE"}},
		"ConfigMap ingress-nginx-controller: data.allow-snippet-annotations":                     nil, // nginx's own default is false
		"IngressClass nginx: spec.controller":                                                    "k8s.io/ingress-nginx",
		"IngressClass nginx: metadata.annotations.ingressclass|kubernetes|io/is-default-class":   nil,
		"ValidatingWebhookConfiguration ingress-nginx-admission: webhooks.0.failurePolicy":       "Fail",
		"Job ingress-nginx-admission-create: spec.template.spec.containers.0.resources.requests": map[string]string{"cpu": "10m", "memory": "20Mi"},
		"Job ingress-nginx-admission-create: metadata.annotations.helm|sh/hook":                  "pre-install,pre-upgrade",
		"Job ingress-nginx-admission-patch: metadata.annotations.helm|sh/hook":                   "post-install,post-upgrade",
		"Service ingress-nginx-controller-admission: spec.ports.0.port":                          443,
	}
	args, _ := objects.at("Deployment ingress-nginx-controller", "spec.template.spec.containers.0.args").([]any)
	if profile == ProfileLocal {
		maps.Copy(wants, localIngress(deployment, container))
		expectArgs(t, args, "--publish-status-address=localhost", "--publish-service")
	} else {
		maps.Copy(wants, awsIngress(deployment, container))
		expectArgs(t, args, "--publish-service=$(POD_NAMESPACE)/ingress-nginx-controller", "--publish-status-address")
	}
	objects.check(t, wants)
}

func localIngress(deployment, container string) want {
	return want{
		deployment + "spec.replicas":                                              1,
		deployment + "spec.strategy.rollingUpdate":                                map[string]int{"maxSurge": 0, "maxUnavailable": 1},
		deployment + "spec.template.spec.tolerations.0.key":                       "node-role.kubernetes.io/control-plane",
		deployment + "spec.template.spec.terminationGracePeriodSeconds":           30,
		container + "ports.0.hostPort":                                            80,
		container + "ports.1.hostPort":                                            443,
		"Service ingress-nginx-controller: spec.type":                             "NodePort",
		"Job ingress-nginx-admission-patch: spec.template.spec.tolerations.0.key": "node-role.kubernetes.io/control-plane",
	}
}

func awsIngress(deployment, container string) want {
	annotations := "Service ingress-nginx-controller: metadata.annotations.service|beta|kubernetes|io/aws-load-balancer-"
	return want{
		deployment + "spec.replicas":               2,
		deployment + "spec.strategy.rollingUpdate": map[string]int{"maxSurge": 1, "maxUnavailable": 0},
		deployment + "spec.template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution.0.weight": 100,
		container + "ports.0.hostPort":                                    nil,
		"Service ingress-nginx-controller: spec.type":                     "LoadBalancer",
		"Service ingress-nginx-controller: spec.loadBalancerClass":        "service.k8s.aws/nlb",
		annotations + "type":                                              "external",
		annotations + "nlb-target-type":                                   "ip",
		annotations + "scheme":                                            "internet-facing",
		"PodDisruptionBudget ingress-nginx-controller: spec.minAvailable": 1,
	}
}

// expectArgs wants one argument, and none that begins with another.
func expectArgs(t *testing.T, args []any, with, without string) {
	t.Helper()
	if !slices.Contains(args, any(with)) {
		t.Errorf("the controller's arguments lack %s: %v", with, args)
	}
	for _, a := range args {
		if strings.HasPrefix(a.(string), without) {
			t.Errorf("the controller has argument %s", a)
		}
	}
}

func TestIngressParams(t *testing.T) {
	values := IngressValues(IngressParams{Profile: ProfileAWS, ClassName: "web", MakeDefault: true, LoadBalancerClass: "eks.amazonaws.com/nlb"})
	got := rendered{"values": {Object: values}}
	got.check(t, want{
		"values: controller.ingressClass":                 "web",
		"values: controller.ingressClassResource.name":    "web",
		"values: controller.ingressClassResource.default": true,
		"values: controller.service.loadBalancerClass":    "eks.amazonaws.com/nlb",
		"values: controller.service.type":                 "LoadBalancer",
	})
}

func TestRedisStorageClass(t *testing.T) {
	got := rendered{"values": {Object: RedisValues(RedisParams{Profile: ProfileAWS, StorageClass: "io2"})}}
	got.check(t, want{
		"values: master.persistence.storageClass":  "io2",
		"values: replica.persistence.storageClass": "io2",
		"values: master.persistence.enabled":       true,
	})
}

func TestEmbeddedValues(t *testing.T) {
	for _, chart := range []string{"redis", "ingress-nginx"} {
		common := profileValues(chart, "")
		if len(common) == 0 {
			t.Errorf("%s has no common values", chart)
		}
		for _, profile := range []Profile{ProfileLocal, ProfileAWS} {
			if cmp.Equal(common, profileValues(chart, profile)) {
				t.Errorf("%s has no values of its own for profile %s", chart, profile)
			}
		}
	}
}

func TestMergeValuesFiles(t *testing.T) {
	base := map[string]any{"a": map[string]any{"v": 1, "w": 2}, "list": []any{"one"}}
	tests := []struct {
		name  string
		files []string
		want  string // as JSON
		err   string
	}{
		{name: "none", want: `{"a":{"v":1,"w":2},"list":["one"]}`},
		{name: "merged", files: []string{"a: {w: 3, x: 4}"}, want: `{"a":{"v":1,"w":3,"x":4},"list":["one"]}`},
		{name: "lists are replaced", files: []string{"list: [two]"}, want: `{"a":{"v":1,"w":2},"list":["two"]}`},
		{name: "null stays for the chart", files: []string{"a: null"}, want: `{"a":null,"list":["one"]}`},
		{name: "the last wins", files: []string{"b: 1", "b: 2"}, want: `{"a":{"v":1,"w":2},"b":2,"list":["one"]}`},
		{name: "empty", files: []string{"# nothing\n"}, want: `{"a":{"v":1,"w":2},"list":["one"]}`},
		{name: "numbers as written", files: []string{"big: 1234567890123"}, want: `{"a":{"v":1,"w":2},"big":1234567890123,"list":["one"]}`},
		{name: "broken", files: []string{"a:\n  b: c: d\n"}, err: "0.yaml: yaml: line 2: mapping values are not allowed in this context"},
		{name: "twice", files: []string{"a: 1\nb: 2\na: 3\n"}, err: `0.yaml: yaml: unmarshal errors:
  line 3: key "a" already set in map`},
		{name: "a list", files: []string{"- a\n"}, err: "0.yaml: line 1: the file holds a list, not a map of values"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := MergeValuesFiles(base, valuesFiles(t, tt.files)...)
			if tt.err != "" {
				if err == nil || !strings.HasSuffix(err.Error(), tt.err) {
					t.Fatalf("error %v, want …%s", err, tt.err)
				}
				return
			}
			if err != nil || asJSON(t, got) != tt.want {
				t.Errorf("%s, %v; want %s", asJSON(t, got), err, tt.want)
			}
		})
	}
	if asJSON(t, base) != `{"a":{"v":1,"w":2},"list":["one"]}` {
		t.Errorf("the base was changed: %v", base)
	}
	if _, err := MergeValuesFiles(base, filepath.Join(t.TempDir(), "missing.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func valuesFiles(t *testing.T, contents []string) []string {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for i, c := range contents {
		name := filepath.Join(dir, string(rune('0'+i))+".yaml")
		if err := os.WriteFile(name, []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}
