//go:build linux

package cluster

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func TestNodeSettings(t *testing.T) {
	s := Spec{Dir: t.TempDir(), Index: 3, Nodes: 2, Ports: NodePorts}
	if err := s.writeNodeSettings(2); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"kubelet.yaml":        "cgroupRoot: /pwlab3/lab-2",
		"containerd.toml":     `address = "` + s.Socket(2) + `"`,
		"cni/10-lab.conflist": `"subnet": "198.18.51.0/24"`,
	} {
		text, err := os.ReadFile(s.Path("lab-2", file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %q:\n%s", file, want, text)
		}
		if strings.HasSuffix(file, ".toml") {
			continue
		}
		var parsed map[string]any
		if err := yaml.Unmarshal(text, &parsed); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestManifests(t *testing.T) {
	for name, tc := range map[string]struct {
		spec  Spec
		kinds string
	}{
		"nodes":         {Spec{Index: 1}, "ClusterRoleBinding ClusterRoleBinding StorageClass ServiceAccount ClusterRole ClusterRoleBinding ConfigMap Deployment Service"},
		"control plane": {Spec{ControlPlane: true}, "Node Node"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := tc.spec.manifests()
			if err != nil {
				t.Fatal(err)
			}
			objects, err := decode(text)
			if err != nil {
				t.Fatal(err)
			}
			var kinds []string
			for _, o := range objects {
				kinds = append(kinds, o.GetKind())
			}
			if got := strings.Join(kinds, " "); got != tc.kinds {
				t.Errorf("kinds %s, want %s", got, tc.kinds)
			}
		})
	}
}
