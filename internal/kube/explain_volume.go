package kube

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// volumePatience is how long a volume that nobody will make is waited for: whoever installs a provisioner beside
// pwdeploy is done by then.
const volumePatience = 30 * time.Second

// selectedNode is the annotation by which the scheduler tells a provisioner where the volume is needed.
const selectedNode = "volume.kubernetes.io/selected-node"

// unbound is the problem of a claim that the pod needs, or of the volume that one is bound to.
func (p *podView) unbound() *Problem {
	for _, volume := range p.pod.Spec.Volumes {
		var name string
		switch {
		case volume.PersistentVolumeClaim != nil:
			name = volume.PersistentVolumeClaim.ClaimName
		case volume.Ephemeral != nil:
			name = p.pod.Name + "-" + volume.Name
		default:
			continue
		}
		ref := Ref{GroupVersionKind: PVCKind, Namespace: p.pod.Namespace, Name: name}
		claim := p.object(ref)
		if claim == nil {
			return &Problem{Ref: ref, Reason: "VolumeClaimMissing", Message: fmt.Sprintf("%s needs it for volume %s, and it is not there", p.ref, volume.Name),
				Final: true, Patience: volumePatience, Hint: "create the claim, or run pwdeploy up again if it belongs to the deployment"}
		}
		if problem := claimProblem(p.view, claim); problem != nil {
			return problem
		}
		if problem := p.outOfReach(claim); problem != nil {
			return problem
		}
	}
	return nil
}

// claimProblem says why a claim is not bound, or nil.
func claimProblem(v *view, claim *unstructured.Unstructured) *Problem {
	problem := &Problem{Ref: RefOf(claim)}
	phase, _, _ := unstructured.NestedString(claim.Object, "status", "phase")
	class, found, _ := unstructured.NestedString(claim.Object, "spec", "storageClassName")
	switch {
	case claim.GetDeletionTimestamp() != nil:
		problem.Reason, problem.Message = "VolumeClaimTerminating", "it is being deleted, and no pod may use it any more"
		problem.Hint = "it goes when the last pod that uses it is gone; what needs it gets a new one then"
	case phase == string(corev1.ClaimBound):
		return nil
	case phase == string(corev1.ClaimLost):
		problem.Reason, problem.Message, problem.Final = "VolumeLost", "the volume that it was bound to is gone, and the data on it with it", true
		problem.Hint = fmt.Sprintf("restore the PersistentVolume, or give the data up: kubectl delete pvc -n %s %s, then run pwdeploy up again", claim.GetNamespace(), claim.GetName())
	case !found:
		return noClass(v, problem)
	default:
		return pendingClaim(v, claim, class, problem)
	}
	return problem
}

// noClass is a claim that leaves the StorageClass to the cluster, which has no default one.
func noClass(v *view, problem *Problem) *Problem {
	problem.Reason, problem.Message = "NoStorageClass", "it names no StorageClass and the cluster has no default one"
	problem.Final, problem.Patience = true, volumePatience
	problem.Hint = "install a provisioner and mark a StorageClass as default, or name one in redis' values"
	classes := v.ask(StorageClassKind, "")
	var names []string
	for _, class := range classes.objs {
		if class.GetAnnotations()[defaultClass] == "true" { // the claim gets it in a moment
			problem.Final, problem.Usual = false, true
		}
		names = append(names, class.GetName())
	}
	if len(names) > 0 {
		slices.Sort(names)
		problem.Hint = fmt.Sprintf("mark a StorageClass as default (there are %s), or name one in redis' values", strings.Join(names, ", "))
	}
	return problem
}

// defaultClass is the annotation that marks the default StorageClass.
const defaultClass = "storageclass.kubernetes.io/is-default-class"

