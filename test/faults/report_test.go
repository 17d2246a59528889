package faults

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"text/tabwriter"
)

// reportVariable names the file that the table is written to; empty: none is written.
const reportVariable = "PWDEPLOY_FAULTS_REPORT"

// report is the corpus as a table.
type report struct {
	here stage

	mu   sync.Mutex
	rows map[string]string // by the scene's name
}

func newReport(here stage) *report { return &report{here: here, rows: map[string]string{}} }

func (r *report) add(s scene, got diagnosis, failed bool) {
	verdict := "ok"
	switch {
	case got.never:
		verdict = "NOT NAMED"
	case got.named > soon:
		verdict = "LATE"
	case failed:
		verdict = "WRONG"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[s.name] = fmt.Sprintf("%s\t%.1f\t%d\t%s\n", s.name, got.named.Seconds(), got.code, verdict)
}

// write writes the scenes that ran, in the corpus' order.
func (r *report) write(t *testing.T) {
	path := os.Getenv(reportVariable)
	if path == "" {
		return
	}
	f, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	w := tabwriter.NewWriter(f, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "cause, on the %s\tseconds to name it\texit code\tverdict\n", r.here)
	for _, s := range corpus() {
		fmt.Fprint(w, r.rows[s.name])
	}
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
}
