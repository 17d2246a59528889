package helm

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

// standIn gives a chart of ours that reads the same values as the publisher's: see testdata/charts.
func standIn(t *testing.T, name string) *Chart {
	t.Helper()
	chart, err := NewStore(t.TempDir()).Fetch(t.Context(), Source{Ref: filepath.Join("testdata", "charts", name)})
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

func TestRenderedGolden(t *testing.T) {
	for _, profile := range []Profile{ProfileLocal, ProfileAWS} {
		redis, ingress := standIn(t, "redis"), standIn(t, "ingress-nginx")
		t.Run("redis-"+string(profile), func(t *testing.T) {
			checkRedis(t, redis, profile)
			golden(t, redisSpec(redis, profile))
		})
		t.Run("ingress-nginx-"+string(profile), func(t *testing.T) {
			checkIngress(t, ingress, profile)
			golden(t, ingressSpec(ingress, profile))
		})
	}
}

// golden compares everything that a Spec renders to with a file.
func golden(t *testing.T, spec Spec) {
	t.Helper()
	objects, err := NewClient(ClientOptions{KubeVersion: "v1.34.0"}).Template(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, o := range objects {
		doc, err := yaml.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("---\n" + string(doc))
	}
	file := filepath.Join("testdata", "golden", strings.ReplaceAll(filepath.Base(t.Name()), "/", "-")+".yaml")
	if *update {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	wanted, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(wanted), b.String()); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", file, diff)
	}
}
