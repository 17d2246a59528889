package ui

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// TestLastWords: what stands last where a command failed, and where it was interrupted.
func TestLastWords(t *testing.T) {
	const redis, controller = "ready, chart redis 23.1.1 installed", "ready, chart ingress-nginx 4.15.1 installed"
	unpulled := &kube.Problem{
		Ref:    kube.Ref{GroupVersionKind: kube.PodKind, Namespace: "ingress-nginx", Name: "ingress-nginx-admission-create-x"},
		Reason: "ImagePullBackOff", Message: "Back-off pulling image\n\"reg.test/certgen:1\"", Hint: "check that image reg.test/certgen:1 exists",
	}
	for name, e := range map[string]*stack.UnfinishedError{
		"nothing":   {Command: "up", Err: errors.New("refused")},
		"unchanged": {Command: "up", Err: &stack.UpError{}, State: stack.State{Components: []stack.ComponentState{{Name: stack.Redis, Message: "chart redis 23.1.1 unchanged, not ready: StatefulSet redis-master 0/1 ready"}}}},
		"namespace": {Command: "up", Err: context.Canceled, State: stack.State{Changed: true, Components: []stack.ComponentState{
			{Name: stack.Redis, Message: "not begun"}, {Name: stack.Ingress, Message: "not begun"}, {Name: stack.App, Message: "not begun"},
			{Name: stack.Namespaces, Message: "making pw-crud was cut off; it may be there"},
		}}},
		"first": {Command: "up", Err: &stack.UpError{}, State: stack.State{Changed: true, Components: []stack.ComponentState{
			{Name: stack.Redis, Message: redis},
			{Name: stack.Ingress, Message: "installing chart ingress-nginx 4.15.1 was cut off, waiting for Job ingress-nginx-admission-create; the next run recovers the release", Problems: []*kube.Problem{unpulled}},
			{Name: stack.App, Message: "image pw/crudservice:latest applied but for its Ingress, not ready: Deployment pw-crud 0/2 ready"},
		}}},
		"upgrade": {Command: "up", Err: &stack.UpError{Back: &stack.Revision{Number: 1, Image: "pw/crudservice:1"}}, State: stack.State{
			Changed: true, Previous: kube.Previous{Ready: 2, Image: "pw/crudservice:1"}, Components: []stack.ComponentState{
				{Name: stack.Redis, Message: "ready, chart redis 23.1.1 unchanged"}, {Name: stack.Ingress, Message: "not ours: class nginx is used as it is"},
				{Name: stack.App, Message: "image pw/crudservice:2 applied, not ready: Deployment pw-crud rolling out, 1/2 updated, 2 ready"},
			}}},
		"not-served": {Command: "rollback", Err: &stack.UpError{}, State: stack.State{Changed: true, Components: []stack.ComponentState{
			{Name: stack.Redis, Message: redis}, {Name: stack.Ingress, Message: controller}, {Name: stack.App, Message: "ready, image pw/crudservice:1 applied"},
			{Name: stack.Endpoint, Message: "asking for http://demo.pw.test/pw failed"},
		}}},
		"down": {Command: "down", Err: context.Canceled, State: stack.State{Changed: true, Components: []stack.ComponentState{
			{Name: stack.Redis, Message: "uninstalled release redis"}, {Name: stack.Ingress, Message: "uninstalling release ingress-nginx was cut off; the next down takes it up"},
			{Name: stack.App, Message: "deleted 8 objects, not all gone yet"}, {Name: stack.Namespaces, Message: "not begun"},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			Failed(&out, Style{}, e)
			out.WriteString("\n")
			Interrupted(&out, Style{}, e)
			golden(t, "unfinished-"+name, out.Bytes())
		})
	}
}
