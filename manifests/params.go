package manifests

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/distribution/reference"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/kustomize/api/types"
)

// ParamError says which parameter can't be used, and what it should look like.
type ParamError struct {
	// Param is the parameter in lower case words, such as "redis host".
	Param string
	// Value is what was given.
	Value any
	// Want says what was expected.
	Want string
}

// Error names the parameter, the value and what was expected.
func (e *ParamError) Error() string {
	return fmt.Sprintf("%s %#v: want %s", e.Param, e.Value, e.Want)
}

const (
	wantName      = "a DNS name in lower case, such as demo.pw.test"
	wantLabel     = "at most 63 lower case letters, digits and dashes, with a letter or digit at both ends"
	wantClass     = "the name of an IngressClass, such as nginx"
	wantRedisHost = "a DNS name in lower case or an address, such as redis-master.redis.svc.cluster.local"
	wantPort      = "a port from 1 to 65535"
	wantImage     = "an image such as registry.test:5000/team/crudservice:1.2 or name@sha256:<64 hex digits>"
	defaultTag    = "latest"
)

// Validate reports every parameter that the API server, or kustomize before it, would refuse.
func (p Params) Validate() error {
	_, imageErr := parseImage(p.Image)
	return errors.Join(
		check("overlay", p.Overlay, p.Overlay == OverlayLocal || p.Overlay == OverlayAWS, OverlayLocal+" or "+OverlayAWS),
		check("namespace", p.Namespace, isLabel(p.Namespace), wantLabel),
		check("host", p.Host, isName(p.Host), wantName),
		imageErr,
		check("ingress class", p.IngressClass, isSubdomain(p.IngressClass), wantClass),
		check("ingress namespace", p.IngressNamespace, isLabel(p.IngressNamespace), wantLabel),
		check("redis namespace", p.RedisNamespace, isLabel(p.RedisNamespace), wantLabel),
		check("redis host", p.RedisHost, isName(p.RedisHost) || isAddress(p.RedisHost), wantRedisHost),
		check("redis port", p.RedisPort, len(validation.IsValidPortNum(p.RedisPort)) == 0, wantPort),
		check("replicas", p.Replicas, p.Replicas >= 0, "0 or more"),
	)
}

// check returns a *ParamError unless the value is good.
func check(param string, value any, good bool, want string) error {
	if good {
		return nil
	}
	return &ParamError{Param: param, Value: value, Want: want}
}

func isLabel(s string) bool     { return len(validation.IsDNS1123Label(s)) == 0 }
func isSubdomain(s string) bool { return len(validation.IsDNS1123Subdomain(s)) == 0 }
func isAddress(s string) bool   { return net.ParseIP(s) != nil }

// isName refuses addresses, which are subdomains by their letters: an Ingress' host can't be one.
func isName(s string) bool { return isSubdomain(s) && !isAddress(s) }

// parseImage splits an image reference by the grammar that container runtimes use. The name stays as it was written
// (docker.io is not added), and a reference without a tag and a digest gets the tag that runtimes would assume: without
// one, kustomize keeps the tag that the manifest has.
func parseImage(image string) (types.Image, error) {
	failed := func(why error) (types.Image, error) {
		return types.Image{}, &ParamError{Param: "image", Value: image, Want: fmt.Sprintf("%s (%v)", wantImage, why)}
	}
	// Refuses what the grammar alone lets pass, such as a bare image ID.
	full, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return failed(err)
	}
	if isMisspeltRegistry(reference.Domain(full)) {
		return failed(errUpperCase)
	}
	parsed, err := reference.Parse(image)
	if err != nil {
		return failed(err)
	}
	named, ok := parsed.(reference.Named)
	if !ok {
		return failed(reference.ErrNameEmpty)
	}
	return kustomizeImage(named), nil
}

var errUpperCase = errors.New("repository name must be lower case")

// isMisspeltRegistry tells a first part that the grammar takes for a registry only because of its capitals: kubelets
// refuse such a name.
func isMisspeltRegistry(domain string) bool {
	return !strings.ContainsAny(domain, ".:") && domain != strings.ToLower(domain)
}

func kustomizeImage(named reference.Named) types.Image {
	image := types.Image{Name: baseImage, NewName: named.Name()}
	if tagged, ok := named.(reference.Tagged); ok {
		image.NewTag = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		image.Digest = digested.Digest().String()
	}
	if image.NewTag == "" && image.Digest == "" {
		image.NewTag = defaultTag
	}
	return image
}
