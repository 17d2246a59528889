//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pwdeploy/pwdeploy/internal/helm"
)

var update = flag.Bool("update", false, "write the golden files")

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "-address is needed"},
		{[]string{"-address", "a:80", "-rounds", "0"}, "0 rounds"},
		{[]string{"-address", "a:80", "-o", "yaml"}, `output "yaml"`},
		{[]string{"-address", "a:80", "more"}, `unknown argument "more"`},
		{[]string{"-nonsense"}, "-nonsense"},
	} {
		_, err := parse(c.args, io.Discard)
		if !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.args, err, c.want)
		}
	}
}

// TestScriptDeploysTheSame holds the script to the charts that pwdeploy pins: another version would be another job.
func TestScriptDeploysTheSame(t *testing.T) {
	text, err := os.ReadFile("deploy.sh")
	if err != nil {
		t.Fatal(err)
	}
	script := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "\\\n", "")), " ")
	redis, ingress := helm.DefaultRedis(), helm.DefaultIngressNginx()
	for _, want := range []string{
		redis.Ref + " --version " + redis.Version + " ",
		"--repo https://kubernetes.github.io/ingress-nginx --version " + ingress.Version + " ",
	} {
		if !strings.Contains(script, want) {
			t.Errorf("deploy.sh doesn't hold %q", want)
		}
	}
	if archive := path.Base(ingress.Ref); archive != "ingress-nginx-"+ingress.Version+".tgz" {
		t.Errorf("pwdeploy fetches %s, which the repository of deploy.sh may not have", archive)
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want values
	}{
		{nil, values{}},
		{[]float64{3}, values{3, 3, 3}},
		{[]float64{9, 1, 3}, values{3, 1, 9}},
		{[]float64{4, 1, 3, 9}, values{3.5, 1, 9}},
	} {
		if got := valuesOf(c.in); got != c.want {
			t.Errorf("%v: %v, want %v", c.in, got, c.want)
		}
	}
}

// sample is a report of two rounds with figures that are easy to follow.
func sample() *report {
	b := &bench{options: options{rounds: 2, label: "script", image: "a:b", delay: 40 * time.Millisecond, notes: texts{"The chart redis is a stand-in."}}, kubernetes: "v1.37.2", load: "0.10 0.20 0.30"}
	r := b.newReport()
	r.Machine = "linux/amd64, 2 CPUs"
	for round := 1; round <= b.rounds; round++ {
		for i, tool := range r.Tools {
			for _, s := range stages() {
				r.Measurements = append(r.Measurements, measured(s, tool, round, i+1))
			}
		}
	}
	return r
}

func measured(s stage, tool string, round, times int) measurement {
	m := measurement{
		Stage: s.name, Tool: tool, Round: round, Seconds: float64(10*times + round), True: times == 1 || round == 1,
		TrueAfter: float64(12 * times), Connections: times, CPU: 0.25 * float64(times), Peak: int64(times) * 60 << 20,
	}
	m.count([]request{{Method: "GET", URI: "/api"}, {Method: "POST", URI: "/api/v1/namespaces"}})
	m.Requests *= times
	return m
}

func TestReport(t *testing.T) {
	for name, write := range map[string]func(*report, io.Writer) error{
		"report.golden":      (*report).text,
		"report.json.golden": (*report).json,
	} {
		var got bytes.Buffer
		if err := write(sample(), &got); err != nil {
			t.Fatal(err)
		}
		file := "testdata/" + name
		if *update {
			if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestReadUsage(t *testing.T) {
	file := t.TempDir() + "/usage.json"
	if err := os.WriteFile(file, []byte(`{"seconds":1.5,"cpu":0.5,"peak":1048576}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := readUsage(file); err != nil || got != (usage{Seconds: 1.5, CPU: 0.5, Peak: 1 << 20}) {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCutOff: what is cut off is asked to end, may take its time for it, and leaves nothing running.
func TestCutOff(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	script := `trap 'echo asked >"$1/asked"; exit 1' TERM; (trap "" TERM; sleep 2; echo left >"$1/left") & wait`
	if err := runGroup(exec.CommandContext(ctx, "sh", "-c", script, "sh", dir)); err == nil {
		t.Error("it was not cut off")
	}
	if _, err := os.Stat(dir + "/asked"); err != nil {
		t.Errorf("it was not asked to end: %v", err)
	}
	time.Sleep(2500 * time.Millisecond)
	if _, err := os.Stat(dir + "/left"); err == nil {
		t.Error("a child ran on")
	}
}

// store is the app, as far as the probe asks for it. While down is set it answers 503.
type store struct {
	down   atomic.Bool
	values sync.Map
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	// A probe may be between its POST and its DELETE when the service goes down: what it stored it can take back.
	if s.down.Load() && r.Method != http.MethodDelete || r.Host != "demo.pw.test" {
		http.Error(w, "away", http.StatusServiceUnavailable)
		return
	}
	switch r.Method {
	case http.MethodPost:
		s.values.Store(parts[2], parts[3])
	case http.MethodDelete:
		s.values.Delete(parts[2])
	default:
		value, _ := s.values.Load(parts[2])
		text, _ := json.Marshal(value)
		fmt.Fprintln(w, string(text))
	}
}

func TestProbe(t *testing.T) {
	app := &store{}
	app.down.Store(true)
	server := httptest.NewServer(app)
	defer server.Close()
	s := service{server.Listener.Addr().String(), "demo.pw.test"}
	if s.ask(t.Context()) == nil {
		t.Fatal("a service that is down was served")
	}
	begin := time.Now()
	stop := s.probe(t.Context(), begin)
	const away = 4 * probeEvery
	time.Sleep(away)
	app.down.Store(false)
	time.Sleep(away)
	if err := s.ask(t.Context()); err != nil {
		t.Errorf("beside the probe: %v", err)
	}
	app.down.Store(true)
	time.Sleep(away)
	got := stop()
	if got.first < away || got.failed == 0 || got.asked <= got.failed {
		t.Errorf("%+v", got)
	}
	app.values.Range(func(key, _ any) bool {
		t.Errorf("%s is left behind", key)
		return true
	})
}

func TestProbeThatIsNeverAnswered(t *testing.T) {
	stop := service{"127.0.0.1:1", "demo.pw.test"}.probe(t.Context(), time.Now())
	time.Sleep(2 * probeEvery)
	if got := stop(); got != (probing{}) {
		t.Errorf("%+v", got)
	}
}
