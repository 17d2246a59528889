package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"

	labcharts "github.com/pwdeploy/pwdeploy/test/lab/charts"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/build"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/charts"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/cluster"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/image"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/isolation"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/progress"
)

// Up brings the lab up, or does nothing much when it is up already: charts and images that changed are replaced.
func (l *Lab) Up(ctx context.Context) error {
	if err := l.findSource(); err != nil {
		return err
	}
	if err := l.checkMachine(); err != nil {
		return err
	}
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	p := progress.New(l.Out)
	spec, err := l.up()
	var notUp *NotUpError
	if errors.As(err, &notUp) {
		return l.start(ctx, p)
	}
	if err != nil {
		return err
	}
	return l.refresh(ctx, p, spec)
}

// start brings up a lab where none is, taking away first what a crash may have left.
func (l *Lab) start(ctx context.Context, p *progress.Printer) error {
	start := time.Now()
	p.Line("lab: %s, in %s", l.describe(), l.Dir)
	if err := l.remove(ctx); err != nil {
		return err
	}
	builds, cancel := context.WithTimeout(ctx, l.BuildTimeout)
	defer cancel()
	if err := l.prepareMachine(builds, p); err != nil {
		return err
	}
	spec, err := l.build(builds, p)
	if err != nil {
		return err
	}
	if err := l.boot(ctx, p, spec); err != nil {
		return errors.Join(fmt.Errorf("%w\nthe logs are in %s", err, spec.Path("log")), l.halt(context.WithoutCancel(ctx)))
	}
	p.Line("up after %s", progress.Duration(time.Since(start)))
	l.summary(spec)
	return nil
}

// build makes programs, images and charts, and decides on the lab's shape. Two labs never build at once.
func (l *Lab) build(ctx context.Context, p *progress.Printer) (cluster.Spec, error) {
	unlock, err := l.lockCache(ctx, p)
	if err != nil {
		return cluster.Spec{}, err
	}
	defer unlock()
	if err := l.buildPrograms(ctx, p); err != nil {
		return cluster.Spec{}, err
	}
	spec, err := l.newSpec(ctx)
	if err != nil {
		return spec, err
	}
	return spec, l.write(ctx, p, spec)
}

func (l *Lab) lockCache(ctx context.Context, p *progress.Printer) (func(), error) {
	return build.Cache{Dir: l.Cache}.Lock(ctx, func() { p.Line("  waiting for another build into %s", l.Cache) })
}

// refresh brings a lab that is up to the charts and images that are asked for now.
func (l *Lab) refresh(ctx context.Context, p *progress.Printer, spec cluster.Spec) error {
	if spec.Nodes != l.Nodes && !l.ControlPlane || spec.ControlPlane != l.ControlPlane {
		return fmt.Errorf("the lab in %s is up with another shape (%d nodes, control plane only: %v): take it down first", l.Dir, spec.Nodes, spec.ControlPlane)
	}
	config, err := spec.ClientConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return fmt.Errorf("the lab in %s is up, but its API server isn't ready (see %s): %w", l.Dir, spec.Path("log"), err)
	}
	old, err := spec.LoadImages()
	if err != nil {
		return err
	}
	builds, cancel := context.WithTimeout(ctx, l.BuildTimeout)
	defer cancel()
	unlock, err := l.lockCache(builds, p)
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.write(builds, p, spec); err != nil {
		return err
	}
	images, err := spec.LoadImages()
	if err != nil {
		return err
	}
	for _, i := range images {
		if !slices.ContainsFunc(old, func(o cluster.Image) bool { return o.Name == i.Name && o.Digest == i.Digest }) {
			if err := l.load(ctx, spec, i); err != nil {
				return err
			}
			p.Line("  %-22s loaded again, it changed", i.Name)
		}
	}
	p.Line("lab: already up in %s", l.Dir)
	l.summary(spec)
	return nil
}

