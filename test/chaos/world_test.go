package chaos

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/test/harness"
	"github.com/pwdeploy/pwdeploy/test/snapshot"
)

// world is what a deployment left in the cluster, with what differs from one deployment to the next taken out: names
// that a test chose, the password, and what the cluster hands out or numbers by itself. Two deployments that went the
// same way, however often they were cut off, have the same world.
func (l *life) world(t *testing.T) snapshot.Snapshot {
	t.Helper()
	taken, err := snapshot.Take(t.Context(), harness.Admin(t).Config, false)
	if err != nil {
		t.Fatal(err)
	}
	var ours []*unstructured.Unstructured
	w := worldOf{life: l, out: snapshot.Snapshot{}, pods: map[string]int{}, newest: map[string]numbered{}}
	for _, key := range slices.Sorted(maps.Keys(taken)) {
		o := &unstructured.Unstructured{}
		if err := json.Unmarshal([]byte(taken[key]), &o.Object); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if l.isOurs(o, taken[key]) {
			ours = append(ours, o)
			l.learn(o)
		}
	}
	for _, o := range ours {
		w.add(t, o)
	}
	for owner, n := range w.pods {
		w.put(t, "Pods of "+owner, n)
	}
	for what, last := range w.newest {
		w.put(t, what, last.status)
	}
	l.addLeases(t, w)
	return w.out
}

// isOurs tells what this deployment made or changed from what others on the same control plane did.
func (l *life) isOurs(o *unstructured.Unstructured, text string) bool {
	if o.GetKind() == "PersistentVolume" { // the test's
		return false
	}
	if ns := o.GetNamespace(); ns != "" {
		return slices.Contains(l.namespaces(), ns)
	}
	return strings.Contains(text, l.base) || l.own && strings.HasPrefix(o.GetName(), "ingress-nginx")
}

// worldOf is a world that is being put together.
type worldOf struct {
	life   *life
	out    snapshot.Snapshot
	pods   map[string]int // by owner
	newest map[string]numbered
}

// numbered is the last of several records.
type numbered struct {
	number int
	status string
}

func (w worldOf) add(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	kind, _, _ := unstructured.NestedString(o.Object, "type")
	switch {
	case o.GetKind() == "Pod": // their names are made up
		w.pods[ownerOf(o)]++
	case o.GetKind() == "ControllerRevision", o.GetKind() == "IPAddress": // as many as there were changes; what the cluster handed out
	case kind == "helm.sh/release.v1":
		w.addNewest(t, o, "release "+o.GetLabels()["name"], o.GetLabels()["version"], o.GetLabels()["status"])
	case kind == "pwdeploy/revision":
		record := decode(t, o, "revision.json")
		w.addNewest(t, o, "revisions", fmt.Sprint(record["number"]), fmt.Sprint(record["status"]))
	case kind == "pwdeploy/inventory":
		record := decode(t, o, "inventory.json")
		delete(record, "updatedAt")
		delete(record, "set") // a digest, of the names too
		releases, _ := record["releases"].([]any)
		for _, r := range releases {
			if release, ok := r.(map[string]any); ok {
				delete(release, "digest") // the names are in it
			}
		}
		w.put(t, keyOf(o), record)
	default:
		withoutChance(o)
		w.put(t, keyOf(o), o.Object)
	}
}

func keyOf(o *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", o.GetKind(), o.GetNamespace(), o.GetName())
}

func ownerOf(o *unstructured.Unstructured) string {
	if owner := metav1.GetControllerOf(o); owner != nil {
		return fmt.Sprintf("%s %s/%s", owner.Kind, o.GetNamespace(), owner.Name)
	}
	return "nobody in " + o.GetNamespace()
}

// addNewest keeps how the last of numbered records stands. How many there are depends on the number of runs.
func (w worldOf) addNewest(t *testing.T, o *unstructured.Unstructured, what, number, status string) {
	t.Helper()
	key, n := what+" in "+o.GetNamespace(), 0
	if _, err := fmt.Sscan(number, &n); err != nil {
		t.Fatalf("%s: number %q: %v", keyOf(o), number, err)
	}
	if n >= w.newest[key].number {
		w.newest[key] = numbered{n, status}
	}
}

