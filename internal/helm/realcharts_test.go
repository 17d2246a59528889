package helm

import (
	"os"
	"path/filepath"
	"testing"
)

// realChart gives a chart as its publisher wrote it. The charts are not part of this repository: CHARTS
// names a folder that holds them unpacked, as redis and ingress-nginx.
func realChart(t *testing.T, name string) *Chart {
	t.Helper()
	charts := os.Getenv("CHARTS")
	if charts == "" {
		t.Skip("set CHARTS to a folder with the publishers' charts, unpacked (helm pull --untar), to test the values against them")
	}
	chart, err := NewStore(t.TempDir()).Fetch(t.Context(), Source{Ref: filepath.Join(charts, name)})
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

func TestRealRedis(t *testing.T) {
	for _, profile := range []Profile{ProfileLocal, ProfileAWS} {
		t.Run(string(profile), func(t *testing.T) { checkRedis(t, realChart(t, "redis"), profile) })
	}
}

func TestRealIngressNginx(t *testing.T) {
	for _, profile := range []Profile{ProfileLocal, ProfileAWS} {
		t.Run(string(profile), func(t *testing.T) { checkIngress(t, realChart(t, "ingress-nginx"), profile) })
	}
}
