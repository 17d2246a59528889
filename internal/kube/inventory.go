package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// InventoryName is the Secret in the app's namespace that records what pwdeploy owns.
const InventoryName = "pwdeploy-inventory"

// inventoryType tells the Secret from the user's own in listings.
const inventoryType corev1.SecretType = "pwdeploy/inventory"

// inventoryKey is where the record stands in the Secret.
const inventoryKey = "inventory.json"

// inventoryVersion is the version of the record's shape. A newer one is refused rather than misread.
const inventoryVersion = 1

// Inventory is the record of what one deployment consists of. It is written before the first change, with
// all that is about to be made, and after the last: a run that is killed leaves nothing unrecorded.
type Inventory struct {
	Version      int               `json:"version"`
	Complete     bool              `json:"complete"` // false while a run is under way or was cut off
	UpdatedAt    time.Time         `json:"updatedAt"`
	Settings     map[string]string `json:"settings,omitempty"` // what the run was asked for: host, image, profile
	Objects      []InventoryObject `json:"objects"`
	Releases     []InventoryChart  `json:"releases"`
	IngressClass string            `json:"ingressClass,omitempty"`
	Revision     int               `json:"revision,omitempty"` // that was deployed last; 0 if none was
	Set          string            `json:"set,omitempty"`      // of that revision
}

// InventoryObject is a reference as it is stored.
type InventoryObject struct {
	Group     string `json:"group,omitempty"`
	Version   string `json:"version"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// InventoryChart is a Helm release that the deployment owns.
type InventoryChart struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Chart     string `json:"chart"`
	Version   string `json:"version"`
	Digest    string `json:"digest"` // of the chart and its values
}

// AddObjects records refs that are not recorded yet.
func (inv *Inventory) AddObjects(refs []Ref) {
	for _, r := range refs {
		o := InventoryObject{Group: r.Group, Version: r.Version, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
		if !slices.Contains(inv.Objects, o) {
			inv.Objects = append(inv.Objects, o)
		}
	}
}

// Refs gives the recorded objects.
func (inv *Inventory) Refs() []Ref {
	refs := make([]Ref, 0, len(inv.Objects))
	for _, o := range inv.Objects {
		refs = append(refs, Ref{
			GroupVersionKind: schema.GroupVersionKind{Group: o.Group, Version: o.Version, Kind: o.Kind},
			Namespace:        o.Namespace, Name: o.Name,
		})
	}
	return refs
}

// Same reports whether both record the same, whenever it was written and whether the run came to its end.
func (inv *Inventory) Same(o *Inventory) bool {
	a, b := *inv, *o
	a.UpdatedAt, a.Complete, a.Version = b.UpdatedAt, b.Complete, b.Version
	one, err := json.Marshal(a)
	if err != nil {
		return false
	}
	two, err := json.Marshal(b)
	return err == nil && bytes.Equal(one, two)
}

func inventoryRef(namespace string) Ref {
	return Ref{GroupVersionKind: SecretKind, Namespace: namespace, Name: InventoryName}
}

// ReadInventory reads the record in namespace, or returns nil if there is none.
func (c *Client) ReadInventory(ctx context.Context, namespace string) (*Inventory, error) {
	secret, err := c.typed.CoreV1().Secrets(namespace).Get(ctx, InventoryName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(inventoryRef(namespace), err)
	}
	var inv Inventory
	if err := json.Unmarshal(secret.Data[inventoryKey], &inv); err != nil {
		return nil, fmt.Errorf("%s, the inventory, is damaged: %w", inventoryRef(namespace), err)
	}
	if inv.Version > inventoryVersion {
		return nil, fmt.Errorf("%s, the inventory, has version %d: it was written by a newer pwdeploy, use that one", inventoryRef(namespace), inv.Version)
	}
	return &inv, nil
}

// WriteInventory stores the record in namespace, which must be there.
func (c *Client) WriteInventory(ctx context.Context, namespace string, inv *Inventory) error {
	inv.Version, inv.UpdatedAt = inventoryVersion, time.Now().UTC().Truncate(time.Second)
	body, err := json.Marshal(inv)
	if err != nil {
		return failed(inventoryRef(namespace), err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: InventoryName, Namespace: namespace,
			Labels: map[string]string{ManagedByLabel: ManagedBy, InstanceLabel: namespace}},
		Type: inventoryType,
		Data: map[string][]byte{inventoryKey: body},
	}
	secrets := c.typed.CoreV1().Secrets(namespace)
	_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: FieldManager})
	if apierrors.IsNotFound(err) {
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: FieldManager})
	}
	if apierrors.IsAlreadyExists(err) { // made between the two by another run
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: FieldManager})
	}
	if err != nil {
		return failed(inventoryRef(namespace), err)
	}
	return nil
}
