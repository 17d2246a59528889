package kube

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Ref names one object of a cluster. Namespace is empty for cluster-scoped objects.
type Ref struct {
	schema.GroupVersionKind
	Namespace string
	Name      string
}

// RefOf returns the reference of obj.
func RefOf(obj *unstructured.Unstructured) Ref {
	return Ref{GroupVersionKind: obj.GroupVersionKind(), Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// RefsOf returns the references of objs, in their order.
func RefsOf(objs []*unstructured.Unstructured) []Ref {
	refs := make([]Ref, 0, len(objs))
	for _, o := range objs {
		refs = append(refs, RefOf(o))
	}
	return refs
}

// String names the object as people do: "Deployment pw-crud/pw-crud", "Namespace redis".
func (r Ref) String() string {
	if r.Namespace == "" {
		return fmt.Sprintf("%s %s", r.Kind, r.Name)
	}
	return fmt.Sprintf("%s %s/%s", r.Kind, r.Namespace, r.Name)
}

// Same reports whether both name the same object, whatever version they use.
func (r Ref) Same(o Ref) bool {
	return r.GroupKind() == o.GroupKind() && r.Namespace == o.Namespace && r.Name == o.Name
}

// key identifies the object whatever version it is read in.
func (r Ref) key() string {
	return r.GroupKind().String() + "/" + r.Namespace + "/" + r.Name
}

// The kinds that pwdeploy itself makes or looks at.
var (
	NamespaceKind    = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
	SecretKind       = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	ServiceKind      = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	PodKind          = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	PVCKind          = schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"}
	EventKind        = schema.GroupVersionKind{Version: "v1", Kind: "Event"}
	ConfigMapKind    = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	PVKind           = schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolume"}
	QuotaKind        = schema.GroupVersionKind{Version: "v1", Kind: "ResourceQuota"}
	LimitRangeKind   = schema.GroupVersionKind{Version: "v1", Kind: "LimitRange"}
	NodeKind         = schema.GroupVersionKind{Version: "v1", Kind: "Node"}
	DeploymentKind   = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}
	StatefulSetKind  = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"}
	DaemonSetKind    = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "DaemonSet"}
	ReplicaSetKind   = schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "ReplicaSet"}
	JobKind          = schema.GroupVersionKind{Group: "batch", Version: "v1", Kind: "Job"}
	LeaseKind        = schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}
	AutoscalerKind   = schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}
	StorageClassKind = schema.GroupVersionKind{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"}
	IngressKind      = schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"}
	IngressClassKind = schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "IngressClass"}
)
