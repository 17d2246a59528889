package manifests

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func TestGolden(t *testing.T) {
	everything := Params{
		Overlay:          OverlayAWS,
		Namespace:        "shop",
		Host:             "pw.example.org",
		Image:            "registry.test:5000/team/crud:1.2",
		IngressClass:     "nginx-public",
		IngressNamespace: "edge",
		RedisNamespace:   "data",
		RedisHost:        "cache-master.data.svc.cluster.local",
		RedisPort:        6380,
		Replicas:         5,
	}
	for name, p := range map[string]Params{
		"local":  Defaults(),
		"aws":    with(func(p *Params) { p.Overlay = OverlayAWS }),
		"params": everything,
	} {
		t.Run(name, func(t *testing.T) { compareGolden(t, name, text(t, build(t, p))) })
	}
}

// The overlays have to mean the same to kustomize build as to this package.
func TestDefaultsAreThePlainOverlays(t *testing.T) {
	for _, overlay := range []string{OverlayLocal, OverlayAWS} {
		t.Run(overlay, func(t *testing.T) {
			built := build(t, with(func(p *Params) { p.Overlay = overlay }))
			if diff := cmp.Diff(plain(t, "overlays/"+overlay), built); diff != "" {
				t.Errorf("kustomize build (-) differs from Build (+):\n%s", diff)
			}
		})
	}
}

func TestBaseBuildsByItself(t *testing.T) {
	if diff := cmp.Diff(plain(t, "overlays/"+OverlayLocal), plain(t, "base")); diff != "" {
		t.Errorf("the local overlay (-) differs from the base (+):\n%s", diff)
	}
}

