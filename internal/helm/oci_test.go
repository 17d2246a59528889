package helm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// noLogins keeps the logins of whoever runs the tests out of them.
func noLogins(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("HELM_REGISTRY_CONFIG", filepath.Join(dir, "helm.json"))
	t.Setenv("DOCKER_CONFIG", dir)
}

func TestPull(t *testing.T) {
	noLogins(t)
	archive := packed(t, "redis")
	manifest := chartManifest(t, archive, nil)
	for name, src := range map[string]Source{
		"by version":            {Version: "23.1.1"},
		"by digest":             {Digest: digestOf(manifest)},
		"by version and digest": {Version: "23.1.1", Digest: digestOf(manifest)},
	} {
		t.Run(name, func(t *testing.T) {
			registry, dir := newRegistry(t, "redis", "23.1.1", manifest, archive), t.TempDir()
			src.Ref = registry.ref("redis")
			chart, err := registry.store(dir).Fetch(t.Context(), src)
			checkChart(t, chart, err, digestOf(manifest), src.Ref)
			if n := registry.total(); n != 4 { // refused, token, manifest, archive
				t.Errorf("%d requests", n)
			}
			checkCached(t, registry.server, dir, src)
		})
	}
}

func TestPullRefuses(t *testing.T) {
	noLogins(t)
	archive := packed(t, "redis")
	manifest := chartManifest(t, archive, nil)
	tests := []struct {
		name     string
		registry func() *fakeRegistry
		src      Source // Ref is filled in
		target   any
		contains string
	}{
		{
			name: "another manifest under the digest", src: Source{Digest: digestOf([]byte("pinned"))}, target: new(*DigestError),
			registry: func() *fakeRegistry {
				r := newRegistry(t, "redis", "23.1.1", manifest, archive)
				r.on("/v2/charts/redis/manifests/"+digestOf([]byte("pinned")), r.withToken(serve(manifest)))
				return r
			},
			contains: "not " + digestOf([]byte("pinned")),
		},
		{
			name: "another archive under the digest", src: Source{Version: "23.1.1"}, target: new(*DigestError),
			registry: func() *fakeRegistry {
				r := newRegistry(t, "redis", "23.1.1", manifest, archive)
				r.on("/v2/charts/redis/blobs/"+digestOf(archive), r.withToken(serve(archive[1:])))
				return r
			},
			contains: "not " + digestOf(archive),
		},
		{
			name: "an image", src: Source{Version: "23.1.1"}, target: new(error),
			registry: func() *fakeRegistry {
				image := chartManifest(t, archive, func(m *ociManifest) { m.Config.MediaType = "application/vnd.oci.image.config.v1+json" })
				return newRegistry(t, "redis", "23.1.1", image, archive)
			},
			contains: "not a chart",
		},
		{
			name: "no archive", src: Source{Version: "23.1.1"}, target: new(error),
			registry: func() *fakeRegistry {
				empty := chartManifest(t, archive, func(m *ociManifest) { m.Layers = nil })
				return newRegistry(t, "redis", "23.1.1", empty, archive)
			},
			contains: "names no chart archive",
		},
		{
			name: "a digest that climbs out of the folder", src: Source{Version: "23.1.1"}, target: new(error),
			registry: func() *fakeRegistry {
				evil := chartManifest(t, archive, func(m *ociManifest) { m.Layers[0].Digest = "sha256:../../../etc/passwd" })
				return newRegistry(t, "redis", "23.1.1", evil, archive)
			},
			contains: "is not one",
		},
		{
			name: "another version under the tag", src: Source{Version: "23.1.2"}, target: new(*VersionError),
			registry: func() *fakeRegistry { return newRegistry(t, "redis", "23.1.2", manifest, archive) },
			contains: "it holds redis 23.1.1, not redis 23.1.2",
		},
		{
			name: "no such version", src: Source{Version: "1.0.0"}, target: new(*StatusError),
			registry: func() *fakeRegistry { return newRegistry(t, "redis", "23.1.1", manifest, archive) },
			contains: "404 Not Found",
		},
		{
			name: "no login", src: Source{Version: "23.1.1"}, target: new(*StatusError),
			registry: func() *fakeRegistry {
				r := newRegistry(t, "redis", "23.1.1", manifest, archive)
				r.user = "me:hush"
				return r
			},
			contains: "401 Unauthorized",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			registry, dir := tt.registry(), t.TempDir()
			tt.src.Ref = registry.ref("redis")
			_, err := registry.store(dir).Fetch(t.Context(), tt.src)
			checkRefused(t, err, tt.target, tt.contains, "")
			if kept := files(t, dir); len(kept) > 0 {
				t.Errorf("kept: %v", kept)
			}
		})
	}
}

