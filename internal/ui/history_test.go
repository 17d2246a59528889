package ui

import (
	"bytes"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/stack"
)

func TestHistory(t *testing.T) {
	at := time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC)
	charts := []stack.ChartInUse{{Chart: "redis", Version: "23.1.1"}, {Chart: "ingress-nginx", Version: "4.15.1"}}
	revision := func(number int, status stack.RevisionStatus, ago time.Duration, image, note string) stack.Revision {
		return stack.Revision{Number: number, Status: status, StartedAt: at.Add(-ago), By: "me@laptop", Image: image, Charts: charts, Note: note}
	}
	for name, h := range map[string]*stack.History{
		"history-nothing": {},
		"history": {Revisions: []stack.Revision{
			revision(5, stack.RevisionDeployed, 50*time.Second, "pw/crudservice:1", "rollback to 3"),
			revision(4, stack.RevisionFailed, 12*time.Minute, "pw/crudservice:2", ""),
			revision(3, stack.RevisionSuperseded, 30*time.Hour, "pw/crudservice:1", ""),
			revision(2, stack.RevisionPending, 80*time.Hour, "registry.example.org/pw/crudservice:0.9", "did not end"),
			{Number: 1, Status: stack.RevisionUnreadable, Note: "damaged, or written by a newer pwdeploy"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			History(&out, h, at)
			golden(t, name, out.Bytes())
		})
	}
}

func TestRollback(t *testing.T) {
	at := time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	to := stack.Revision{Number: 3, EndedAt: at.Add(-30 * time.Hour), By: "me@laptop", Image: "pw/crudservice:1"}
	RollbackPlan(&out, &stack.Rollback{
		From: &stack.Revision{Number: 4, Image: "pw/crudservice:2"}, To: to, Objects: 7,
		Releases: []stack.RollbackRelease{
			{Name: stack.Redis, Unchanged: true, Version: "23.1.1", WasVersion: "23.1.1", From: 2},
			{Name: stack.Ingress, Version: "4.14.0", WasVersion: "4.15.1", From: 3, To: 1},
		},
	}, at)
	RollbackPlan(&out, &stack.Rollback{To: to, Objects: 7, Releases: []stack.RollbackRelease{{Name: stack.Redis, Version: "23.1.1", WasVersion: "23.1.1", From: 2, To: 1}}}, at)
	served := &stack.Served{URL: "http://demo.pw.test/pw", Address: "172.18.0.2:80", Via: stack.Direct, Millis: 3.4}
	for _, changed := range []bool{true, false} {
		Rollback(&out, Style{}, &stack.RollbackResult{RollbackTo: 3, Image: "pw/crudservice:1", UpResult: &stack.UpResult{Changed: changed, Endpoint: served}})
	}
	golden(t, "rollback", out.Bytes())
}
