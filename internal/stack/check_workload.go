package stack

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// workload is something that the plan makes and that runs pods.
type workload struct {
	ref      kube.Ref
	fresh    bool // nothing of it runs yet
	replicas int
	pod      corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim // of each pod
}

// planned gives the workloads and Services of the plan, as far as there is one.
func (l *look) planned(ctx context.Context) []workload {
	var out []workload
	for _, o := range l.plan.app.objects {
		out = appendWorkload(out, o, l.cfg.Namespace, l.inventory == nil)
	}
	releases := []releasePlan{l.plan.redis}
	if l.plan.ingress != nil {
		releases = append(releases, *l.plan.ingress)
	}
	for _, rp := range releases {
		if rp.spec.Chart == nil {
			continue
		}
		objs, err := l.helm.Template(ctx, rp.spec)
		if err != nil {
			l.fail(CheckSources, "rendering of "+rp.spec.Name, err)
			continue
		}
		for _, o := range objs {
			out = appendWorkload(out, o, rp.spec.Namespace, rp.Action == helm.ActionInstall)
			l.noteService(o)
		}
	}
	return out
}

// noteService keeps the class of the load balancer that the controller's Service asks for.
func (l *look) noteService(o *unstructured.Unstructured) {
	if o.GroupVersionKind().GroupKind() != kube.ServiceKind.GroupKind() {
		return
	}
	var service corev1.Service
	if runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &service) != nil || service.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	class := ""
	if service.Spec.LoadBalancerClass != nil {
		class = *service.Spec.LoadBalancerClass
	}
	l.balancer = &class
}

// appendWorkload takes what runs pods; everything else is left out.
func appendWorkload(out []workload, o *unstructured.Unstructured, namespace string, fresh bool) []workload {
	w := workload{ref: kube.RefOf(o), fresh: fresh, replicas: 1}
	if w.ref.Namespace == "" {
		w.ref.Namespace = namespace
	}
	into := func(typed any) bool {
		return runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, typed) == nil
	}
	var replicas *int32
	switch o.GroupVersionKind().GroupKind() {
	case kube.DeploymentKind.GroupKind():
		var d appsv1.Deployment
		if !into(&d) {
			return out
		}
		w.pod, replicas = d.Spec.Template, d.Spec.Replicas
	case kube.StatefulSetKind.GroupKind():
		var s appsv1.StatefulSet
		if !into(&s) {
			return out
		}
		w.pod, replicas, w.claims = s.Spec.Template, s.Spec.Replicas, s.Spec.VolumeClaimTemplates
	case kube.DaemonSetKind.GroupKind():
		var d appsv1.DaemonSet
		if !into(&d) {
			return out
		}
		w.pod = d.Spec.Template
	case kube.JobKind.GroupKind():
		var j batchv1.Job
		if !into(&j) {
			return out
		}
		w.pod = j.Spec.Template
	default:
		return out
	}
	if replicas != nil {
		w.replicas = int(*replicas)
	}
	return append(out, w)
}

// wholePod is the template with what a StatefulSet adds to it: the volumes that its claims become.
func (w *workload) wholePod() corev1.PodTemplateSpec {
	pod := *w.pod.DeepCopy()
	for _, claim := range w.claims {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name},
		}})
	}
	return pod
}

// samplePod is a pod as admission webhooks would be asked about.
func (w *workload) samplePod() *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kube.PodKind)
	o.SetNamespace(w.ref.Namespace)
	o.SetName(w.ref.Name)
	o.SetLabels(w.pod.Labels)
	return o
}

// lasting reports whether its pods stay: a Job's go.
func (w *workload) lasting() bool { return w.ref.Kind != kube.JobKind.Kind }
