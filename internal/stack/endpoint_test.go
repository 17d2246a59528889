package stack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/helm"
)

// fakeApp keeps keys as the app does, behind an ingress that knows one host.
func fakeApp(t *testing.T, broken func(method string) (int, string)) (address string, keys *sync.Map) {
	t.Helper()
	keys = &sync.Map{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, body := broken(r.Method); status != 0 {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
		if r.Host != "demo.pw.test" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		key, value, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/pw/"), "/")
		switch r.Method {
		case http.MethodPost:
			keys.Store(key, value)
		case http.MethodDelete:
			keys.Delete(key)
		default:
			value, _ := keys.Load(key)
			_ = json.NewEncoder(w).Encode(value)
		}
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://"), keys
}

func TestRoundTrip(t *testing.T) {
	tests := map[string]struct {
		broken func(string) (int, string)
		want   string // of the error; empty: none
	}{
		"served":          {broken: func(string) (int, string) { return 0, "" }},
		"unavailable":     {broken: func(string) (int, string) { return 503, "" }, want: "POST answered 503"},
		"somebody else's": {broken: func(string) (int, string) { return 200, "<html>" }, want: "something else than was stored"},
		"can't delete": {broken: func(m string) (int, string) {
			if m == http.MethodDelete {
				return 500, ""
			}
			return 0, ""
		}, want: "DELETE answered 500"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			address, keys := fakeApp(t, tt.broken)
			took, err := roundTrip(t.Context(), address, "demo.pw.test")
			if tt.want == "" {
				if err != nil || took <= 0 {
					t.Errorf("took %s, %v", took, err)
				}
				keys.Range(func(k, _ any) bool {
					t.Errorf("the key %v is left behind", k)
					return true
				})
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestRoundTripNamesTheCauseWithoutTheURL(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	address := strings.TrimPrefix(server.URL, "http://")
	server.Close()
	_, err := roundTrip(t.Context(), address, "demo.pw.test")
	if err == nil || strings.Contains(err.Error(), "http://") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestNextSteps(t *testing.T) {
	tests := map[string]struct {
		profile string
		served  Served
		want    string
	}{
		"hosts file":   {config.ProfileLocal, Served{Address: "172.18.0.2:80", Via: Direct}, "echo '172.18.0.2 pw.invalid'"},
		"localhost":    {config.ProfileLocal, Served{Address: "localhost:80", Via: Direct}, "echo '127.0.0.1 pw.invalid'"},
		"DNS record":   {config.ProfileAWS, Served{Address: "lb.invalid:80", Via: Direct}, "pw.invalid CNAME lb.invalid"},
		"port-forward": {config.ProfileLocal, Served{Address: "127.0.0.1:4711", Via: Forward, Pod: "edge/c-1"}, "kubectl -n edge port-forward pod/c-1 8080:80"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			cfg := config.Default()
			cfg.Host = "pw.invalid"
			e := &Engine{cfg: cfg, target: Target{Profile: tt.profile}}
			steps := e.nextSteps(t.Context(), &tt.served)
			if len(steps) == 0 || !strings.HasPrefix(steps[0].Command, tt.want) {
				t.Errorf("got %+v, want %s", steps, tt.want)
			}
		})
	}
}

func TestBaseURL(t *testing.T) {
	e := &Engine{cfg: config.Default()}
	for _, tt := range []struct {
		address string
		via     Via
		want    string
	}{
		{"172.18.0.2:80", Direct, "http://demo.pw.test"},
		{"172.18.0.2:30080", Direct, "http://demo.pw.test:30080"},
		{"127.0.0.1:4711", Forward, "http://demo.pw.test"},
	} {
		if got := e.baseURL(tt.address, tt.via); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.address, got, tt.want)
		}
	}
}

func TestSource(t *testing.T) {
	standard := helm.Source{Ref: "https://x.test/a.tgz", Version: "1.0.0", Digest: "sha256:a"}
	for name, tt := range map[string]struct {
		o    config.Chart
		want helm.Source
	}{
		"nothing":          {config.Chart{}, standard},
		"another digest":   {config.Chart{Digest: "sha256:b"}, helm.Source{Ref: standard.Ref, Version: "1.0.0", Digest: "sha256:b"}},
		"another version":  {config.Chart{Version: "2.0.0"}, helm.Source{Ref: standard.Ref, Version: "2.0.0"}},
		"another place":    {config.Chart{Ref: "./folder"}, helm.Source{Ref: "./folder"}},
		"all of it at one": {config.Chart{Ref: "oci://x.test/a", Version: "3.0.0", Digest: "sha256:c"}, helm.Source{Ref: "oci://x.test/a", Version: "3.0.0", Digest: "sha256:c"}},
	} {
		if got := source(standard, tt.o); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestChooseClass(t *testing.T) {
	class := func(name, controller string) unstructured.Unstructured {
		return unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": name}, "spec": map[string]any{"controller": controller}}}
	}
	for name, tt := range map[string]struct {
		classes []unstructured.Unstructured
		want    string
	}{
		"none":                       {nil, ""},
		"another kind":               {[]unstructured.Unstructured{class("alb", "ingress.k8s.aws/alb")}, ""},
		"the wanted one":             {[]unstructured.Unstructured{class("public", nginxController), class("nginx", nginxController)}, "nginx"},
		"any ingress-nginx":          {[]unstructured.Unstructured{class("alb", "x"), class("public", nginxController)}, "public"},
		"the name served by another": {[]unstructured.Unstructured{class("nginx", "traefik.io/ingress-controller")}, "nginx"},
	} {
		got := ""
		if c := chooseClass(tt.classes, "nginx"); c != nil {
			got = c.GetName()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestEmitterDoesNotRepeatItself(t *testing.T) {
	var got []string
	e := newEmitter(func(ev Event) { got = append(got, fmt.Sprintf("%s %s", ev.Kind, ev.Message)) })
	e.start(Redis, "begin")
	e.progress(Redis, "0/1")
	e.progress(Redis, "0/1")
	e.emit(Redis, Problem, "pod a has no node", "add a node")
	e.emit(Redis, Problem, "pod b has no node", "add a node")
	e.emit(Redis, Problem, "pod b has no image", "push it")
	e.progress(Redis, "1/1")
	time.Sleep(time.Millisecond)
	e.done(Redis, "ready")
	want := "started begin|progress 0/1|problem pod a has no node|problem pod b has no image|progress 1/1|done ready"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
}