func TestPullChecksTheName(t *testing.T) {
	noLogins(t)
	archive := packed(t, "redis")
	registry := newRegistry(t, "valkey", "23.1.1", chartManifest(t, archive, nil), archive)
	_, err := registry.store(t.TempDir()).Fetch(t.Context(), Source{Ref: registry.ref("valkey"), Version: "23.1.1"})
	checkRefused(t, err, new(*VersionError), "it holds redis 23.1.1, not valkey 23.1.1", "")
}

func TestPullRetries(t *testing.T) {
	noLogins(t)
	archive := packed(t, "redis")
	manifest := chartManifest(t, archive, nil)
	registry := newRegistry(t, "redis", "23.1.1", manifest, archive)
	blob := "/v2/charts/redis/blobs/" + digestOf(archive)
	registry.on("/token", status(429, "Retry-After", "0"), status(503), registry.giveToken)
	registry.on(blob, status(502), truncate(archive), registry.withToken(serve(archive)))
	src := Source{Ref: registry.ref("redis"), Version: "23.1.1"}
	chart, err := registry.store(t.TempDir()).Fetch(t.Context(), src)
	checkChart(t, chart, err, digestOf(manifest), src.Ref)
}

func TestPullLogsIn(t *testing.T) {
	archive := packed(t, "redis")
	login := base64.StdEncoding.EncodeToString([]byte("me:hush"))
	for name, file := range map[string]string{"helm": "helm.json", "docker": "config.json"} {
		t.Run(name, func(t *testing.T) {
			noLogins(t)
			registry := newRegistry(t, "redis", "23.1.1", chartManifest(t, archive, nil), archive)
			registry.user = "me:hush"
			config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, registry.registryHost(), login)
			if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), file), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := registry.store(t.TempDir()).Fetch(t.Context(), Source{Ref: registry.ref("redis"), Version: "23.1.1"}); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(registry.tokens, "me:hush") {
				t.Errorf("asked for tokens as %v", registry.tokens)
			}
		})
	}
}

// A docker configuration that names a credential helper which is not there is common: it must not stand
// in the way of a public chart.
func TestPullWithoutTheCredentialHelper(t *testing.T) {
	noLogins(t)
	archive := packed(t, "redis")
	registry := newRegistry(t, "redis", "23.1.1", chartManifest(t, archive, nil), archive)
	for file, config := range map[string]string{"config.json": `{"credsStore":"missing-helper"}`, "helm.json": `{broken`} {
		if err := os.WriteFile(filepath.Join(os.Getenv("DOCKER_CONFIG"), file), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := registry.store(t.TempDir()).Fetch(t.Context(), Source{Ref: registry.ref("redis"), Version: "23.1.1"}); err != nil {
		t.Fatal(err)
	}
}

func TestPullRemembersTheFirstDigest(t *testing.T) {
	noLogins(t)
	archive, dir := packed(t, "redis"), t.TempDir()
	first := chartManifest(t, archive, nil)
	second := chartManifest(t, archive, func(m *ociManifest) { m.Config.Size++ })
	registry := newRegistry(t, "redis", "23.1.1", first, archive)
	src := Source{Ref: registry.ref("redis"), Version: "23.1.1"}
	if _, err := registry.store(dir).Fetch(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(newBlobs(dir).path(digestOf(first))); err != nil {
		t.Fatal(err)
	}
	registry.on("/v2/charts/redis/manifests/23.1.1", registry.withToken(serve(second)))
	_, err := registry.store(dir).Fetch(t.Context(), src)
	var changed *DigestError
	if !errors.As(err, &changed) || !changed.Remembered {
		t.Fatalf("error %v", err)
	}
	// The user's pin has the last word.
	src.Digest = digestOf(second)
	registry.on("/v2/charts/redis/manifests/"+src.Digest, registry.withToken(serve(second)))
	chart, err := registry.store(dir).Fetch(t.Context(), src)
	checkChart(t, chart, err, src.Digest, src.Ref)
}

func TestTagOfAVersion(t *testing.T) {
	ref, err := Source{Ref: "oci://registry.example/charts/redis", Version: "1.0.0+build.1"}.reference()
	if err != nil || ref.Reference != "1.0.0_build.1" {
		t.Errorf("%v, %v", ref, err)
	}
}
