package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// flags are those of every program: no cgo, so that it runs in an empty image, and no paths of this machine.
var flags = []string{"-trimpath", "-buildvcs=false"}

// Program is a Go program of a module on this machine.
type Program struct {
	// Name is its file name in the cache.
	Name string
	// Module is the folder of the module, Package what to build there.
	Module, Package string
	// Sources are files and folders of the module which, with go.mod and go.sum, make up its inputs.
	Sources []string
	// Version is a module whose version is linked in as Kubernetes' own, or empty.
	Version string
	// Arch is Go's name of the architecture to build for.
	Arch string
}

// key is a digest of everything that the program is made from.
func (p Program) key(ctx context.Context) (string, error) {
	version, err := goCommand(ctx, p.Module, nil, "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	paths := []string{filepath.Join(p.Module, "go.mod"), filepath.Join(p.Module, "go.sum")}
	for _, source := range p.Sources {
		paths = append(paths, filepath.Join(p.Module, source))
	}
	return Key(append([]string{version, p.Package, p.Version, p.Arch}, flags...), paths...)
}

// Fresh says whether the cache has the program as it would be built now.
func (p Program) Fresh(ctx context.Context, cache Cache) bool {
	key, err := p.key(ctx)
	return err == nil && cache.Has(p.file(), key)
}

// Build makes the program unless the cache has it, and returns its file.
func (p Program) Build(ctx context.Context, cache Cache) (string, error) {
	key, err := p.key(ctx)
	if err != nil {
		return "", err
	}
	_, err = cache.Ensure(ctx, p.file(), key, p.build)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	return cache.Path(p.file()), nil
}

func (p Program) file() string { return filepath.Join("bin-"+p.Arch, p.Name) }

func (p Program) build(ctx context.Context, file string) error {
	link, err := p.linkFlags(ctx)
	if err != nil {
		return err
	}
	args := append([]string{"build"}, flags...)
	args = append(args, "-ldflags="+link, "-o", file, p.Package)
	_, err = goCommand(ctx, p.Module, []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + p.Arch}, args...)
	return err
}

// linkFlags strips the program and tells Kubernetes' components their version: an API server that calls itself
// v0.0.0-master is refused by charts that ask for one.
func (p Program) linkFlags(ctx context.Context) (string, error) {
	link := "-s -w"
	if p.Version == "" {
		return link, nil
	}
	version, err := ModuleVersion(ctx, p.Module, p.Version)
	if err != nil {
		return "", err
	}
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) != 3 {
		return "", fmt.Errorf("the version %q of %s isn't one", version, p.Version)
	}
	for name, value := range map[string]string{"gitVersion": version, "gitMajor": parts[0], "gitMinor": parts[1], "gitTreeState": "clean", "gitCommit": "0000000"} {
		link += " -X k8s.io/component-base/version." + name + "=" + value
	}
	return link, nil
}

// ModuleVersion is the version of a module that another one uses.
func ModuleVersion(ctx context.Context, module, path string) (string, error) {
	return goCommand(ctx, module, nil, "list", "-m", "-f", "{{.Version}}", path)
}

func goCommand(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	var out, problem bytes.Buffer
	c.Stdout, c.Stderr = &out, &problem
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("go %s in %s: %w\n%s", args[0], dir, err, bytes.TrimSpace(problem.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}
