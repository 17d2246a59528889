package ingress

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var update = flag.Bool("update", false, "write the golden files")

func defaults(t *testing.T, args ...string) *Options {
	t.Helper()
	o := &Options{}
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.AddFlags(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func pointer[T any](v T) *T { return &v }

type path struct {
	path string
	kind networkingv1.PathType
	port networkingv1.ServiceBackendPort
}

var (
	byNumber = networkingv1.ServiceBackendPort{Number: 8000}
	byName   = networkingv1.ServiceBackendPort{Name: "http"}
	start    = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// newIngress is an Ingress of the class nginx; a higher age is an older one.
func newIngress(name, host string, age time.Duration, paths ...path) *networkingv1.Ingress {
	i := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: name, CreationTimestamp: metav1.NewTime(start.Add(-age)), Annotations: map[string]string{}},
		Spec:       networkingv1.IngressSpec{IngressClassName: pointer("nginx"), Rules: []networkingv1.IngressRule{{Host: host}}},
	}
	http := &networkingv1.HTTPIngressRuleValue{}
	for _, p := range paths {
		http.Paths = append(http.Paths, networkingv1.HTTPIngressPath{
			Path: p.path, PathType: &p.kind, Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: p.port}},
		})
	}
	i.Spec.Rules[0].HTTP = http
	return i
}

func newState(ingresses ...*networkingv1.Ingress) State {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Ports:      []discoveryv1.EndpointPort{{Name: pointer("http"), Port: pointer(int32(8080))}, {Name: pointer("metrics"), Port: pointer(int32(9090))}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.2"}}, {Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: pointer(true)}},
			{Addresses: []string{"10.0.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: pointer(false)}},
		},
	}
	return State{
		Ingresses: ingresses,
		Classes:   []*networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: "nginx"}, Spec: networkingv1.IngressClassSpec{Controller: "k8s.io/ingress-nginx"}}},
		Services: map[string]*corev1.Service{"demo/web": {
			ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "web"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 8000}}},
		}},
		Slices:  []*discoveryv1.EndpointSlice{slice},
		Secrets: map[string]*corev1.Secret{"demo/cert": {}},
	}
}

func TestRender(t *testing.T) {
	secured := newIngress("secured", "secure.test", 0, path{"/", networkingv1.PathTypePrefix, byName})
	secured.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{"secure.test"}, SecretName: "cert"}}
	secured.Annotations[annotationPrefix+"proxy-body-size"] = "8m"
	secured.Annotations[annotationPrefix+"backend-protocol"] = "HTTPS"
	paths := newIngress("paths", "paths.test", 0,
		path{"/api", networkingv1.PathTypePrefix, byNumber}, path{"/exact", networkingv1.PathTypeExact, byNumber},
		path{"/free", networkingv1.PathTypeImplementationSpecific, byNumber}, path{`/odd"$;}`, networkingv1.PathTypeExact, byNumber})
	fallback := newIngress("fallback", "fallback.test", 0)
	fallback.Spec.DefaultBackend = &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: byNumber}}
	missing := newIngress("missing", "missing.test", 0, path{"/", networkingv1.PathTypePrefix, byNumber})
	missing.Namespace = "elsewhere"
	for name, state := range map[string]State{
		"empty":    newState(),
		"plain":    newState(newIngress("plain", "demo.pw.test", 0, path{"/", networkingv1.PathTypePrefix, byNumber})),
		"tls":      newState(secured),
		"paths":    newState(paths),
		"fallback": newState(fallback),
		"missing":  newState(missing),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Render(NewModel(defaults(t), state), "/tmp/nginx", 2)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".conf")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("differs from %s (-update writes it):\n%s", golden, got)
			}
		})
	}
}

func TestModel(t *testing.T) {
	slash := path{"/", networkingv1.PathTypePrefix, byNumber}
	older, younger := newIngress("older", "demo.test", time.Hour, slash), newIngress("younger", "demo.test", 0, slash)
	m := NewModel(defaults(t), newState(younger, older))
	if len(m.Servers) != 2 || len(m.Servers[1].Locations) != 1 || m.Servers[1].Locations[0].Owner != "demo/older" {
		t.Errorf("servers %+v: want the older ingress to have the path", m.Servers)
	}
	want := Upstream{Name: "demo_web_8000_http", Scheme: "http", Endpoints: []string{"10.0.0.1:8080", "10.0.0.2:8080"}}
	if len(m.Upstreams) != 1 || m.Upstreams[0].Name != want.Name || strings.Join(m.Upstreams[0].Endpoints, " ") != strings.Join(want.Endpoints, " ") {
		t.Errorf("upstreams %+v, want %+v", m.Upstreams, want)
	}
}

