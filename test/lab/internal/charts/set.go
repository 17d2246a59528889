package charts

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The charts that the lab serves, and where their publishers do.
const (
	RedisName    = "redis"
	RedisVersion = "23.1.1"
	RedisHost    = "registry-1.docker.io"
	// RedisRepository is the chart's repository on that host.
	RedisRepository = "bitnamicharts/redis"

	IngressName    = "ingress-nginx"
	IngressVersion = "4.15.1"
	IngressHost    = "github.com"
	// IngressPath is the archive's path on that host.
	IngressPath = "/kubernetes/ingress-nginx/releases/download/helm-chart-" + IngressVersion + "/ingress-nginx-" + IngressVersion + ".tgz"
	// IngressIndexHost serves the repository's index.yaml.
	IngressIndexHost = "kubernetes.github.io"
	IngressIndexPath = "/ingress-nginx/index.yaml"
)

// versions are what can be served: the names above hold them.
var versions = map[string]string{RedisName: RedisVersion, IngressName: IngressVersion}

// Stage packs the charts in source, or takes their archives as they are, into dir for the server. The source holds
// for each chart a folder of its name or one archive NAME*.tgz.
func Stage(dir string, source fs.FS) ([]Archive, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var staged []Archive
	for _, name := range []string{RedisName, IngressName} {
		a, err := find(source, name)
		if err != nil {
			return nil, fmt.Errorf("the chart %s: %w", name, err)
		}
		if a.Name != name || a.Version != versions[name] {
			return nil, fmt.Errorf("the chart %s: it is %s %s, and the lab serves %s %s", name, a.Name, a.Version, name, versions[name])
		}
		// The server may read at any moment: never a half-written file.
		temporary := filepath.Join(dir, "."+name)
		if err := os.WriteFile(temporary, a.Bytes, 0o644); err != nil {
			return nil, err
		}
		if err := os.Rename(temporary, filepath.Join(dir, name+".tgz")); err != nil {
			return nil, err
		}
		staged = append(staged, a)
	}
	return staged, nil
}

func find(source fs.FS, name string) (Archive, error) {
	if info, err := fs.Stat(source, name); err == nil && info.IsDir() {
		chart, err := fs.Sub(source, name)
		if err != nil {
			return Archive{}, err
		}
		return Pack(chart)
	}
	matches, err := fs.Glob(source, name+"*.tgz")
	if err != nil {
		return Archive{}, err
	}
	switch len(matches) {
	case 0:
		return Archive{}, fmt.Errorf("no folder %s and no archive %s*.tgz", name, name)
	case 1:
		packed, err := fs.ReadFile(source, matches[0])
		if err != nil {
			return Archive{}, err
		}
		return Read(packed)
	default:
		return Archive{}, fmt.Errorf("more than one archive: %v", matches)
	}
}

// Load reads a staged chart.
func Load(dir, name string) (Archive, error) {
	packed, err := os.ReadFile(filepath.Join(dir, name+".tgz"))
	if errors.Is(err, fs.ErrNotExist) {
		return Archive{}, fmt.Errorf("the chart %s isn't staged: %w", name, err)
	}
	if err != nil {
		return Archive{}, err
	}
	return Read(packed)
}
