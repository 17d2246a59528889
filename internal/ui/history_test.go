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