func TestOurs(t *testing.T) {
	state := newState()
	for _, tc := range []struct {
		name       string
		class      *string
		annotation string
		args       []string
		want       bool
	}{
		{"class of this controller", pointer("nginx"), "", nil, true},
		{"unknown class", pointer("other"), "", nil, false},
		{"class of another controller", pointer("nginx"), "", []string{"--controller-class=example.com/other"}, false},
		{"class by name", pointer("public"), "", []string{"--ingress-class=public", "--ingress-class-by-name"}, true},
		{"annotation", nil, "nginx", nil, true},
		{"annotation of another", nil, "traefik", nil, false},
		{"none", nil, "", nil, false},
		{"none, but watched", nil, "", []string{"--watch-ingress-without-class=true"}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			i := newIngress("i", "demo.test", 0)
			i.Spec.IngressClassName = tc.class
			if tc.annotation != "" {
				i.Annotations[classAnnotation] = tc.annotation
			}
			if got := defaults(t, tc.args...).ours(i, state.Classes); got != tc.want {
				t.Errorf("ours: %v, want %v", got, tc.want)
			}
		})
	}
}

func review(t *testing.T, i *networkingv1.Ingress, state State) *admissionv1.AdmissionResponse {
	t.Helper()
	raw, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Operation: admissionv1.Create, Namespace: i.Namespace, Name: i.Name,
			Kind: metav1.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"}, Object: runtime.RawExtension{Raw: raw},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &Webhook{Options: defaults(t), State: func() (State, error) { return state, nil }, Log: slog.New(slog.DiscardHandler)}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/networking/v1/ingresses", bytes.NewReader(body)))
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.APIVersion != "admission.k8s.io/v1" || answer.Response == nil || answer.Response.UID != "1" {
		t.Fatalf("answer %s", w.Body)
	}
	return answer.Response
}

func TestAdmission(t *testing.T) {
	slash := path{"/", networkingv1.PathTypePrefix, byNumber}
	state := newState(newIngress("first", "demo.test", time.Hour, slash))
	annotated := func(name, value string) *networkingv1.Ingress {
		i := newIngress("second", "other.test", 0, slash)
		i.Annotations[annotationPrefix+name] = value
		return i
	}
	foreign := newIngress("second", "demo.test", 0, slash)
	foreign.Spec.IngressClassName = pointer("other")
	for _, tc := range []struct {
		name, refusal string
		ingress       *networkingv1.Ingress
	}{
		{"another host", "", newIngress("second", "other.test", 0, slash)},
		{"another path", "", newIngress("second", "demo.test", 0, path{"/b", networkingv1.PathTypePrefix, byNumber})},
		{"the same again", "", newIngress("first", "demo.test", 0, slash)},
		{"another class", "", foreign},
		{"taken", `host "demo.test" and path "/" is already defined in ingress demo/first`, newIngress("second", "demo.test", 0, slash)},
		{"a snippet", "server-snippet annotation cannot be used", annotated("server-snippet", "return 200;")},
		{"a setting", "", annotated("proxy-body-size", "8m")},
		{"a setting that breaks out", "invalid value", annotated("proxy-body-size", "8m; } evil {")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := review(t, tc.ingress, state)
			if r.Allowed != (tc.refusal == "") {
				t.Fatalf("allowed: %v, %+v", r.Allowed, r.Result)
			}
			if tc.refusal != "" && !strings.Contains(r.Result.Message, tc.refusal) {
				t.Errorf("message %q, want %q", r.Result.Message, tc.refusal)
			}
		})
	}
}

func TestAdmissionOfNonsense(t *testing.T) {
	h := &Webhook{Options: defaults(t), Log: slog.New(slog.DiscardHandler)}
	for _, body := range []string{"", "{}", "nonsense"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if w.Code != http.StatusBadRequest {
			t.Errorf("%q: status %d", body, w.Code)
		}
	}
}

func TestServiceAddresses(t *testing.T) {
	balancer := corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.1.0.1"}}
	assigned := *balancer.DeepCopy()
	assigned.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb.example.com"}, {IP: "192.0.2.1"}}
	for name, tc := range map[string]struct {
		service corev1.Service
		want    string
	}{
		"cluster":           {corev1.Service{Spec: corev1.ServiceSpec{ClusterIP: "10.1.0.1"}}, "10.1.0.1"},
		"balancer":          {assigned, "192.0.2.1 lb.example.com"},
		"balancer, pending": {balancer, ""},
		"external name":     {corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "x.example.com"}}, "x.example.com"},
	} {
		var got []string
		for _, e := range entries(serviceAddresses(&tc.service)) {
			got = append(got, e.IP+e.Hostname)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
}
