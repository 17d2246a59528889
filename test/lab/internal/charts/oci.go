package charts

import (
	"encoding/json"
	"net/http"
	"strings"
)

// The media types of a chart in a registry. Source: helm.sh/helm/v3/pkg/registry/constants.go and the OCI image
// specification.
const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.cncf.helm.config.v1+json"
	contentType  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int    `json:"size"`
}

// Manifest is the chart's manifest in a registry.
func (a Archive) Manifest() ([]byte, error) {
	return json.Marshal(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{
		SchemaVersion: 2, MediaType: manifestType,
		Config: descriptor{configType, digest(a.Metadata), len(a.Metadata)},
		Layers: []descriptor{{contentType, a.Digest(), len(a.Bytes)}},
	})
}

// ManifestDigest is the digest by which a registry names the chart.
func (a Archive) ManifestDigest() (string, error) {
	m, err := a.Manifest()
	return digest(m), err
}

// registry is the read-only part of the OCI distribution specification for one repository with one chart, open to
// everybody. chart is asked at each request.
func registry(repository string, chart func() (Archive, error)) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	})
	serve := func(pattern string, handle func(http.ResponseWriter, *http.Request, Archive)) {
		mux.HandleFunc("GET /v2/"+repository+pattern, func(w http.ResponseWriter, r *http.Request) {
			a, err := chart()
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			handle(w, r, a)
		})
	}
	serve("/tags/list", func(w http.ResponseWriter, _ *http.Request, a Archive) {
		writeJSON(w, map[string]any{"name": repository, "tags": []string{strings.ReplaceAll(a.Version, "+", "_")}})
	})
	serve("/manifests/{reference}", serveManifest)
	serve("/blobs/{digest}", serveBlob)
	return mux
}

func serveManifest(w http.ResponseWriter, r *http.Request, a Archive) {
	manifest, err := a.Manifest()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if ref := r.PathValue("reference"); ref != a.Version && ref != digest(manifest) {
		registryError(w, "MANIFEST_UNKNOWN", "the lab serves "+a.Name+" "+a.Version+" only")
		return
	}
	writeContent(w, manifestType, manifest)
}

func serveBlob(w http.ResponseWriter, r *http.Request, a Archive) {
	switch r.PathValue("digest") {
	case a.Digest():
		writeContent(w, contentType, a.Bytes)
	case digest(a.Metadata):
		writeContent(w, configType, a.Metadata)
	default:
		registryError(w, "BLOB_UNKNOWN", "no such blob")
	}
}

func writeContent(w http.ResponseWriter, mediaType string, content []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Docker-Content-Digest", digest(content))
	write(w, content)
}

func registryError(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	writeJSON(w, map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func writeJSON(w http.ResponseWriter, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	write(w, text)
}