func decode(t *testing.T, secret *unstructured.Unstructured, key string) map[string]any {
	t.Helper()
	encoded, _, _ := unstructured.NestedString(secret.Object, "data", key)
	text, err := base64.StdEncoding.DecodeString(encoded)
	record := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &record)
	}
	if err != nil {
		t.Fatalf("%s: %v", keyOf(secret), err)
	}
	return record
}

// withoutChance takes away what the cluster chose.
func withoutChance(o *unstructured.Unstructured) {
	for _, path := range [][]string{
		{"spec", "clusterIP"}, {"spec", "clusterIPs"}, {"spec", "healthCheckNodePort"}, {"spec", "volumeName"}, // Services and claims
	} {
		unstructured.RemoveNestedField(o.Object, path...)
	}
	withoutWebhookAddress(o)
	ports, found, _ := unstructured.NestedSlice(o.Object, "spec", "ports")
	for _, p := range ports {
		if port, ok := p.(map[string]any); ok {
			delete(port, "nodePort")
		}
	}
	if found {
		_ = unstructured.SetNestedSlice(o.Object, ports, "spec", "ports") // it was one
	}
	owners := o.GetOwnerReferences()
	for i := range owners {
		owners[i].UID = ""
	}
	o.SetOwnerReferences(owners)
}

// withoutWebhookAddress takes away where webhooks lead, and the one of the test, which plays the controller.
func withoutWebhookAddress(o *unstructured.Unstructured) {
	webhooks, found, _ := unstructured.NestedSlice(o.Object, "webhooks")
	webhooks = slices.DeleteFunc(webhooks, func(w any) bool {
		webhook, _ := w.(map[string]any)
		delete(webhook, "clientConfig")
		delete(webhook, "matchConditions")
		name, _ := webhook["name"].(string)
		return strings.HasPrefix(name, harness.PlayedWebhook)
	})
	if found {
		_ = unstructured.SetNestedSlice(o.Object, webhooks, "webhooks") // it was one
	}
}

func (w worldOf) put(t *testing.T, key string, content any) {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	key = w.life.anonymous(key)
	for w.out[key] != "" { // two that differ in a hash only
		key += " (another)"
	}
	w.out[key] = w.life.anonymous(string(text))
}

// learn notes the hashes in an object's name, which differ as the names that are hashed do.
func (l *life) learn(o *unstructured.Unstructured) {
	if hash := o.GetLabels()["pod-template-hash"]; o.GetKind() == "ReplicaSet" && hash != "" {
		l.hashes[hash] = "HASH OF " + kube.FirstImage(o)
	}
	if hash, ok := strings.CutPrefix(o.GetName(), "service-config-"); o.GetKind() == "ConfigMap" && ok {
		l.hashes[hash] = "HASH"
	}
}

// anonymous puts fixed words in place of the names that this test chose, and of the password.
func (l *life) anonymous(text string) string {
	words := []string{l.base, "SITE"}
	if l.site.Controller != "" {
		words = append(words, l.site.Controller, "CONTROLLER")
	}
	for hash, word := range l.hashes {
		words = append(words, hash, word)
	}
	if l.password != "" {
		words = append(words, base64.StdEncoding.EncodeToString([]byte(l.password)), "PASSWORD")
	}
	return strings.NewReplacer(words...).Replace(text)
}

// addLeases adds the locks of runs: none is left when a run has ended well. One of a run that was killed counts until it
// expires: a run with nothing to do needs no lock, and leaves it there. Leases are no part of a snapshot.
func (l *life) addLeases(t *testing.T, w worldOf) {
	t.Helper()
	for _, ns := range l.namespaces() {
		leases, err := harness.Admin(t).CoordinationV1().Leases(ns).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, lease := range leases.Items {
			if lease.Spec.RenewTime == nil || time.Since(lease.Spec.RenewTime.Time) < kube.LeaseDuration {
				w.put(t, fmt.Sprintf("Lease %s/%s", ns, lease.Name), "there")
			}
		}
	}
}
