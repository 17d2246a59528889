package kube

import (
	"strings"
	"testing"
)

func TestPrevious(t *testing.T) {
	const ready = "spec: {template: {spec: {containers: [{name: c, image: 'img:0'}]}}}\nstatus: {readyReplicas: 2}\n"
	for name, test := range map[string]struct {
		old, current string // what is added to the ReplicaSets
		generation   string
		want         Previous
	}{
		"the old pods are ready":              {old: ready, want: Previous{Ready: 2, Image: "img:0"}},
		"the new pods are ready":              {current: strings.ReplaceAll(ready, "img:0", "img:1")},
		"nobody has acted on the new version": {current: ready, generation: "3", want: Previous{Ready: 2, Image: "img:0"}},
		"nothing is ready":                    {},
	} {
		t.Run(name, func(t *testing.T) {
			text := deployment
			if test.generation != "" {
				text = strings.Replace(text, "generation: 2", "generation: "+test.generation, 1)
			}
			parts := strings.SplitN(text, "---\n", 3)
			text = parts[0] + "---\n" + parts[1] + test.current + "---\n" + strings.Replace(parts[2], "---\n", test.old, 1)
			v := state(t, text)
			obj := v.object(Ref{GroupVersionKind: DeploymentKind, Namespace: "ns", Name: "app"})
			if got := previous(v, obj); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
