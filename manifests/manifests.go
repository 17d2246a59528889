// Package manifests is the deployed application as Kubernetes objects: a kustomize base, an overlay for each kind of
// cluster, and Build, which renders one of them with a run's parameters. It is the only place that knows what the
// application's YAML looks like. Everything is embedded: rendering reads no disk and no network.
package manifests

import (
	"embed"
	"fmt"
	"io/fs"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// The names and numbers of the manifests that other packages need. A test holds them to the YAML.
const (
	// AppName names the Deployment, Service, Ingress, PodDisruptionBudget, NetworkPolicy and ServiceAccount.
	AppName = "pw-crud"
	// ContainerName names the service's container in the pod.
	ContainerName = "crudservice"
	// ConfigMapName is the prefix of the ConfigMap's name; a hash of the content follows.
	ConfigMapName = "service-config"
	// PasswordSecret names the Secret that the pods mount and that the manifests leave to whoever deploys them: it
	// has to be in the namespace before the pods can start.
	PasswordSecret = "pw-crud-redis"
	// PasswordKey is the key in PasswordSecret that holds Redis' password.
	PasswordKey = "redis-password"
	// ServicePort is the Service's and the container's port for HTTP.
	ServicePort = 8000
	// MetricsPort is the container's port for Prometheus metrics; no Service and no NetworkPolicy opens it.
	MetricsPort = 9090
	// LabelName is the label, with the value AppName, by which the Service and the rest select the pods.
	LabelName = "app.kubernetes.io/name"
)

// The overlays that Params.Overlay may name.
const (
	OverlayLocal = "local"
	OverlayAWS   = "aws"
)

// Params are what a run may change in the manifests. All of them are applied, so start from Defaults.
type Params struct {
	// Overlay is the kind of cluster: OverlayLocal or OverlayAWS.
	Overlay string
	// Namespace is where the application lives. Its Namespace object is among the manifests.
	Namespace string
	// Host is the DNS name that the Ingress answers for.
	Host string
	// Image is the service's image: a name with an optional registry, and a tag, a digest or both. With neither, the
	// tag is latest.
	Image string
	// IngressClass is the Ingress' class, and IngressNamespace the only namespace that may reach the pods: the one
	// the class' controller runs in.
	IngressClass, IngressNamespace string
	// RedisNamespace is the only namespace, DNS aside, that the pods may reach. RedisHost (a DNS name or an address)
	// and RedisPort are where the service looks for Redis; another value renames the ConfigMap and so rolls the pods.
	RedisNamespace, RedisHost string
	RedisPort                 int
	// Replicas is the number of pods; 0 is allowed and stops the service.
	Replicas int
}

// Defaults returns the parameters that leave the local overlay as it is written.
func Defaults() Params {
	return Params{
		Overlay:          OverlayLocal,
		Namespace:        AppName,
		Host:             "demo.pw.test",
		Image:            "pw/crudservice:latest",
		IngressClass:     "nginx",
		IngressNamespace: "ingress-nginx",
		RedisNamespace:   "redis",
		RedisHost:        "redis-master.redis.svc.cluster.local",
		RedisPort:        6379,
		Replicas:         2,
	}
}

//go:embed base overlays
var embedded embed.FS

// Build renders the overlay with the parameters. Equal parameters give equal objects in equal order: the Namespace
// first, then what others refer to, then those that refer. Every parameter that can't be used is reported at once, each
// as a *ParamError in the joined error.
func Build(p Params) ([]*unstructured.Unstructured, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	disk, err := load(embedded)
	if err != nil {
		return nil, fmt.Errorf("read the embedded manifests: %w", err)
	}
	if err := p.writeOverlay(disk); err != nil {
		return nil, fmt.Errorf("write the parameters as a kustomize overlay: %w", err)
	}
	return render(disk, runOverlay)
}

// load copies the embedded files to a file system that kustomize reads, where more can be added.
func load(files fs.FS) (filesys.FileSystem, error) {
	disk := filesys.MakeFsInMemory()
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		return disk.WriteFile(path, content)
	})
	return disk, err
}

// render is kustomize build, in the order that its command has by default.
func render(disk filesys.FileSystem, dir string) ([]*unstructured.Unstructured, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	built, err := krusty.MakeKustomizer(options).Run(disk, dir)
	if err != nil {
		return nil, fmt.Errorf("render the manifests: %w", err)
	}
	return objects(built)
}

// objects converts by way of JSON, which gives numbers the types that unstructured objects must have.
func objects(built resmap.ResMap) ([]*unstructured.Unstructured, error) {
	out := make([]*unstructured.Unstructured, 0, built.Size())
	for _, r := range built.Resources() {
		text, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", r.CurId(), err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("render %s: %w", r.CurId(), err)
		}
		out = append(out, object)
	}
	return out, nil
}

// writeYAML writes v to path as YAML.
func writeYAML(disk filesys.FileSystem, path string, v any) error {
	text, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return disk.WriteFile(path, text)
}
