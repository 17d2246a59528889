package kube

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// claimProblem says why a claim is not bound, as far as the claim itself tells.
func claimProblem(claim *unstructured.Unstructured) *Problem {
	phase, _, _ := unstructured.NestedString(claim.Object, "status", "phase")
	if phase == string(corev1.ClaimBound) {
		return nil
	}
	class, found, _ := unstructured.NestedString(claim.Object, "spec", "storageClassName")
	if !found {
		return &Problem{Ref: RefOf(claim), Reason: "NoStorageClass", Message: "it names no StorageClass and the cluster has no default one",
			Hint: "install a provisioner and mark a StorageClass as default, or name one in redis' values"}
	}
	return &Problem{Ref: RefOf(claim), Reason: "VolumePending", Message: fmt.Sprintf("no volume of StorageClass %q is bound yet", class),
		Hint: fmt.Sprintf("kubectl describe pvc -n %s %s shows what the provisioner says", claim.GetNamespace(), claim.GetName())}
}

// mountPatience is how long a volume may fail to mount: the kubelet tries again after half a second at first,
// and what a volume is made of may be applied beside the pod.
const mountPatience = 20 * time.Second

// unmounted is a volume that the node can't mount. One whose ConfigMap or Secret is missing waits in vain.
func (p *podView) unmounted(problem *Problem) {
	problem.Hint = "the node can't mount a volume of the pod: the text says which and why; it tries again by itself"
	if missing := p.missingSources(); missing != "" {
		problem.Hint, problem.Final, problem.Patience = missing, true, mountPatience
	}
}

// unattached is a volume that can't be attached to the node, most often because another node still has it.
func (p *podView) unattached(problem *Problem) {
	problem.Hint = fmt.Sprintf("the volume can't be attached to node %s: if another node still has it, it comes free when the pod there is gone, or after six minutes if that node is lost", p.pod.Spec.NodeName)
}

// wanted is a ConfigMap or Secret that a pod can't do without, and the keys that it needs of it.
type wanted struct {
	ref  Ref
	keys []string
	why  string
}

// missingSources names the ConfigMap, Secret or key that the pod needs and that is not there, or nothing if all
// is there or nobody may look.
func (p *podView) missingSources() string {
	for _, w := range p.sources() {
		found := p.askOne(w.ref)
		if !found.known {
			continue
		}
		if len(found.objs) == 0 {
			return fmt.Sprintf("%s is missing, which %s needs: create it, or run pwdeploy up again if it belongs to the deployment", w.ref, w.why)
		}
		for _, key := range w.keys {
			if !hasKey(found.objs[0], key) {
				return fmt.Sprintf("%s has no key %q, which %s needs: add it", w.ref, key, w.why)
			}
		}
	}
	return ""
}

func hasKey(obj *unstructured.Unstructured, key string) bool {
	return slices.ContainsFunc([]string{"data", "binaryData"}, func(field string) bool {
		data, _, _ := unstructured.NestedMap(obj.Object, field)
		_, ok := data[key]
		return ok
	})
}

// sources are the ConfigMaps and Secrets without which the pod's containers aren't made.
func (p *podView) sources() []wanted {
	var all []wanted
	for _, v := range p.pod.Spec.Volumes {
		all = append(all, p.volumeSources(v)...)
	}
	for _, list := range [][]corev1.Container{p.pod.Spec.InitContainers, p.pod.Spec.Containers} {
		for i := range list {
			all = append(all, p.containerSources(&list[i])...)
		}
	}
	return all
}

func (p *podView) volumeSources(v corev1.Volume) []wanted {
	why := "volume " + v.Name
	var all []wanted
	if c := v.ConfigMap; c != nil {
		all = p.want(all, ConfigMapKind, c.Name, c.Optional, why, itemKeys(c.Items)...)
	}
	if s := v.Secret; s != nil {
		all = p.want(all, SecretKind, s.SecretName, s.Optional, why, itemKeys(s.Items)...)
	}
	if v.Projected == nil {
		return all
	}
	for _, source := range v.Projected.Sources {
		if c := source.ConfigMap; c != nil {
			all = p.want(all, ConfigMapKind, c.Name, c.Optional, why, itemKeys(c.Items)...)
		}
		if s := source.Secret; s != nil {
			all = p.want(all, SecretKind, s.Name, s.Optional, why, itemKeys(s.Items)...)
		}
	}
	return all
}

func itemKeys(items []corev1.KeyToPath) []string {
	keys := make([]string, 0, len(items))
	for _, i := range items {
		keys = append(keys, i.Key)
	}
	return keys
}

func (p *podView) containerSources(c *corev1.Container) []wanted {
	why := "container " + c.Name
	var all []wanted
	for _, e := range c.EnvFrom {
		if m := e.ConfigMapRef; m != nil {
			all = p.want(all, ConfigMapKind, m.Name, m.Optional, why)
		}
		if s := e.SecretRef; s != nil {
			all = p.want(all, SecretKind, s.Name, s.Optional, why)
		}
	}
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			continue
		}
		if m := e.ValueFrom.ConfigMapKeyRef; m != nil {
			all = p.want(all, ConfigMapKind, m.Name, m.Optional, why, m.Key)
		}
		if s := e.ValueFrom.SecretKeyRef; s != nil {
			all = p.want(all, SecretKind, s.Name, s.Optional, why, s.Key)
		}
	}
	return all
}

func (p *podView) want(all []wanted, kind schema.GroupVersionKind, name string, optional *bool, why string, keys ...string) []wanted {
	if optional != nil && *optional {
		return all
	}
	return append(all, wanted{ref: Ref{GroupVersionKind: kind, Namespace: p.pod.Namespace, Name: name}, keys: keys, why: why})
}
