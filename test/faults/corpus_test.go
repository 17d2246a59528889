package faults

import (
	"bytes"
	"context"
	"fmt"
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
// scene that went wrong or was late beside the others is run once more when nothing else runs, and that counts: a
// machine under load is no defect.
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
	var again againScenes
	t.Run("side by side", func(t *testing.T) {
		for _, s := range beside {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				got := play(t, s)
				if wrong := got.wrong(); len(wrong) > 0 {
					t.Logf("to be run again: %s\npwdeploy said:\n%s", strings.Join(wrong, "\n"), got.text)
					again.add(s)
					return
				}
				r.add(s, got, t.Failed())
			})
		}
	})
	for _, s := range append(alone, again.scenes...) {
		t.Run(s.name, func(t *testing.T) {
			got := play(t, s)
			for _, w := range got.wrong() {
				t.Error(w)
			}
			if t.Failed() {
				t.Logf("pwdeploy said:\n%s", got.text)
			}
			r.add(s, got, t.Failed())
		})
	}
}

// TestStates: of every up that fails it is known what it has to say of the state of the cluster.
func TestStates(t *testing.T) {
	for _, s := range corpus() {
		if up := len(s.command) == 0 || s.command[0] == "up"; up && s.want.code != 0 && s.want.state == "" {
			t.Errorf("%s: no state is wanted", s.name)
		}
	}
}

// againScenes get a second chance.
type againScenes struct {
	mu     sync.Mutex
	scenes []scene
}

func (l *againScenes) add(s scene) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.scenes = append(l.scenes, s)
}

// diagnosis is what pwdeploy made of a scene.
type diagnosis struct {
	code   int
	text   string        // stderr
	named  time.Duration // from the moment that the cluster showed the cause
	never  bool          // it was not named
	absent bool          // the cause did not come about
	lacks  []string      // what it should have said, and what it should not have
}

// wrong tells what is the matter with a diagnosis.
func (d diagnosis) wrong() []string {
	out := d.lacks
	switch {
	case d.absent:
		out = append(out, "the cause did not come about")
	case d.never:
		out = append(out, "the cause is not named")
	case d.named > soon:
		out = append(out, fmt.Sprintf("named %s after the cluster showed it, not within %s", d.named, soon))
	}
	return out
}

// play carries a scene out and checks the diagnosis.
func play(t *testing.T, s scene) diagnosis {
	t.Helper()
	site := harness.NewSite(t)
	if s.needs == controlPlane {
		site.ForeignController(t)
	} else {
		t.Cleanup(func() { site.Pwdeploy(context.WithoutCancel(t.Context()), "down", "--yes", "--delete-data") })
	}
	if s.provoke != nil {
		s.provoke(t, site)
	}
	names := strings.NewReplacer("{app}", site.App, "{redis}", site.Redis, "{ingress}", site.Ingress, "{host}", site.Host, "{class}", site.Class)
	got := run(t, s, site, names)
	got.lacks = lacks(got, s.want, names)
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
	return diagnosis{code: cmd.ProcessState.ExitCode(), text: text, named: max(0, heard.Sub(shown)), never: heard.IsZero(), absent: shown.IsZero()}
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

// lacks compares the diagnosis with what is wanted. What is said at the end counts: the evidence, what to do, and the
// state of the cluster.
func lacks(got diagnosis, want want, names *strings.Replacer) []string {
	var out []string
	if got.code != want.code {
		out = append(out, fmt.Sprintf("exit code %d, want %d", got.code, want.code))
	}
	end := got.text
	if want.code != 0 && want.code != 3 { // status has its result on stdout
		_, after, found := strings.Cut(got.text, "Error:")
		if !found {
			out = append(out, "no error is told")
		}
		end = after
	}
	for _, words := range append([]string{want.object, want.reason, want.hint, want.state}, want.says...) {
		if words = names.Replace(words); !strings.Contains(end, words) {
			out = append(out, fmt.Sprintf("the end does not say %q", words))
		}
	}
	for _, inside := range []string{"goroutine", "klog", "panic:"} {
		if strings.Contains(got.text, inside) {
			out = append(out, fmt.Sprintf("something of the inside: %q", inside))
		}
	}
	return out
}
