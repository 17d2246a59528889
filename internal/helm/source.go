package helm

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/Masterminds/semver/v3"
	"oras.land/oras-go/v2/registry"
)

// Source says where a chart comes from and pins what must arrive.
type Source struct {
	// Ref is oci://registry/repository, https://…/chart.tgz, the path of a .tgz, or the path of a chart's
	// folder.
	Ref string
	// Version is the chart's version. An oci Ref without a Digest needs it; elsewhere it may be empty. If
	// it is given, what arrives must have it.
	Version string
	// Digest is "sha256:" and 64 hexadecimal digits: of the OCI manifest for oci, of the archive for https
	// and .tgz. A folder can't have one. Without it, what arrives first is trusted and remembered: see
	// Store.
	Digest string
}

// DefaultRedis is Bitnami's chart of Redis, at the newest version whose source is public.
//
// It is pinned by its version only. Bitnami has published charts anew under the same version, and no two
// independent public places vouch for the digest of this one; a digest that can't be checked would
// either be wrong for everybody or give a false sense of safety. The name and version inside the archive
// are checked, the digest that arrives first is remembered by the Store, and a user who knows it can pin
// it.
func DefaultRedis() Source {
	return Source{Ref: "oci://registry-1.docker.io/bitnamicharts/redis", Version: "23.1.1"}
}

// DefaultIngressNginx is the last chart of ingress-nginx, which was retired in March 2026. The digest is
// the one that stands in the index of https://kubernetes.github.io/ingress-nginx.
func DefaultIngressNginx() Source {
	return Source{
		Ref:     "https://github.com/kubernetes/ingress-nginx/releases/download/helm-chart-4.15.1/ingress-nginx-4.15.1.tgz",
		Version: "4.15.1",
		Digest:  "sha256:3eff0bd18151d6e6b1c441463410571443dda1ac78292cb189346628de784f0c",
	}
}

// kind is how a source is reached.
type kind string

const (
	kindOCI     kind = "oci"
	kindHTTPS   kind = "https"
	kindArchive kind = "archive"
	kindFolder  kind = "folder"
)

// String is the reference without credentials or query, and the version if there is one. It is what
// messages and logs may show.
func (s Source) String() string {
	ref := redact(s.Ref)
	if s.Version == "" {
		return ref
	}
	return ref + " " + s.Version
}

// redact takes away what a URL may hold that nobody else should read: user, password, query and fragment.
func redact(ref string) string {
	scheme, rest, ok := strings.Cut(ref, "://")
	if !ok {
		return ref
	}
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndex(host, "@"); i >= 0 {
		host = host[i+1:]
	}
	if path != "" {
		path = "/" + path
	}
	return scheme + "://" + host + path
}

// Validate says what is wrong with a source before anything is fetched. For a path it looks at the disk.
func (s Source) Validate() error {
	_, err := s.kind()
	return err
}

func (s Source) kind() (kind, error) {
	if s.Ref == "" {
		return "", errors.New("chart: no reference is given")
	}
	if err := s.validatePins(); err != nil {
		return "", err
	}
	scheme, _, isURL := strings.Cut(s.Ref, "://")
	switch {
	case !isURL:
		return s.localKind()
	case scheme == "oci":
		return kindOCI, s.validateOCI()
	case scheme == "https":
		return kindHTTPS, s.validateHTTPS()
	default:
		return "", fmt.Errorf("chart %s: a reference starts with oci:// or https://, or is the path of a .tgz or a folder", s)
	}
}

func (s Source) validatePins() error {
	if s.Version != "" {
		if _, err := semver.NewVersion(s.Version); err != nil {
			return fmt.Errorf("chart %s: version %q is not one: %w", redact(s.Ref), s.Version, err)
		}
	}
	if s.Digest == "" {
		return nil
	}
	if err := validDigest(s.Digest); err != nil {
		return fmt.Errorf("chart %s: %w", s, err)
	}
	return nil
}

func validDigest(digest string) error {
	sum, ok := strings.CutPrefix(digest, "sha256:")
	if _, err := hex.DecodeString(sum); !ok || err != nil || len(sum) != 64 || sum != strings.ToLower(sum) {
		return fmt.Errorf("digest %q is not one: it is sha256: and 64 lower case hexadecimal digits", digest)
	}
	return nil
}

func (s Source) validateOCI() error {
	ref, err := s.reference()
	if err != nil {
		return fmt.Errorf("chart %s: not an oci reference: %w", s, err)
	}
	if ref.Reference == "" {
		return fmt.Errorf("chart %s: an oci reference needs a version or a digest", s)
	}
	return nil
}

// reference gives the registry, repository, and what is asked for there: the digest if there is one, else
// the version as a tag. A tag can't hold the plus sign of a semantic version: Helm writes an underscore
// (helm/helm#10166).
func (s Source) reference() (registry.Reference, error) {
	ref, err := registry.ParseReference(strings.TrimPrefix(s.Ref, "oci://"))
	if err != nil {
		return ref, err
	}
	if ref.Reference != "" {
		return ref, errors.New("give the version and the digest apart from the reference")
	}
	ref.Reference = s.Digest
	if ref.Reference == "" {
		ref.Reference = strings.ReplaceAll(s.Version, "+", "_")
	}
	return ref, nil
}

func (s Source) validateHTTPS() error {
	u, err := url.Parse(s.Ref)
	if err != nil {
		return fmt.Errorf("chart %s: not a URL", s)
	}
	if u.Host == "" || u.Path == "" {
		return fmt.Errorf("chart %s: a URL names a host and an archive", s)
	}
	return nil
}

func (s Source) localKind() (kind, error) {
	info, err := os.Stat(s.Ref)
	if err != nil {
		return "", fmt.Errorf("chart %s: %w", s.Ref, err)
	}
	if !info.IsDir() {
		return kindArchive, nil
	}
	if s.Digest != "" {
		return "", fmt.Errorf("chart %s: a folder can't be pinned by a digest: pack it with helm package", s.Ref)
	}
	if _, err := os.Stat(filepath.Join(s.Ref, "Chart.yaml")); err != nil {
		return "", fmt.Errorf("chart %s: the folder holds no chart: %w", s.Ref, err)
	}
	return kindFolder, nil
}
