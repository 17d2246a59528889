package lab

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/build"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/image"
)

// The lab's programs by package, besides kube and kwok.
var (
	ingressSources = []string{"cmd/ingress", "internal/ingress", "internal/certgen", "internal/certs"}
	serviceSources = []string{"service"}
)

func (l *Lab) program(name, arch string, sources ...string) build.Program {
	return build.Program{Name: name, Module: l.Source, Package: "./cmd/" + name, Sources: append([]string{"cmd/" + name}, sources...), Arch: arch}
}

func (l *Lab) kube(arch string) build.Program {
	p := l.program("kube", arch)
	p.Version = "k8s.io/kubernetes"
	return p
}

func (l *Lab) kwok(arch string) build.Program {
	return build.Program{Name: "kwok", Module: l.Source, Package: "sigs.k8s.io/kwok/cmd/kwok", Arch: arch}
}

func (l *Lab) service(arch string) build.Program {
	return build.Program{Name: "crudservice", Module: l.Project, Package: "./service", Sources: serviceSources, Arch: arch}
}

// ServiceImage builds the service's image into an archive, without a cluster or a container engine, and returns the
// image's digest.
func (l *Lab) ServiceImage(ctx context.Context, file, reference, arch string) (string, error) {
	if err := l.findSource(); err != nil {
		return "", err
	}
	cache := build.Cache{Dir: l.Cache}
	unlock, err := cache.Lock(ctx, func() { fmt.Fprintf(l.Out, "waiting for another build into %s\n", l.Cache) })
	if err != nil {
		return "", err
	}
	defer unlock()
	program, err := l.service(arch).Build(ctx, cache)
	if err != nil {
		return "", err
	}
	img, err := image.Build(image.Service(program, arch, ""))
	if err != nil {
		return "", err
	}
	if file, err = filepath.Abs(file); err != nil {
		return "", err
	}
	digest, err := image.Write(file, reference, img)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return digest, nil
}