func TestEachParameterChangesOnlyItsFields(t *testing.T) {
	const policy = "NetworkPolicy/pw-crud"
	tests := map[string]struct {
		change func(*Params)
		want   []string
	}{
		"nothing":           {func(*Params) {}, nil},
		"host":              {func(p *Params) { p.Host = "a.test" }, []string{"Ingress/pw-crud"}},
		"ingress class":     {func(p *Params) { p.IngressClass = "other" }, []string{"Ingress/pw-crud"}},
		"image":             {func(p *Params) { p.Image = "pw/crudservice:2" }, []string{"Deployment/pw-crud"}},
		"replicas":          {func(p *Params) { p.Replicas = 0 }, []string{"Deployment/pw-crud"}},
		"ingress namespace": {func(p *Params) { p.IngressNamespace = "edge" }, []string{policy}},
		"redis namespace":   {func(p *Params) { p.RedisNamespace = "data" }, []string{policy}},
		"redis host":        {func(p *Params) { p.RedisHost = "10.1.2.3" }, []string{"ConfigMap/service-config", "Deployment/pw-crud"}},
		"redis port":        {func(p *Params) { p.RedisPort = 6380 }, []string{"ConfigMap/service-config", "Deployment/pw-crud", policy}},
	}
	before := byKind(build(t, Defaults()))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var changed []string
			for key, object := range byKind(build(t, with(test.change))) {
				if !reflect.DeepEqual(before[key], object) {
					changed = append(changed, key)
				}
			}
			slices.Sort(changed)
			if diff := cmp.Diff(test.want, changed); diff != "" {
				t.Errorf("changed objects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNamespaceMovesEverything(t *testing.T) {
	for _, object := range build(t, with(func(p *Params) { p.Namespace = "shop" })) {
		got := object.GetNamespace()
		if object.GetKind() == "Namespace" {
			got = object.GetName()
		}
		if got != "shop" {
			t.Errorf("%s %s: namespace %q, want shop", object.GetKind(), object.GetName(), got)
		}
	}
}

func TestImage(t *testing.T) {
	const digest = "sha256:2f7462b9e93e0a7ae2edf3a0a0babc8a4d29f8bfc50849b906b7caaef925edc1"
	tests := map[string]string{
		"pw/crudservice:latest":                 "pw/crudservice:latest",
		"pw/crudservice":                        "pw/crudservice:latest",
		"other":                                 "other:latest",
		"pw/crudservice:v1.2.3":                 "pw/crudservice:v1.2.3",
		"pw/crudservice@" + digest:              "pw/crudservice@" + digest,
		"pw/crudservice:1@" + digest:            "pw/crudservice:1@" + digest,
		"localhost:5000/crud":                   "localhost:5000/crud:latest",
		"localhost:5000/crud:dev":               "localhost:5000/crud:dev",
		"localhost:5000/crud@" + digest:         "localhost:5000/crud@" + digest,
		"localhost:5000/a/b/crud:dev@" + digest: "localhost:5000/a/b/crud:dev@" + digest,
		"[fd00::1]:5000/crud:dev":               "[fd00::1]:5000/crud:dev",
		"docker.io/pw/crudservice:1":            "docker.io/pw/crudservice:1",
		"123456789012.dkr.ecr.eu-west-1.amazonaws.com/pw/crudservice:2026.1": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/pw/crudservice:2026.1",
	}
	for image, want := range tests {
		t.Run(image, func(t *testing.T) {
			deployment := typed[appsv1.Deployment](t, build(t, with(func(p *Params) { p.Image = image })))
			if got := deployment.Spec.Template.Spec.Containers[0].Image; got != want {
				t.Errorf("image %q, want %q", got, want)
			}
		})
	}
}

func TestRefusedParameters(t *testing.T) {
	tests := map[string]struct {
		change func(*Params)
		param  string
	}{
		"no overlay":               {func(p *Params) { p.Overlay = "" }, "overlay"},
		"unknown overlay":          {func(p *Params) { p.Overlay = "../base" }, "overlay"},
		"no namespace":             {func(p *Params) { p.Namespace = "" }, "namespace"},
		"namespace in capitals":    {func(p *Params) { p.Namespace = "Shop" }, "namespace"},
		"namespace with a dot":     {func(p *Params) { p.Namespace = "a.b" }, "namespace"},
		"no host":                  {func(p *Params) { p.Host = "" }, "host"},
		"host in capitals":         {func(p *Params) { p.Host = "Demo.test" }, "host"},
		"host with a scheme":       {func(p *Params) { p.Host = "http://demo.test" }, "host"},
		"host with a port":         {func(p *Params) { p.Host = "demo.test:80" }, "host"},
		"host is a wildcard":       {func(p *Params) { p.Host = "*.demo.test" }, "host"},
		"host is an address":       {func(p *Params) { p.Host = "10.0.0.1" }, "host"},
		"host is too long":         {func(p *Params) { p.Host = strings.Repeat("a.", 127) + "test" }, "host"},
		"no image":                 {func(p *Params) { p.Image = "" }, "image"},
		"image in capitals":        {func(p *Params) { p.Image = "pw/CrudService" }, "image"},
		"registry in capitals":     {func(p *Params) { p.Image = "UPPER/case:1" }, "image"},
		"image with a scheme":      {func(p *Params) { p.Image = "https://pw/crud" }, "image"},
		"image with a space":       {func(p *Params) { p.Image = "pw/crud :1" }, "image"},
		"image without a name":     {func(p *Params) { p.Image = ":latest" }, "image"},
		"image with an empty tag":  {func(p *Params) { p.Image = "pw/crud:" }, "image"},
		"image with half a digest": {func(p *Params) { p.Image = "pw/crud@sha256:abc" }, "image"},
		"image is an ID":           {func(p *Params) { p.Image = strings.Repeat("a", 64) }, "image"},
		"no ingress class":         {func(p *Params) { p.IngressClass = "" }, "ingress class"},
		"no ingress namespace":     {func(p *Params) { p.IngressNamespace = "" }, "ingress namespace"},
		"no redis namespace":       {func(p *Params) { p.RedisNamespace = "" }, "redis namespace"},
		"no redis host":            {func(p *Params) { p.RedisHost = "" }, "redis host"},
		"redis host ends its text": {func(p *Params) { p.RedisHost = "a\"\nport = 1" }, "redis host"},
		"redis host with a port":   {func(p *Params) { p.RedisHost = "redis:6379" }, "redis host"},
		"redis port 0":             {func(p *Params) { p.RedisPort = 0 }, "redis port"},
		"redis port too high":      {func(p *Params) { p.RedisPort = 65536 }, "redis port"},
		"replicas below 0":         {func(p *Params) { p.Replicas = -1 }, "replicas"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			objects, err := Build(with(test.change))
			var refused *ParamError
			if !errors.As(err, &refused) {
				t.Fatalf("got %d objects and %v, want a *ParamError", len(objects), err)
			}
			if refused.Param != test.param {
				t.Errorf("refused %q, want %q", refused.Param, test.param)
			}
		})
	}
}

func TestEveryRefusedParameterIsNamedAtOnce(t *testing.T) {
	_, err := Build(Params{Replicas: -1})
	compareGolden(t, "refused", fmt.Appendln(nil, err))
}

func TestBuildIsDeterministicAndUnshared(t *testing.T) {
	first := build(t, Defaults())
	untouched := text(t, first)
	for _, object := range build(t, Defaults()) {
		object.SetName("changed")
	}
	if again := text(t, build(t, Defaults())); !bytes.Equal(untouched, again) {
		t.Errorf("a second build differs:\n%s", cmp.Diff(string(untouched), string(again)))
	}
}

// kustomize warns through the standard logger; a terminal has no place for that.
func TestBuildIsQuiet(t *testing.T) {
	var logged bytes.Buffer
	before := log.Writer()
	log.SetOutput(&logged)
	defer log.SetOutput(before)
	build(t, with(func(p *Params) { p.Overlay = OverlayAWS }))
	if logged.Len() > 0 {
		t.Errorf("logged: %s", &logged)
	}
}

// DeepCopy panics on numbers that aren't int64 or float64.
func TestObjectsCanBeCopied(t *testing.T) {
	for _, object := range build(t, Defaults()) {
		if diff := cmp.Diff(object, object.DeepCopy()); diff != "" {
			t.Errorf("copy of %s differs:\n%s", object.GetKind(), diff)
		}
	}
}

func TestConstantsHold(t *testing.T) {
	objects := build(t, Defaults())
	pod := typed[appsv1.Deployment](t, objects).Spec.Template
	container := pod.Spec.Containers[0]
	ports := map[string]int32{}
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	service := typed[corev1.Service](t, objects)
	checks := []struct {
		what      string
		got, want any
	}{
		{"deployment", typed[appsv1.Deployment](t, objects).Name, AppName},
		{"service", service.Name, AppName},
		{"ingress", typed[networkingv1.Ingress](t, objects).Name, AppName},
		{"policy", typed[networkingv1.NetworkPolicy](t, objects).Name, AppName},
		{"budget", typed[policyv1.PodDisruptionBudget](t, objects).Name, AppName},
		{"account", typed[corev1.ServiceAccount](t, objects).Name, AppName},
		{"account of the pod", pod.Spec.ServiceAccountName, AppName},
		{"pod label", pod.Labels[LabelName], AppName},
		{"container", container.Name, ContainerName},
		{"password secret", pod.Spec.Volumes[1].Secret.SecretName, PasswordSecret},
		{"password file", container.Args[0], "--password-file=/etc/redis/" + PasswordKey},
		{"config", strings.HasPrefix(typed[corev1.ConfigMap](t, objects).Name, ConfigMapName+"-"), true},
		{"service port", service.Spec.Ports[0].Port, int32(ServicePort)},
		{"http port", ports["http"], int32(ServicePort)},
		{"metrics port", ports["metrics"], int32(MetricsPort)},
	}
	for _, c := range checks {
		if c.got != c.want {
			t.Errorf("%s: the manifests have %v, the package says %v", c.what, c.got, c.want)
		}
	}
}

// What must hold together across several fields, or the rollout drops requests.
func TestRolloutKeepsEveryReplica(t *testing.T) {
	for _, overlay := range []string{OverlayLocal, OverlayAWS} {
		t.Run(overlay, func(t *testing.T) {
			objects := build(t, with(func(p *Params) { p.Overlay = overlay }))
			deployment := typed[appsv1.Deployment](t, objects)
			rolling := deployment.Spec.Strategy.RollingUpdate
			if *rolling.MaxUnavailable != intstr.FromInt32(0) || *rolling.MaxSurge != intstr.FromInt32(1) {
				t.Errorf("rolling update %v, want none unavailable and one more", rolling)
			}
			pod := deployment.Spec.Template.Spec
			stop := pod.Containers[0].Lifecycle.PreStop.Sleep.Seconds
			if rest := *pod.TerminationGracePeriodSeconds - stop; rest < 1+20 {
				t.Errorf("%d s are left after the preStop sleep, want the service's delay (1 s) and drain (20 s)", rest)
			}
			if budget := typed[policyv1.PodDisruptionBudget](t, objects); *budget.Spec.MaxUnavailable != intstr.FromInt32(1) {
				t.Errorf("budget %v lets none or many go, want one", budget.Spec)
			}
		})
	}
}

// The config's mount has to follow the ConfigMap's name: that is what rolls the pods.
func TestConfigNameFollowsItsContent(t *testing.T) {
	names := map[string]bool{}
	for _, host := range []string{"a.test", "b.test", "fd00::1"} {
		objects := build(t, with(func(p *Params) { p.RedisHost = host }))
		config := typed[corev1.ConfigMap](t, objects)
		mounted := typed[appsv1.Deployment](t, objects).Spec.Template.Spec.Volumes[0].ConfigMap.Name
		if mounted != config.Name || names[config.Name] {
			t.Errorf("redis host %s: config %s, mounted %s, want one new name", host, config.Name, mounted)
		}
		names[config.Name] = true
		want := map[string]string{configFile: "[redis]\nhost = \"" + host + "\"\nport = 6379\n"}
		if diff := cmp.Diff(want, config.Data); diff != "" {
			t.Errorf("config (-want +got):\n%s", diff)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		if _, err := Build(Defaults()); err != nil {
			b.Fatal(err)
		}
	}
}

// with returns the defaults with a change.
func with(change func(*Params)) Params {
	p := Defaults()
	change(&p)
	return p
}

func build(t *testing.T, p Params) []*unstructured.Unstructured {
	t.Helper()
	objects, err := Build(p)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// plain is kustomize build of an embedded folder.
func plain(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	disk, err := load(embedded)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := render(disk, dir)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// byKind keys the objects by kind and name, without the hash of a generated name.
func byKind(objects []*unstructured.Unstructured) map[string]*unstructured.Unstructured {
	out := map[string]*unstructured.Unstructured{}
	for _, object := range objects {
		name := object.GetName()
		if object.GetKind() == "ConfigMap" {
			name = ConfigMapName
		}
		out[object.GetKind()+"/"+name] = object
	}
	return out
}

// typed returns the one object of type T, decoded strictly: a field that the API doesn't know fails the test.
func typed[T any](t *testing.T, objects []*unstructured.Unstructured) T {
	t.Helper()
	var out T
	kind := reflect.TypeOf(out).Name()
	for _, object := range objects {
		if object.GetKind() != kind {
			continue
		}
		err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &out, true)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		return out
	}
	t.Fatalf("no %s among the manifests", kind)
	return out
}

// text is the objects as one YAML stream.
func text(t *testing.T, objects []*unstructured.Unstructured) []byte {
	t.Helper()
	var out bytes.Buffer
	for i, object := range objects {
		if i > 0 {
			out.WriteString("---\n")
		}
		part, err := yaml.Marshal(object.Object)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(part)
	}
	return out.Bytes()
}

func compareGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; go test -update accepts it):\n%s", path, diff)
	}
}