// pendingClaim is a claim of a StorageClass for which there is no volume yet. The provisioner speaks by events.
func pendingClaim(v *view, claim *unstructured.Unstructured, class string, problem *Problem) *Problem {
	problem.Reason, problem.Message = "VolumePending", fmt.Sprintf("no volume of StorageClass %q is bound yet", class)
	problem.Hint = fmt.Sprintf("kubectl describe pvc -n %s %s shows what the provisioner says", claim.GetNamespace(), claim.GetName())
	failed := lastEvent(v, claim, "", "ProvisioningFailed", "FailedBinding", "VolumeMismatch")
	found := v.askOne(Ref{GroupVersionKind: StorageClassKind, Name: class})
	switch {
	case class == "":
		problem.Message = "it wants no StorageClass, and no PersistentVolume that is there already fits it"
		problem.Hint = "create a PersistentVolume of its size and access mode, or name a StorageClass"
	case found.known && len(found.objs) == 0:
		problem.Reason, problem.Message = "StorageClassMissing", fmt.Sprintf("it names StorageClass %q, which does not exist", class)
		problem.Final, problem.Patience = true, volumePatience
		problem.Hint = "kubectl get storageclass lists those that do: name one of them in redis' values, or install its provisioner. The claim keeps the name: delete it (it holds no data yet)"
		return problem
	case failed != nil:
		problem.Reason = failed.Reason
		problem.Hint = "the provisioner of StorageClass " + class + " says why; it tries again by itself"
	case waitsForConsumer(claim, found):
		return nil // that is how the class works: the pod comes first
	case lastEvent(v, claim, "", "ExternalProvisioning") != nil:
		problem.Hint = fmt.Sprintf("the provisioner of StorageClass %s does not answer: look whether its controller runs (kubectl get pods -A), a CSI driver for one", class)
		problem.Usual = true
	default:
		problem.Usual = true
	}
	if failed != nil {
		problem.Message = failed.Message
	}
	return problem
}

// waitsForConsumer tells a claim for which no volume is made before a pod has been given a node.
func waitsForConsumer(claim *unstructured.Unstructured, class answer) bool {
	if claim.GetAnnotations()[selectedNode] != "" || len(class.objs) == 0 {
		return false
	}
	mode, _, _ := unstructured.NestedString(class.objs[0].Object, "volumeBindingMode")
	return mode == string(storagev1.VolumeBindingWaitForFirstConsumer)
}

// outOfReach is a volume that can only be used on nodes which are not there, or don't take pods: one of a node's
// own disks, or of a zone that has no node left.
func (p *podView) outOfReach(claim *unstructured.Unstructured) *Problem {
	name, _, _ := unstructured.NestedString(claim.Object, "spec", "volumeName")
	if name == "" {
		return nil
	}
	ref := Ref{GroupVersionKind: PVKind, Name: name}
	found, nodes := p.askOne(ref), p.ask(NodeKind, "")
	if !found.known || !nodes.known {
		return nil
	}
	problem := &Problem{Ref: RefOf(claim), Reason: "VolumeLost", Message: fmt.Sprintf("it is bound to %s, which is gone", ref), Final: true, Patience: volumePatience,
		Hint: "restore the PersistentVolume, or give the data up by deleting the claim, then run pwdeploy up again"}
	if len(found.objs) == 0 {
		return problem
	}
	var volume corev1.PersistentVolume
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.objs[0].Object, &volume)
	if err != nil || volume.Spec.NodeAffinity == nil {
		return nil
	}
	want := ""
	for _, node := range nodesOf(nodes.objs) {
		if want = unmatchedTerms(volume.Spec.NodeAffinity.Required, &node); want == "" {
			return nil
		}
	}
	problem.Reason, problem.Patience = "VolumeOutOfReach", schedulePatience
	problem.Message = fmt.Sprintf("its volume %s can only be used where %s, and no such node is there", name, want)
	problem.Hint = "bring that node or zone back, or give the data up by deleting the claim, then run pwdeploy up again"
	return problem
}

// mountPatience is how long a volume may fail to mount: the kubelet tries again after half a second at first,
// and what a volume is made of may be applied beside the pod.
const mountPatience = 20 * time.Second

// unmounted is a volume that the node can't mount. One whose ConfigMap or Secret is missing waits in vain.
func (p *podView) unmounted(problem *Problem) {
	problem.Hint = "the node can't mount a volume of the pod: the text says which and why; it tries again by itself"
	if missing, _ := p.missingSources(); missing != "" {
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

// missingSources names the ConfigMap, Secret or key that the pod needs and that is not there; known without one means
// that all is there.
func (p *podView) missingSources() (missing string, known bool) {
	known = true
	for _, w := range p.sources() {
		found := p.askOne(w.ref)
		if !found.known {
			known = false
			continue
		}
		if len(found.objs) == 0 {
			return fmt.Sprintf("%s is missing, which %s needs: create it, or run pwdeploy up again if it belongs to the deployment", w.ref, w.why), true
		}
		for _, key := range w.keys {
			if !hasKey(found.objs[0], key) {
				return fmt.Sprintf("%s has no key %q, which %s needs: add it", w.ref, key, w.why), true
			}
		}
	}
	return "", known
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
