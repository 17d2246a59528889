package faults

import (
	"bytes"
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// soon is how long after the cluster shows a cause pwdeploy has to have named it.
const soon = 5 * time.Second

// giveUp ends a scene in which pwdeploy does not end by itself.
const giveUp = 3 * time.Minute

// stageVariable says on which stage this run is: the name of a stage.
const stageVariable = "PWDEPLOY_FAULTS_STAGE"

// TestCorpus runs all scenes of the stage: those of the control plane side by side, the others one after the other. A
// scene whose diagnosis is right and late is run once more when nothing else runs: a machine under load is no defect.
func TestCorpus(t *testing.T) {
	here := stage(os.Getenv(stageVariable))
	if here == "" {
		here = controlPlane
	}
	r := newReport(here)
	t.Cleanup(func() { r.write(t) })
	var beside, alone []scene
	for _, s := range corpus() {
		if s.needs == "" {
			s.needs = controlPlane
		}
		switch {
		case s.needs != here:
		case s.serial || here == lab:
			alone = append(alone, s)
		default:
			beside = append(beside, s)
		}
	}
	var late lateScenes
	t.Run("side by side", func(t *testing.T) {
		for _, s := range beside {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				got := play(t, s)
				if got.late() && !t.Failed() {
					late.add(s)
					return
				}
				r.add(s, got, t.Failed())
			})
		}
	})
	for _, s := range append(alone, late.scenes...) {
		t.Run(s.name, func(t *testing.T) {
			got := play(t, s)
			if got.late() {
				t.Errorf("named %s after the cluster showed it, not within %s\n%s", got.named, soon, got.text)
			}
			r.add(s, got, t.Failed())
		})
	}
}

// lateScenes get a second chance.
type lateScenes struct {
	mu     sync.Mutex
	scenes []scene
}

func (l *lateScenes) add(s scene) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scenes = append(l.scenes, s)
}

// diagnosis is what pwdeploy made of a scene.
type diagnosis struct {
	code  int
	text  string        // stderr
	named time.Duration // from the moment that the cluster showed the cause
	never bool          // it was not named
}

func (d diagnosis) late() bool { return !d.never && d.named > soon }

// play carries a scene out and checks the diagnosis, its time apart.
func play(t *testing.T, s scene) diagnosis {
	t.Helper()
	site := harness.NewSite(t)
	if s.needs == controlPlane {
		site.ForeignController(t)
	}
	if s.provoke != nil {
		s.provoke(t, site)
	}
	names := strings.NewReplacer("{app}", site.App, "{redis}", site.Redis, "{ingress}", site.Ingress, "{host}", site.Host, "{class}", site.Class)
	got := run(t, s, site, names)
	check(t, got, s.want, names)
	if s.after != nil {
		s.after(t, site)
	}
	return got
}

// run runs pwdeploy and finds out when the cluster showed the cause and when pwdeploy named it.
func run(t *testing.T, s scene, site *harness.Site, names *strings.Replacer) diagnosis {
	t.Helper()
	args := s.command
	if len(args) == 0 {
		args = []string{"up"}
	}
	ctx, cancel := context.WithTimeout(t.Context(), giveUp)
	defer cancel()
	cmd, err := site.Command(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	out := &listener{words: []string{names.Replace(s.want.object), names.Replace(s.want.reason)}}
	cmd.Stderr = out
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := begin
	if s.shown != nil {
		shown = s.shown(t, site)
	}
	_ = cmd.Wait() // the exit code says it
	text, heard := out.result()
	return diagnosis{code: cmd.ProcessState.ExitCode(), text: text, named: max(0, heard.Sub(shown)), never: heard.IsZero()}
}

// listener notes when all words have been written to it.
type listener struct {
	words []string

	mu    sync.Mutex
	text  bytes.Buffer
	heard time.Time
}

// Write implements io.Writer.
func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := l.text.Write(p)
	if l.heard.IsZero() && l.hasAll() {
		l.heard = time.Now()
	}
	return n, err
}

func (l *listener) hasAll() bool {
	for _, w := range l.words {
		if !strings.Contains(l.text.String(), w) {
			return false
		}
	}
	return true
}

func (l *listener) result() (text string, heard time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String(), l.heard
}

// check compares the diagnosis with what is wanted. What is said at the end counts: the evidence, what to do, and the
// state of the cluster.
func check(t *testing.T, got diagnosis, want want, names *strings.Replacer) {
	t.Helper()
	if got.code != want.code {
		t.Errorf("exit code %d, want %d", got.code, want.code)
	}
	if got.never {
		t.Error("the cause is not named")
	}
	end := got.text
	if want.code != 0 && want.code != 3 { // status has its result on stdout
		_, after, found := strings.Cut(got.text, "Error:")
		if !found {
			t.Error("no error is told")
		}
		end = after
	}
	for _, words := range append([]string{want.object, want.reason, want.hint, want.state}, want.says...) {
		if words = names.Replace(words); !strings.Contains(end, words) {
			t.Errorf("the end does not say %q", words)
		}
	}
	for _, inside := range []string{"goroutine", "klog", "panic:"} {
		if strings.Contains(got.text, inside) {
			t.Errorf("something of the inside: %q", inside)
		}
	}
	if t.Failed() {
		t.Logf("pwdeploy said:\n%s", got.text)
	}
}
