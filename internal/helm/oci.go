package helm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"helm.sh/helm/v3/pkg/helmpath"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// Media types of a chart in a registry (helm.sh/docs/topics/registries).
const (
	manifestType    = "application/vnd.oci.image.manifest.v1+json"
	chartConfigType = "application/vnd.cncf.helm.config.v1+json"
	chartLayerType  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// descriptor and ociManifest are the parts of the OCI image specification that a chart needs.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type ociManifest struct {
	Config descriptor   `json:"config"`
	Layers []descriptor `json:"layers"`
}

// chartLayer finds the archive in a manifest.
func chartLayer(data []byte) (descriptor, error) {
	var m ociManifest
	if err := json.Unmarshal(data, &m); err != nil {
		return descriptor{}, fmt.Errorf("its manifest can't be read: %w", err)
	}
	if m.Config.MediaType != chartConfigType {
		return descriptor{}, errors.New("what lies there is not a chart")
	}
	for _, l := range m.Layers {
		if l.MediaType == chartLayerType {
			return l, validDigest(l.Digest)
		}
	}
	return descriptor{}, errors.New("its manifest names no chart archive")
}

// pull fetches the manifest, by digest if that is pinned, and the archive that it names. ORAS does what
// is particular to registries, the tokens; manifest and archive are plain requests like all others, so
// that bounds, retries, time-outs and errors are the same for every source.
func (s *Store) pull(ctx context.Context, src Source) (downloaded, error) {
	ref, err := src.reference()
	if err != nil {
		return downloaded{}, err
	}
	ctx = auth.AppendRepositoryScope(ctx, ref, auth.ActionPull)
	client := s.registryClient()
	base := "https://" + ref.Host() + "/v2/" + ref.Repository
	data, err := s.get(ctx, client, request{url: base + "/manifests/" + ref.Reference, accept: manifestType, limit: maxManifest})
	if err != nil {
		return downloaded{}, err
	}
	got := downloaded{digest: digestOf(data), manifest: data}
	if src.Digest != "" && got.digest != src.Digest {
		return downloaded{}, &DigestError{Want: src.Digest, Got: got.digest}
	}
	layer, err := chartLayer(data)
	if err != nil {
		return downloaded{}, err
	}
	got.archive, err = s.pullArchive(ctx, client, base, layer)
	return got, err
}

func (s *Store) pullArchive(ctx context.Context, client doer, base string, layer descriptor) ([]byte, error) {
	archive, err := s.get(ctx, client, request{url: base + "/blobs/" + layer.Digest, limit: maxArchive})
	if err != nil {
		return nil, err
	}
	if digest := digestOf(archive); digest != layer.Digest {
		return nil, &DigestError{Want: layer.Digest, Got: digest}
	}
	return archive, nil
}

// registryClient authenticates as helm and docker do, with what the user logged in with.
func (s *Store) registryClient() doer {
	client := &auth.Client{Client: s.client(), Cache: auth.NewCache()}
	client.SetUserAgent(userAgent)
	if store := s.credentials(); store != nil {
		find := credentials.Credential(store)
		client.Credential = func(ctx context.Context, host string) (auth.Credential, error) {
			found, err := find(ctx, host)
			if err != nil {
				// A broken credential helper must not stand in the way of a public chart. If the registry
				// wants a login, it will say so.
				s.log.WarnContext(ctx, "the credentials of a registry can't be read", "registry", host, "error", err)
				return auth.EmptyCredential, nil
			}
			return found, nil
		}
	}
	return client
}

// credentials opens helm's file (helm registry login) with docker's behind it.
func (s *Store) credentials() credentials.Store {
	path := os.Getenv("HELM_REGISTRY_CONFIG")
	if path == "" {
		path = helmpath.ConfigPath("registry", "config.json")
	}
	var stores []credentials.Store
	if own, err := credentials.NewStore(path, credentials.StoreOptions{}); err == nil {
		stores = append(stores, own)
	} else {
		s.log.Warn("helm's registry logins can't be read", "file", path, "error", err)
	}
	if docker, err := credentials.NewStoreFromDocker(credentials.StoreOptions{}); err == nil {
		stores = append(stores, docker)
	} else {
		s.log.Warn("docker's registry logins can't be read", "error", err)
	}
	if len(stores) == 0 {
		return nil
	}
	return credentials.NewStoreWithFallbacks(stores[0], stores[1:]...)
}

// doer sends requests: an http.Client, or ORAS's with tokens.
type doer interface {
	Do(req *http.Request) (*http.Response, error)
}
