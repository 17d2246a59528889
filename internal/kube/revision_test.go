package kube

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func object(kind, name string, fields map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name}}}
	for k, v := range fields {
		o.Object[k] = v
	}
	return o
}

// TestRevisionRoundTrip: what is stored comes back, numbers as the API server has them, and no Secret.
func TestRevisionRoundTrip(t *testing.T) {
	kept := object("Service", "app", map[string]any{"spec": map[string]any{"port": int64(8000)}})
	rev := &Revision{
		Number: 3, Status: RevisionPending, StartedAt: time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC), By: "me@here",
		Settings: map[string]string{"image": "pw:1"}, Set: "abc", RollbackTo: 1,
		Releases: []RevisionRelease{{InventoryChart: InventoryChart{Name: "redis", Digest: "d"}, ChartDigest: "c", Revision: 2}},
		Objects:  []*unstructured.Unstructured{kept, object("Secret", "password", map[string]any{"data": map[string]any{"key": "c2VjcmV0"}})},
	}
	secret, err := rev.encode("ns")
	if err != nil {
		t.Fatal(err)
	}
	if secret.Name != "pwdeploy-revision-3" || !Owned(secret, "ns") {
		t.Errorf("got %s, labels %v", secret.Name, secret.Labels)
	}
	got := decodeRevision(3, secret.Data)
	rev.Objects = []*unstructured.Unstructured{kept}
	if diff := cmp.Diff(rev, got); diff != "" {
		t.Errorf("-stored +read:\n%s", diff)
	}
}

func TestRevisionTooLarge(t *testing.T) {
	noise := make([]byte, 2*revisionLimit)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // it must not compress, nothing more
	for i := range noise {
		noise[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[r.IntN(64)]
	}
	rev := &Revision{Number: 1, Status: RevisionDeployed, Objects: []*unstructured.Unstructured{object("ConfigMap", "big", map[string]any{"data": map[string]any{"noise": string(noise)}})}}
	secret, err := rev.encode("ns")
	if err != nil {
		t.Fatal(err)
	}
	got := decodeRevision(1, secret.Data)
	if got.Status != RevisionDeployed || !got.ObjectsLeftOut || len(got.Objects) > 0 {
		t.Errorf("got %+v", got)
	}
}

func TestRevisionUnreadable(t *testing.T) {
	rev := &Revision{Number: 7, Status: RevisionDeployed}
	secret, err := rev.encode("ns")
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]map[string][]byte{
		"nothing":            {},
		"no JSON":            {revisionKey: []byte("{"), revisionObjectsKey: secret.Data[revisionObjectsKey]},
		"no objects":         {revisionKey: secret.Data[revisionKey]},
		"objects cut off":    {revisionKey: secret.Data[revisionKey], revisionObjectsKey: secret.Data[revisionObjectsKey][:10]},
		"of a newer version": {revisionKey: bytes.Replace(secret.Data[revisionKey], []byte(`"version":1`), []byte(`"version":2`), 1), revisionObjectsKey: secret.Data[revisionObjectsKey]},
	} {
		if got := decodeRevision(7, data); got.Number != 7 || got.Status != RevisionUnreadable {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestIsRevision(t *testing.T) {
	for name, want := range map[string]bool{"pwdeploy-revision-12": true, "pwdeploy-revision-": false, "pwdeploy-revision-x": false, "pwdeploy-inventory": false} {
		if got := IsRevision(Ref{GroupVersionKind: SecretKind, Namespace: "ns", Name: name}); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if IsRevision(Ref{GroupVersionKind: ServiceKind, Name: "pwdeploy-revision-1"}) {
		t.Error("a Service is no revision")
	}
	if !strings.HasPrefix(revisionRef("ns", 4).String(), "Secret ns/pwdeploy-revision-4") {
		t.Error(revisionRef("ns", 4))
	}
}
