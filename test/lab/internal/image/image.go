// Package image assembles container images from files and root file systems, without a container engine.
package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// path is the search path of a container, as Docker sets it.
const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// File is a file of an image.
type File struct {
	// Name is the absolute name in the image.
	Name string
	// Source is a file of this machine; where it is empty, Content holds the bytes, or Link the target of a symbolic
	// link.
	Source  string
	Content []byte
	Link    string
	// Mode is the permissions, 0755 where it is zero.
	Mode int64
}

// Spec is an image: an optional root file system under a layer of files.
type Spec struct {
	// Root is a tar archive with a root file system.
	Root  string
	Files []File
	// Architecture is Go's name of it: amd64, arm64.
	Architecture string
	Config       v1.Config
}

// Build assembles the image. The same input gives the same digest: files carry no times.
func Build(s Spec) (v1.Image, error) {
	var layers []v1.Layer
	if s.Root != "" {
		root, err := tarball.LayerFromFile(s.Root, tarball.WithCompressionLevel(gzip.BestSpeed))
		if err != nil {
			return nil, fmt.Errorf("read the root file system %s: %w", s.Root, err)
		}
		layers = append(layers, root)
	}
	files, err := fileLayer(s.Files)
	if err != nil {
		return nil, err
	}
	layers = append(layers, files)
	config := s.Config
	config.Env = append([]string{path}, config.Env...)
	base, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{Architecture: s.Architecture, OS: "linux", Config: config, RootFS: v1.RootFS{Type: "layers"}})
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(base, layers...)
}

// Write writes the image as an archive that `docker load`, `ctr images import` and `kind load image-archive` read,
// under the reference, and returns the image's digest.
func Write(file, reference string, image v1.Image) (string, error) {
	tag, err := name.NewTag(reference)
	if err != nil {
		return "", fmt.Errorf("the reference %q: %w", reference, err)
	}
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		return "", fmt.Errorf("write the image %s: %w", reference, err)
	}
	digest, err := image.Digest()
	if err != nil {
		return "", err
	}
	return digest.String(), nil
}

func fileLayer(files []File) (v1.Layer, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	folders := map[string]bool{".": true, "/": true}
	for _, f := range files {
		if err := addFolders(w, folders, filepath.Dir(f.Name)); err != nil {
			return nil, err
		}
		if err := addFile(w, f); err != nil {
			return nil, fmt.Errorf("add %s: %w", f.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(out.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithCompressionLevel(gzip.BestSpeed))
}

// addFolders adds the folder and those above it, once.
func addFolders(w *tar.Writer, known map[string]bool, folder string) error {
	if known[folder] {
		return nil
	}
	known[folder] = true
	if err := addFolders(w, known, filepath.Dir(folder)); err != nil {
		return err
	}
	return w.WriteHeader(header(folder+"/", tar.TypeDir, 0o755))
}

func addFile(w *tar.Writer, f File) error {
	mode := f.Mode
	if mode == 0 {
		mode = 0o755
	}
	if f.Link != "" {
		h := header(f.Name, tar.TypeSymlink, 0o777)
		h.Linkname = f.Link
		return w.WriteHeader(h)
	}
	if strings.HasSuffix(f.Name, "/") {
		return w.WriteHeader(header(f.Name, tar.TypeDir, mode))
	}
	content := f.Content
	if f.Source != "" {
		var err error
		if content, err = os.ReadFile(f.Source); err != nil {
			return err
		}
	}
	h := header(f.Name, tar.TypeReg, mode)
	h.Size = int64(len(content))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func header(name string, kind byte, mode int64) *tar.Header {
	return &tar.Header{Name: strings.TrimPrefix(name, "/"), Typeflag: kind, Mode: mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
}
