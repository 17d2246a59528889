package ui

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func target() stack.Target {
	return stack.Target{
		Context: "kind-dev", Server: "https://127.0.0.1:6443", Kubernetes: "v1.34.0", Distribution: "kind",
		Profile: "local", ProfileDetected: true, Namespace: "pw-crud",
	}
}

func TestPlainProgress(t *testing.T) {
	var out bytes.Buffer
	p := NewProgress(&out, Style{}, func(string) string { return "" })
	for _, e := range []stack.Event{
		{Component: stack.Redis, Kind: stack.Started, Message: "chart oci://registry.test/redis 23.1.1"},
		{Component: stack.Ingress, Kind: stack.Started},
		{Component: stack.Ingress, Kind: stack.Warning, Message: "the chart could not be kept for next time: disk full"},
		{Component: stack.Redis, Kind: stack.Progress, Message: "StatefulSet redis-master 0/1 ready"},
		{Component: stack.App, Kind: stack.Problem, Message: "Pod pw-crud/pw-crud-1: ImagePullBackOff: not found", Hint: "check the image"},
		{Component: stack.Redis, Kind: stack.Problem, Message: "Pod redis/redis-master-0: Crashed: container redis ended with exit code 1", Evidence: []string{">>> 'no-such-directive yes'", "Bad directive"}, Hint: "the last lines of its log say why"},
		{Component: stack.Redis, Kind: stack.Done, Message: "ready, chart redis 23.1.1 installed", Elapsed: 12345 * time.Millisecond},
		{Component: stack.App, Kind: stack.Failed, Message: "can't become ready", Elapsed: 8 * time.Second},
	} {
		p.Handle(e)
	}
	p.Close()
	golden(t, "progress", out.Bytes())
}

