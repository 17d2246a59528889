package image_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/image"
)

func program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "crudservice")
	if err := os.WriteFile(file, []byte("a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

func write(t *testing.T, s image.Spec, reference string) (file, digest string) {
	t.Helper()
	img, err := image.Build(s)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "image.tar")
	if digest, err = image.Write(file, reference, img); err != nil {
		t.Fatal(err)
	}
	return file, digest
}

func TestServiceImage(t *testing.T) {
	source := program(t)
	file, digest := write(t, image.Service(source, "arm64", ""), image.ServiceReference)
	read, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != "arm64" || config.Config.User != "65532:65532" || config.Config.Entrypoint[0] != "/crudservice" {
		t.Errorf("config %+v", config)
	}
	files := map[string]int64{}
	content := mutate.Extract(read)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = h.Mode
	}
	if len(files) != 1 || files["crudservice"] != 0o755 {
		t.Errorf("files %v, want crudservice alone, executable", files)
	}

	_, again := write(t, image.Service(source, "arm64", ""), image.ServiceReference)
	if again != digest {
		t.Errorf("the same input gave %s and %s", digest, again)
	}
	_, stamped := write(t, image.Service(source, "arm64", "e2e"), image.ServiceE2EReference)
	if stamped == digest {
		t.Error("a stamped image has the digest of the plain one")
	}
}

func TestRootUnderFiles(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root.tar")
	f, err := os.Create(root)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "./bin/nginx", Mode: 0o755, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	file, _ := write(t, image.Controller(root, program(t), "amd64"), image.ControllerReference)
	read, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := read.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if len(config.Config.Entrypoint) != 0 || config.Config.Labels[image.StandIn] == "" {
		t.Errorf("config %+v, want no entry point and the label %s", config.Config, image.StandIn)
	}
	if layers, err := read.Layers(); err != nil || len(layers) != 2 {
		t.Errorf("%d layers, %v, want 2", len(layers), err)
	}
}

func TestAliases(t *testing.T) {
	for reference, want := range map[string]int{
		image.RedisReference: 2, image.ControllerReference: 2, image.CertgenReference: 2, image.ServiceReference: 0,
	} {
		if got := image.Aliases(reference); len(got) != want {
			t.Errorf("aliases of %s: %v, want %d", reference, got, want)
		}
	}
}
