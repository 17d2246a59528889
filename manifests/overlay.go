package manifests

import (
	"encoding/json"
	"fmt"
	"path"

	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/kustomize/kyaml/resid"
)

const (
	// runOverlay is the folder, in memory only, of the overlay that carries a run's parameters.
	runOverlay = "run"
	// baseImage is the image's name as base/deployment.yaml has it.
	baseImage = "pw/crudservice"
	// configFile is the service's configuration file, in the ConfigMap and in base.
	configFile = "service.cfg"
)

// writeOverlay puts the parameters on top of the named overlay as one more overlay, by kustomize's own means, so that
// the result is what somebody would get who wrote these few lines by hand.
func (p Params) writeOverlay(disk filesys.FileSystem) error {
	image, err := parseImage(p.Image)
	if err != nil {
		return err
	}
	if err := disk.WriteFile(path.Join(runOverlay, configFile), p.serviceConfig()); err != nil {
		return err
	}
	patches, err := p.patches()
	if err != nil {
		return err
	}
	return writeYAML(disk, path.Join(runOverlay, "kustomization.yaml"), types.Kustomization{
		TypeMeta:  types.TypeMeta{APIVersion: types.KustomizationVersion, Kind: types.KustomizationKind},
		Resources: []string{"../overlays/" + p.Overlay},
		Namespace: p.Namespace,
		Images:    []types.Image{image},
		Replicas:  []types.Replica{{Name: AppName, Count: int64(p.Replicas)}},
		Patches:   patches,
		ConfigMapGenerator: []types.ConfigMapArgs{{GeneratorArgs: types.GeneratorArgs{
			Name:          ConfigMapName,
			Behavior:      types.BehaviorMerge.String(),
			KvPairSources: types.KvPairSources{FileSources: []string{configFile}},
		}}},
	})
}

// serviceConfig is the service's INI file. The values were validated: none of them can end a quoted string.
func (p Params) serviceConfig() []byte {
	return fmt.Appendf(nil, "[redis]\nhost = \"%s\"\nport = %d\n", p.RedisHost, p.RedisPort)
}

// patches are the parameters that kustomize has no field of its own for. A replace fails where the path is missing, so
// a manifest that moves away from under them is an error and never a parameter without effect.
func (p Params) patches() ([]types.Patch, error) {
	const namespaceName = "/namespaceSelector/matchLabels/kubernetes.io~1metadata.name"
	ingress, err := replace("Ingress",
		operation{"/spec/ingressClassName", p.IngressClass},
		operation{"/spec/rules/0/host", p.Host})
	if err != nil {
		return nil, err
	}
	policy, err := replace("NetworkPolicy",
		operation{"/spec/ingress/0/from/0" + namespaceName, p.IngressNamespace},
		operation{"/spec/egress/0/to/0" + namespaceName, p.RedisNamespace},
		operation{"/spec/egress/0/ports/0/port", p.RedisPort})
	return []types.Patch{ingress, policy}, err
}

// operation is a JSON patch's value for a path.
type operation struct {
	path  string
	value any
}

// MarshalJSON writes the operation as RFC 6902 has it.
func (o operation) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"op": "replace", "path": o.path, "value": o.value})
}

// replace returns a JSON patch of the application's object of that kind.
func replace(kind string, ops ...operation) (types.Patch, error) {
	text, err := json.Marshal(ops)
	target := &types.Selector{ResId: resid.ResId{Gvk: resid.Gvk{Kind: kind}, Name: AppName}}
	return types.Patch{Patch: string(text), Target: target}, err
}
