package ui

import (
	"bytes"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// TestCheck: groups, marks, hints below what is not well, and what comes of it.
func TestCheck(t *testing.T) {
	fine := []stack.Check{
		{Group: stack.CheckCluster, Name: "API server", State: stack.CheckOK, Message: "answers in 3 ms"},
		{Group: stack.CheckSources, Name: "app image", State: stack.CheckSkipped, Message: "not asked for from here, the nodes pull it"},
		{Group: stack.CheckNotes, Name: "ingress-nginx", State: stack.CheckWarning, Message: "retired", Hint: "bring another controller"},
	}
	broken := append([]stack.Check{
		{Group: stack.CheckCluster, Name: "nodes", State: stack.CheckFailed, Message: "none of 2 nodes can take pods", Hint: "kubectl describe nodes"},
		{Group: stack.CheckLeftovers, Name: "existing objects", State: stack.CheckFailed, Message: "Service a is not ours\nService b is not ours", Hint: "delete them\nor choose another namespace"},
	}, fine[2])
	for name, r := range map[string]*stack.CheckResult{
		"check-fine":   {Checks: fine, Warnings: 1},
		"check-broken": {Checks: broken, Errors: 2, Warnings: 1},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			Check(&out, Style{}, r)
			golden(t, name, out.Bytes())
		})
	}
	t.Run("check-colour", func(t *testing.T) {
		var out bytes.Buffer
		Check(&out, Style{colour: true}, &stack.CheckResult{Checks: broken, Errors: 2, Warnings: 1})
		golden(t, "check-colour", out.Bytes())
	})
}
