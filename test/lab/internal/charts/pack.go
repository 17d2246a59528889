// Package charts packs Helm charts and serves them from a local OCI registry and a local https repository under the
// names that their publishers use, so that a client's own download code runs unchanged.
package charts

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"sigs.k8s.io/yaml"
)

// StandIn is the annotation by which a chart of the lab says that it is not what its name says.
const StandIn = "github.com/pwdeploy/stand-in"

// Archive is a packed chart.
type Archive struct {
	Name, Version string
	// StandIn says in whose place it stands, and is empty for a real chart.
	StandIn string
	// Metadata is Chart.yaml as JSON, which is an OCI chart's config.
	Metadata []byte
	Bytes    []byte
}

// Digest is the archive's "sha256:...".
func (a Archive) Digest() string { return digest(a.Bytes) }

// Pack makes an archive of an unpacked chart. The same files give the same bytes, unlike `helm package`, which puts
// the time in.
func Pack(chart fs.FS) (Archive, error) {
	text, err := fs.ReadFile(chart, "Chart.yaml")
	if err != nil {
		return Archive{}, fmt.Errorf("not a chart: %w", err)
	}
	a, err := newArchive(text)
	if err != nil {
		return Archive{}, err
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	w := tar.NewWriter(zip)
	err = fs.WalkDir(chart, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return addFile(w, chart, a.Name, name)
	})
	if err := errors.Join(err, w.Close(), zip.Close()); err != nil {
		return Archive{}, fmt.Errorf("pack the chart %s: %w", a.Name, err)
	}
	a.Bytes = out.Bytes()
	return a, nil
}

func addFile(w *tar.Writer, chart fs.FS, folder, name string) error {
	content, err := fs.ReadFile(chart, name)
	if err != nil {
		return err
	}
	h := &tar.Header{Name: path.Join(folder, name), Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

// Read reads a packed chart; its bytes stay as they are.
func Read(packed []byte) (Archive, error) {
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return Archive{}, fmt.Errorf("not a packed chart: %w", err)
	}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return Archive{}, errors.New("not a packed chart: no Chart.yaml")
		}
		if err != nil {
			return Archive{}, fmt.Errorf("not a packed chart: %w", err)
		}
		if ok, err := path.Match("*/Chart.yaml", h.Name); err != nil || !ok {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return Archive{}, fmt.Errorf("read Chart.yaml: %w", err)
		}
		a, err := newArchive(text)
		a.Bytes = packed
		return a, err
	}
}

func newArchive(chartYAML []byte) (Archive, error) {
	metadata, err := yaml.YAMLToJSON(chartYAML)
	if err != nil {
		return Archive{}, fmt.Errorf("read Chart.yaml: %w", err)
	}
	var m struct {
		Name, Version string
		Annotations   map[string]string
	}
	if err := json.Unmarshal(metadata, &m); err != nil {
		return Archive{}, fmt.Errorf("read Chart.yaml: %w", err)
	}
	if m.Name == "" || m.Version == "" {
		return Archive{}, errors.New("the Chart.yaml lacks a name or a version")
	}
	return Archive{Name: m.Name, Version: m.Version, StandIn: m.Annotations[StandIn], Metadata: metadata}, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
