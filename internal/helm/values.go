package helm

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"os"

	"sigs.k8s.io/yaml"
)

// Profile is the kind of cluster that values are made for.
type Profile string

// The profiles.
const (
	ProfileLocal Profile = "local" // kind, minikube, colima, k3d: one machine, no LoadBalancer needed
	ProfileAWS   Profile = "aws"   // EKS: network load balancer, gp3 volumes
)

// Defaults of the parameters.
const (
	defaultStorageClass      = "gp3"
	defaultIngressClass      = "nginx"
	defaultLoadBalancerClass = "service.k8s.aws/nlb"
)

// RedisParams are the choices that the values of the Redis chart depend on.
type RedisParams struct {
	Profile Profile
	// SecretName and SecretKey name the password. The Secret must be in the release's namespace before
	// the release is installed. The chart would otherwise make a password anew at every rendering.
	SecretName, SecretKey string
	// StorageClass of the volumes where the profile has some. Empty means the profile's own: gp3 on AWS,
	// where EKS has had no default class since 1.30.
	StorageClass string
}

// IngressParams are the choices that the values of the ingress-nginx chart depend on.
type IngressParams struct {
	Profile Profile
	// ClassName of the IngressClass. Empty means nginx.
	ClassName string
	// MakeDefault makes the class the cluster's default one.
	MakeDefault bool
	// LoadBalancerClass of the controller's Service on AWS. Empty means service.k8s.aws/nlb, the AWS load
	// balancer controller; EKS Auto Mode wants eks.amazonaws.com/nlb. It can't be changed afterwards.
	LoadBalancerClass string
}

// RedisValues gives the values of the Redis chart. They are the caller's to change.
func RedisValues(p RedisParams) map[string]any {
	values := profileValues("redis", p.Profile)
	values = mergeValues(values, map[string]any{"auth": map[string]any{
		"existingSecret": p.SecretName, "existingSecretPasswordKey": p.SecretKey,
	}})
	if p.Profile != ProfileAWS {
		return values
	}
	storage := map[string]any{"persistence": map[string]any{"storageClass": or(p.StorageClass, defaultStorageClass)}}
	return mergeValues(values, map[string]any{"master": storage, "replica": storage})
}

// IngressValues gives the values of the ingress-nginx chart. They are the caller's to change.
func IngressValues(p IngressParams) map[string]any {
	class := or(p.ClassName, defaultIngressClass)
	controller := map[string]any{
		"ingressClass":         class,
		"ingressClassResource": map[string]any{"name": class, "default": p.MakeDefault},
	}
	if p.Profile == ProfileAWS {
		controller["service"] = map[string]any{"loadBalancerClass": or(p.LoadBalancerClass, defaultLoadBalancerClass)}
	}
	return mergeValues(profileValues("ingress-nginx", p.Profile), map[string]any{"controller": controller})
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

//go:embed values/*.yaml
var embedded embed.FS

// profileValues lays a profile's file over the common one. A profile without a file has nothing to add.
func profileValues(chart string, profile Profile) map[string]any {
	values := embeddedValues("values/" + chart + ".yaml")
	if profile == "" {
		return values
	}
	return mergeValues(values, embeddedValues("values/"+chart+"-"+string(profile)+".yaml"))
}

// embeddedValues panics on a file that does not parse: it is part of the program, and tests read it.
func embeddedValues(name string) map[string]any {
	data, err := embedded.ReadFile(name)
	if err != nil {
		return map[string]any{}
	}
	values, err := parseValues(data)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", name, err))
	}
	return values
}

// MergeValuesFiles lays the values of files over base, each over the one before, as helm -f does: maps
// are merged, everything else is replaced, and null takes a chart's default away. Unlike Helm it refuses
// a key that stands twice in a map. base is not changed.
func MergeValuesFiles(base map[string]any, files ...string) (map[string]any, error) {
	values := cloneValues(base)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("values file: %w", err) // it names the file
		}
		more, err := parseValues(data)
		if err != nil {
			return nil, fmt.Errorf("values file %s: %w", file, err)
		}
		values = mergeValues(values, more)
	}
	return values, nil
}

// parseValues reads YAML as Helm does: numbers stay as they are written.
func parseValues(data []byte) (map[string]any, error) {
	converted, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, err
	}
	var parsed any
	if err := decodeNumbers(converted, &parsed); err != nil {
		return nil, err
	}
	switch values := parsed.(type) {
	case map[string]any:
		return values, nil
	case nil: // an empty file
		return map[string]any{}, nil
	default:
		return nil, fmt.Errorf("line 1: the file holds %s, not a map of values", kindOf(parsed))
	}
}

func kindOf(v any) string {
	switch v.(type) {
	case []any:
		return "a list"
	case string:
		return "a text"
	case bool:
		return "true or false"
	default:
		return "a number"
	}
}

func decodeNumbers(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	return decoder.Decode(into)
}

// mergeValues lays over on base and leaves both as they are. A null stays: Helm takes the chart's default
// away where it finds one.
func mergeValues(base, over map[string]any) map[string]any {
	merged := maps.Clone(base)
	if merged == nil {
		merged = map[string]any{}
	}
	for key, value := range over {
		below, ok := merged[key].(map[string]any)
		above, both := value.(map[string]any)
		if ok && both {
			merged[key] = mergeValues(below, above)
		} else {
			merged[key] = cloneValue(value)
		}
	}
	return merged
}

// cloneValues copies values, at every depth: Helm's actions write into theirs.
func cloneValues(values map[string]any) map[string]any {
	clone := make(map[string]any, len(values))
	for key, value := range values {
		clone[key] = cloneValue(value)
	}
	return clone
}

func cloneValue(value any) any {
	switch v := value.(type) {
	case map[string]any:
		return cloneValues(v)
	case []any:
		clone := make([]any, 0, len(v))
		for _, item := range v {
			clone = append(clone, cloneValue(item))
		}
		return clone
	default:
		return value
	}
}
