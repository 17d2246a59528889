package helm

import (
	"strings"
	"testing"
)

func TestSourceValidate(t *testing.T) {
	digest := digestOf(nil)
	tests := []struct {
		src Source
		err string
	}{
		{src: DefaultRedis()},
		{src: DefaultIngressNginx()},
		{src: Source{Ref: "oci://localhost:5000/charts/redis", Version: "1.0.0+build.1"}},
		{src: Source{Ref: "oci://registry.example/charts/redis", Digest: digest}},
		{src: Source{Ref: "https://example.com/redis.tgz"}},
		{src: Source{Ref: "testdata/charts/redis"}},
		{src: Source{}, err: "no reference"},
		{src: Source{Ref: "oci://registry.example/charts/redis"}, err: "needs a version or a digest"},
		{src: Source{Ref: "oci://registry.example/charts/redis:1.0.0", Version: "1.0.0"}, err: "apart from the reference"},
		{src: Source{Ref: "oci://registry.example/UPPER", Version: "1.0.0"}, err: "not an oci reference"},
		{src: Source{Ref: "oci://registry.example/charts/redis", Version: "newest"}, err: `version "newest" is not one`},
		{src: Source{Ref: "https://example.com/redis.tgz", Digest: "sha256:abc"}, err: "64 lower case hexadecimal"},
		{src: Source{Ref: "https://example.com/redis.tgz", Digest: strings.Repeat("a", 64)}, err: "is not one"},
		{src: Source{Ref: "https://example.com"}, err: "a host and an archive"},
		{src: Source{Ref: "http://example.com/redis.tgz"}, err: "starts with oci:// or https://"},
		{src: Source{Ref: "bitnami/redis"}, err: "no such file"},
	}
	for _, tt := range tests {
		err := tt.src.Validate()
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%+v: %v, want %q", tt.src, err, tt.err)
		}
	}
}

func TestSourceString(t *testing.T) {
	for ref, want := range map[string]string{
		"https://me:hush@example.com/a/b.tgz?token=hush#x": "https://example.com/a/b.tgz 1.0.0",
		"https://me:h@sh@example.com?q=/hush":              "https://example.com 1.0.0",
		"oci://example.com/charts/redis":                   "oci://example.com/charts/redis 1.0.0",
		"./charts/redis":                                   "./charts/redis 1.0.0",
	} {
		if got := (Source{Ref: ref, Version: "1.0.0"}).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A changed password must not make a source another one, or what was trusted first is forgotten.
func TestSourceKey(t *testing.T) {
	key := Source{Ref: "https://example.com/a.tgz?file=1", Version: "1.0.0"}.key()
	if other := (Source{Ref: "https://me:hush@example.com/a.tgz?file=1", Version: "1.0.0", Digest: digestOf(nil)}).key(); other != key {
		t.Error("the key follows the credentials or the digest")
	}
	for _, other := range []Source{{Ref: "https://example.com/a.tgz?file=2", Version: "1.0.0"}, {Ref: "https://example.com/a.tgz?file=1"}} {
		if other.key() == key {
			t.Errorf("%s %s has the same key", other.Ref, other.Version)
		}
	}
}