func (l *Lab) describe() string {
	if l.ControlPlane {
		return "a Kubernetes control plane whose nodes are played by KWOK"
	}
	return fmt.Sprintf("a real Kubernetes with %d node(s) in network namespaces of its own", l.Nodes)
}

// prepareMachine installs the Debian packages that are missing.
func (l *Lab) prepareMachine(ctx context.Context, p *progress.Printer) error {
	if l.ControlPlane {
		return nil
	}
	missing := build.MissingPackages()
	if len(missing) > 0 {
		err := p.Run("Debian packages", "installing "+strings.Join(missing, " ")+", about a minute", func() (string, error) {
			return "installed " + strings.Join(missing, " "), build.Install(ctx, missing)
		})
		if err != nil {
			return err
		}
	}
	return probe(ctx)
}

// buildPrograms builds what the machine runs, the slowest first.
func (l *Lab) buildPrograms(ctx context.Context, p *progress.Printer) error {
	arch, cache := runtime.GOARCH, build.Cache{Dir: l.Cache}
	programs := []build.Program{l.kube(arch)}
	if l.ControlPlane {
		programs = append(programs, l.kwok(arch))
	} else {
		programs = append(programs, l.program("provisioner", arch))
	}
	for _, program := range programs {
		fresh := program.Fresh(ctx, cache)
		if !fresh {
			if err := l.checkDisk(ctx); err != nil {
				return err
			}
			p.Line("  %-22s %s", program.Name, "building; with a cold Go cache this takes 8 to 16 minutes on 2 cores")
		}
		err := p.Run(program.Name, "building", func() (string, error) {
			_, err := program.Build(ctx, cache)
			if fresh {
				return "built before", err
			}
			return "built", err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) newSpec(ctx context.Context) (cluster.Spec, error) {
	spec := cluster.Spec{Dir: l.Dir, Bin: filepath.Join(l.Cache, "bin-"+runtime.GOARCH), Nodes: l.Nodes, ControlPlane: l.ControlPlane, Ports: cluster.NodePorts}
	var err error
	if spec.Version, err = build.ModuleVersion(ctx, l.Source, "k8s.io/kubernetes"); err != nil {
		return spec, err
	}
	if spec.ControlPlane {
		spec.Nodes = 2
		spec.Ports, err = freePorts()
	} else {
		spec.Index, err = l.chooseIndex()
	}
	if err != nil {
		return spec, err
	}
	for _, dir := range []string{"log", "storage", "bin", "user-cache"} {
		if err := os.MkdirAll(spec.Path(dir), 0o755); err != nil {
			return spec, err
		}
	}
	if err := spec.Save(); err != nil {
		return spec, err
	}
	return spec, spec.WriteIdentities()
}

// chooseIndex takes the index that was asked for, or the first that no other lab on this machine has.
func (l *Lab) chooseIndex() (int, error) {
	if l.Index >= 0 {
		_, err := cluster.NewNetwork(l.Index)
		return l.Index, err
	}
	for i := range cluster.MaxIndex + 1 {
		name := cluster.Spec{Index: i}.Name()
		if !isolation.LinkExists(name) && !(isolation.Cgroup{Name: name}).Exists() {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%d labs are up on this machine: take one down", cluster.MaxIndex+1)
}

// freePorts finds ports on loopback that nobody listens on.
func freePorts() (cluster.Ports, error) {
	var ports cluster.Ports
	for _, port := range []*int{&ports.API, &ports.Etcd, &ports.EtcdPeer, &ports.Charts} {
		listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // listening on loopback doesn't block
		if err != nil {
			return ports, fmt.Errorf("find a free port: %w", err)
		}
		// All stay open until the last is found, so that no two are the same.
		defer listener.Close()
		*port = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// write prepares images and charts, and the env file that names them.
func (l *Lab) write(ctx context.Context, p *progress.Printer, spec cluster.Spec) error {
	var images []cluster.Image
	if !spec.ControlPlane {
		if err := p.Run("images", "building; the first time about a minute", func() (string, error) {
			var err error
			images, err = l.buildImages(ctx)
			return fmt.Sprintf("%d ready", len(images)), err
		}); err != nil {
			return err
		}
	}
	if err := spec.SaveImages(images); err != nil {
		return err
	}
	staged, err := charts.Stage(spec.Path("charts"), l.chartSource())
	if err != nil {
		return err
	}
	return writeEnv(spec, staged)
}

func (l *Lab) chartSource() fs.FS {
	if l.Charts == "" {
		return labcharts.Files
	}
	return os.DirFS(l.Charts)
}

// buildImages writes the archives of all images of the lab, in the order in which a lab needs them.
func (l *Lab) buildImages(ctx context.Context) ([]cluster.Image, error) {
	arch, cache := runtime.GOARCH, build.Cache{Dir: l.Cache}
	programs := map[string]string{}
	for _, p := range []build.Program{l.program("pause", arch), l.program("coredns", arch), l.program("ingress", arch, ingressSources...), l.service(arch)} {
		file, err := p.Build(ctx, cache)
		if err != nil {
			return nil, err
		}
		programs[p.Name] = file
	}
	redis, err := build.Root{Name: "redis", Packages: []string{"redis-server", "redis-tools", "gawk"}}.Build(ctx, cache, arch)
	if err != nil {
		return nil, err
	}
	nginx, err := build.Root{Name: "nginx", Packages: []string{"nginx-light"}}.Build(ctx, cache, arch)
	if err != nil {
		return nil, err
	}
	var images []cluster.Image
	for _, i := range []struct {
		reference string
		spec      image.Spec
	}{
		{cluster.PauseImage, image.Program(programs["pause"], "/pause", arch)},
		{cluster.CoreDNSImage, image.Program(programs["coredns"], "/coredns", arch)},
		{image.RedisReference, image.Redis(redis, arch)},
		{image.CertgenReference, image.Certgen(programs["ingress"], arch)},
		{image.ControllerReference, image.Controller(nginx, programs["ingress"], arch)},
		{image.ServiceReference, image.Service(programs["crudservice"], arch, "")},
		{image.ServiceE2EReference, image.Service(programs["crudservice"], arch, "e2e")},
	} {
		built, err := archive(ctx, cache, i.reference, i.spec)
		if err != nil {
			return nil, err
		}
		images = append(images, built)
	}
	return images, nil
}

// archivesKept is how many versions of an image's archive stay in the cache.
const archivesKept = 4

// archive writes an image into the cache unless its inputs are those of the one that is there.
func archive(ctx context.Context, cache build.Cache, reference string, spec image.Spec) (cluster.Image, error) {
	paths := []string{}
	if spec.Root != "" {
		paths = append(paths, spec.Root+".key")
	}
	words := []string{reference, fmt.Sprintf("%+v", spec.Config), spec.Architecture}
	for _, f := range spec.Files {
		words = append(words, fmt.Sprintf("%+v", f))
		if f.Source != "" {
			paths = append(paths, f.Source+".key")
		}
	}
	key, err := build.Key(words, paths...)
	if err != nil {
		return cluster.Image{}, err
	}
	// With the key in its name, an archive stays what it is while another lab builds another one.
	name := "images/" + strings.NewReplacer("/", "_", ":", "_").Replace(reference)
	file := name + "-" + key[:12] + ".tar"
	_, err = cache.Ensure(ctx, file, key, func(_ context.Context, file string) error {
		built, err := image.Build(spec)
		if err != nil {
			return err
		}
		_, err = image.Write(file, reference, built)
		return err
	})
	err = errors.Join(err, cache.Prune(name+"-*.tar", archivesKept))
	return cluster.Image{
		Name: reference, Aliases: image.Aliases(reference), Archive: cache.Path(file), Digest: key, Note: spec.Config.Labels[image.StandIn],
	}, err
}
