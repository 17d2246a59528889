package helm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// Chart is a chart that was fetched and verified. It does not change and may be used concurrently.
type Chart struct {
	Name, Version, AppVersion string
	Digest                    string // what Source.Digest pins; for a folder, of its files
	Origin                    string // where it came from, without credentials
	Cached                    bool   // it was on disk: nothing was fetched
	// CacheErr says why the chart could not be kept on disk: it will be fetched again next time. The
	// chart itself is sound.
	CacheErr error

	// contents identifies what is in the chart, whichever way it came.
	contents string
	// load makes a chart of Helm's anew: Helm's actions write into theirs, so that each needs its own.
	load func() (*chart.Chart, error)
}

// newChart reads an archive that was verified, and checks that it holds what was asked for.
func newChart(src Source, digest string, archive []byte, cached bool) (*Chart, error) {
	load := func() (*chart.Chart, error) { return loader.LoadArchive(bytes.NewReader(archive)) }
	c := &Chart{Digest: digest, contents: digestOf(archive), Cached: cached, load: load}
	return c, c.describe(src)
}

// localArchive reads a .tgz of the user's. It is used where it lies.
func localArchive(src Source) (*Chart, error) {
	f, err := os.Open(src.Ref)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	archive, err := readAll(f, maxArchive)
	if err != nil {
		return nil, err
	}
	digest := digestOf(archive)
	if src.Digest != "" && src.Digest != digest {
		return nil, &DigestError{Want: src.Digest, Got: digest}
	}
	return newChart(src, digest, archive, false)
}

// folderChart reads a chart's folder once, .helmignore honoured: later changes of the folder don't
// reach it.
func folderChart(src Source) (*Chart, error) {
	loaded, err := loader.LoadDir(src.Ref)
	if err != nil {
		return nil, notAChart(err)
	}
	load := func() (*chart.Chart, error) { return loader.LoadFiles(bufferedFiles(loaded.Raw)) }
	digest := filesDigest(loaded.Raw)
	c := &Chart{Digest: digest, contents: digest, load: load}
	return c, c.describe(src)
}

func bufferedFiles(files []*chart.File) []*loader.BufferedFile {
	buffered := make([]*loader.BufferedFile, 0, len(files))
	for _, f := range files {
		buffered = append(buffered, &loader.BufferedFile{Name: f.Name, Data: bytes.Clone(f.Data)})
	}
	return buffered
}

func filesDigest(files []*chart.File) string {
	files = slices.Clone(files)
	slices.SortFunc(files, func(a, b *chart.File) int { return strings.Compare(a.Name, b.Name) })
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d\n", f.Name, len(f.Data))
		h.Write(f.Data)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// describe fills in what the chart says of itself, and checks it against what was asked for.
func (c *Chart) describe(src Source) error {
	loaded, err := c.load()
	if err != nil {
		return notAChart(err)
	}
	if err := installable(loaded); err != nil {
		return err
	}
	c.Name, c.Version, c.AppVersion = loaded.Name(), loaded.Metadata.Version, loaded.AppVersion()
	c.Origin = redact(src.Ref)
	return c.check(src)
}

func installable(loaded *chart.Chart) error {
	if t := loaded.Metadata.Type; t != "" && t != "application" {
		return fmt.Errorf("%s is a chart of type %s: it can't be installed", loaded.Name(), t)
	}
	if err := action.CheckDependencies(loaded, loaded.Metadata.Dependencies); err != nil {
		return fmt.Errorf("chart %s lacks a chart that it depends on (helm dependency build fetches them): %w", loaded.Name(), err)
	}
	return nil
}

// check compares the version, and for oci the name, which is the last part of the repository's
// (Helm's rule for charts in registries).
func (c *Chart) check(src Source) error {
	name, version := c.Name, c.Version
	if ref, ok := strings.CutPrefix(src.Ref, "oci://"); ok {
		name = path.Base(ref)
	}
	if src.Version != "" {
		version = src.Version
	}
	if name == c.Name && version == c.Version {
		return nil
	}
	return &VersionError{Want: name + " " + version, Got: c.Name + " " + c.Version}
}

func notAChart(err error) error { return fmt.Errorf("it is not a chart: %w", err) }

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Bounds on what is read. The largest public charts are near 1 MB; manifests are bounded by the OCI
// distribution specification.
const (
	maxArchive  = 20 << 20
	maxManifest = 4 << 20
)

// readAll reads at most limit bytes, and fails if there are more.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("it is larger than %d MiB", limit>>20)
	}
	return data, nil
}