func TestUpResult(t *testing.T) {
	served := &stack.Served{URL: "http://demo.pw.test/pw", Docs: "http://demo.pw.test/docs", Address: "172.18.0.2:80", Via: stack.Direct, Millis: 3.4}
	forwarded := *served
	forwarded.Via, forwarded.Address = stack.Forward, "127.0.0.1:40123"
	for name, r := range map[string]*stack.UpResult{
		"up-first": {Changed: true, Endpoint: served, Next: []stack.Step{{Why: "make the name known on this machine", Command: "echo '172.18.0.2 demo.pw.test' | sudo tee -a /etc/hosts"}}},
		"up-again": {Endpoint: served},
		"up-forward": {Changed: true, Endpoint: &forwarded, Next: []stack.Step{
			{Why: "open a way", Command: "kubectl port-forward"}, {Why: "then ask", Command: "curl"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			Target(&out, Style{}, "Deploying to", target())
			Up(&out, Style{}, r)
			golden(t, name, out.Bytes())
		})
	}
}

func TestStatus(t *testing.T) {
	healthy := &stack.StatusResult{Target: target(), Deployed: true, Healthy: true, URL: "http://demo.pw.test/pw", Components: []stack.ComponentStatus{
		{Name: stack.Redis, Ready: true, Version: "chart 23.1.1, revision 1", Message: "ready", Objects: []stack.ObjectStatus{
			{Kind: "StatefulSet", Name: "redis-master", Ready: true, Message: "1/1 ready", Workload: true},
			{Kind: "Service", Name: "redis-master", Ready: true, Message: "ready"},
		}},
		{Name: stack.Ingress, Ready: true, Version: "class nginx", Message: "not ours, used as it is"},
		{Name: stack.App, Ready: true, Version: "pw/crudservice:latest", Message: "ready", Objects: []stack.ObjectStatus{
			{Kind: "Deployment", Name: "pw-crud", Ready: true, Message: "2/2 ready", Workload: true},
		}},
		{Name: stack.Endpoint, Ready: true, Version: "http://demo.pw.test/pw", Message: "served at 172.18.0.2:80"},
	}}
	broken := &stack.StatusResult{Target: target(), Deployed: true, Components: []stack.ComponentStatus{
		{Name: stack.Redis, Message: "release failed", Version: "chart 23.1.1, revision 2", Reason: "the last operation on the release did not end well", Hint: "run pwdeploy up again"},
		{Name: stack.App, Version: "pw/crudservice:nope", Message: "not ready", Reason: "Deployment pw-crud/pw-crud: 1/2 ready", Objects: []stack.ObjectStatus{
			{Kind: "Deployment", Name: "pw-crud", Message: "1/2 ready", Workload: true, Reason: "Pod pw-crud/pw-crud-1: CrashLoopBackOff: exit code 2", Hint: "kubectl logs", Evidence: []string{"last words"}},
			{Kind: "Service", Name: "pw-crud", Missing: true, Message: "missing", Hint: "pwdeploy up puts it back"},
			{Kind: "Ingress", Name: "pw-crud", Missing: true, Message: "missing", Hint: "pwdeploy up puts it back"},
		}},
		{Name: stack.Endpoint, Message: "not served", Reason: "http://demo.pw.test/pw is not served: 172.18.0.2:80: GET answered 503 Service Unavailable", Hint: "see the components above"},
	}}
	since := time.Date(2026, 11, 27, 14, 2, 31, 0, time.Local)
	drifted := &stack.StatusResult{Target: target(), Deployed: true, Healthy: true, Drifted: true, URL: "http://demo.pw.test/pw", Components: []stack.ComponentStatus{
		{Name: stack.Redis, Ready: true, Drifted: true, Version: "chart 23.1.1, revision 1", Message: "drifted", Objects: []stack.ObjectStatus{
			{Kind: "StatefulSet", Name: "redis-master", Ready: true, Message: "1/1 ready", Workload: true},
			{Kind: "Service", Name: "redis-master", Ready: true, Message: "drifted", Hint: "pwdeploy up sets it back", Drift: []kube.Conflict{
				{Field: ".spec.type", Ours: "ClusterIP", Theirs: "NodePort", Manager: "console", Since: &since},
				{Field: ".metadata.labels.app", Ours: "redis", Theirs: "(none)"},
			}},
			{Kind: "ConfigMap", Name: "redis-health", Ready: true, Message: "ready"},
		}},
		{Name: stack.App, Ready: true, Drifted: true, Version: "pw/crudservice:latest", Message: "drifted", Objects: []stack.ObjectStatus{
			{Kind: "Deployment", Name: "pw-crud", Ready: true, Message: "3/3 ready", Workload: true, Hint: "pwdeploy up --take-over sets it back", Drift: []kube.Conflict{
				{Field: ".spec.replicas", Ours: "2", Theirs: "3", Manager: "kubectl", Subresource: "scale"},
			}},
			{Kind: "Secret", Name: "pw-crud-redis", Ready: true, Message: "drifted", Hint: "pwdeploy up --take-over sets it back", Drift: []kube.Conflict{
				{Field: ".data.redis-password", Ours: kube.Hidden, Theirs: kube.Hidden, Manager: "kubectl-edit", Since: &since},
			}},
		}},
		{Name: stack.Endpoint, Ready: true, Version: "http://demo.pw.test/pw", Message: "served at 172.18.0.2:80"},
	}}
	for name, r := range map[string]*stack.StatusResult{
		"status-healthy": healthy, "status-broken": broken, "status-drifted": drifted,
		"status-nothing": {Target: target(), Components: []stack.ComponentStatus{{Name: stack.Redis, Message: "not installed"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			Status(&out, Style{}, r)
			golden(t, name, out.Bytes())
		})
	}
}

func TestDown(t *testing.T) {
	var out bytes.Buffer
	plan := &stack.Down{Target: target(), Releases: []string{"redis/redis", "ingress-nginx/ingress-nginx"}, Objects: []string{"a", "b"}, Namespaces: []string{"pw-crud", "redis"}, Data: []string{"Secret redis/pwdeploy-redis"}}
	DownPlan(&out, Style{}, plan)
	plan.DeleteData = true
	DownPlan(&out, Style{}, plan)
	Down(&out, Style{}, &stack.DownResult{Removed: []string{"a", "b"}, Seconds: 6.2, Kept: []stack.Kept{{What: "Namespace redis", Why: "it holds Secret redis/pwdeploy-redis"}}})
	golden(t, "down", out.Bytes())
}

func TestColourIsForTerminalsOnly(t *testing.T) {
	none := func(string) string { return "" }
	if s := NewStyle(&bytes.Buffer{}, none); s.Bad("x") != "x" {
		t.Error("what is not a terminal is coloured")
	}
	if s := (Style{colour: true}); s.Bad("x") != "\x1b[31mx\x1b[0m" {
		t.Errorf("got %q", s.Bad("x"))
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		text string
		most int
		want string
	}{{"short", 10, "short"}, {"exactly", 7, "exactly"}, {"too long", 5, "too …"}, {"äöüß", 3, "äö…"}, {"any", 0, "any"}} {
		if got := cut(tt.text, tt.most); got != tt.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.text, tt.most, got, tt.want)
		}
	}
}
