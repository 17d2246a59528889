package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
)

// The kinds that a survey reads beside those that pwdeploy makes.
var (
	ResourceQuotaKind = schema.GroupVersionKind{Version: "v1", Kind: "ResourceQuota"}
	ClusterRoleKind   = schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}
)

// Survey is what stands in a cluster before anything is made in it. A list that could not be read, often
// because the user may not, is empty and says why.
type Survey struct {
	Answer         Answer
	Nodes          Listed[corev1.Node]
	Pods           Listed[corev1.Pod]
	Namespaces     Listed[corev1.Namespace]
	StorageClasses Listed[storagev1.StorageClass]
	IngressClasses Listed[networkingv1.IngressClass]
	Quotas         Listed[corev1.ResourceQuota] // of all namespaces
	ClusterRoles   Listed[rbacv1.ClusterRole]   // those that were asked for by label
}

// Listed is a list, or why there is none.
type Listed[T any] struct {
	Items []T
	Err   error
}

// Answer is how the API server answered a small question.
type Answer struct {
	Took  time.Duration
	Ahead time.Duration // how far this machine's clock is at least ahead of the API server's; behind if negative
	Err   error
}

// Survey looks around, with all reads side by side. roles selects the ClusterRoles by label. It fails in no
// other way than by lists that could not be read.
func (c *Client) Survey(ctx context.Context, roles string) *Survey {
	s := &Survey{}
	// What the API server's cache holds is new enough here, and spares it the way to etcd.
	cached := metav1.ListOptions{ResourceVersion: "0"}
	core := c.typed.CoreV1()
	var group sync.WaitGroup
	group.Go(func() { s.Answer = c.measure(ctx) })
	group.Go(func() {
		s.Nodes = survey(ctx, NodeKind, cached, core.Nodes().List, func(l *corev1.NodeList) []corev1.Node { return l.Items })
	})
	group.Go(func() {
		s.Pods = survey(ctx, PodKind, cached, core.Pods("").List, func(l *corev1.PodList) []corev1.Pod { return l.Items })
	})
	group.Go(func() {
		s.Namespaces = survey(ctx, NamespaceKind, cached, core.Namespaces().List, func(l *corev1.NamespaceList) []corev1.Namespace { return l.Items })
	})
	group.Go(func() {
		s.StorageClasses = survey(ctx, StorageClassKind, cached, c.typed.StorageV1().StorageClasses().List,
			func(l *storagev1.StorageClassList) []storagev1.StorageClass { return l.Items })
	})
	group.Go(func() {
		s.IngressClasses = survey(ctx, IngressClassKind, cached, c.typed.NetworkingV1().IngressClasses().List,
			func(l *networkingv1.IngressClassList) []networkingv1.IngressClass { return l.Items })
	})
	group.Go(func() {
		s.Quotas = survey(ctx, ResourceQuotaKind, metav1.ListOptions{}, core.ResourceQuotas("").List,
			func(l *corev1.ResourceQuotaList) []corev1.ResourceQuota { return l.Items })
	})
	group.Go(func() {
		s.ClusterRoles = survey(ctx, ClusterRoleKind, metav1.ListOptions{LabelSelector: roles}, c.typed.RbacV1().ClusterRoles().List,
			func(l *rbacv1.ClusterRoleList) []rbacv1.ClusterRole { return l.Items })
	})
	group.Wait()
	return s
}

// survey reads one list.
func survey[L, T any](ctx context.Context, kind schema.GroupVersionKind, o metav1.ListOptions,
	list func(context.Context, metav1.ListOptions) (L, error), items func(L) []T) Listed[T] {
	all, err := list(ctx, o)
	if err != nil {
		return Listed[T]{Err: listed(kind, err)}
	}
	return Listed[T]{Items: items(all)}
}

// measure sends one small request, times it and compares the clocks by the answer's Date (RFC 9110, 6.6.1),
// which has whole seconds.
func (c *Client) measure(ctx context.Context) Answer {
	client, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return Answer{Err: err}
	}
	base, _, err := rest.DefaultServerUrlFor(c.config)
	if err != nil {
		return Answer{Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("version").String(), http.NoBody)
	if err != nil {
		return Answer{Err: err}
	}
	begin := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return Answer{Err: withoutURL(err)}
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	a := Answer{Took: time.Since(begin), Err: err}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		a.Ahead = ahead(begin, begin.Add(a.Took), date)
	}
	return a
}

// ahead says how far our clock is ahead of another's, which showed date, cut to the second, at some moment
// between begin and end of ours. As long as both can agree it is 0: a slow answer is no wrong clock.
func ahead(begin, end, date time.Time) time.Duration {
	switch latest := date.Add(time.Second); {
	case latest.Before(begin):
		return begin.Sub(latest)
	case date.After(end):
		return end.Sub(date)
	}
	return 0
}

// Serves reports whether the cluster has an API group, as the controllers that bring kinds of their own do.
func (c *Client) Serves(group string) bool { return c.serves(group) }

// PodRefusedError says that the cluster does not take a pod of a workload: a quota, a limit range, the Pod
// Security level of the namespace or an admission webhook is in the way.
type PodRefusedError struct {
	Owner Ref
	Err   error
}

func (e *PodRefusedError) Error() string {
	return fmt.Sprintf("%s: the cluster does not take its pods: %v", e.Owner, e.Err)
}

// Unwrap gives the cause.
func (e *PodRefusedError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *PodRefusedError) Hint() string {
	return fmt.Sprintf("kubectl -n %s describe resourcequota,limitrange shows what is allowed, kubectl get namespace %s --show-labels its Pod Security level; raise it, or choose another namespace",
		e.Owner.Namespace, e.Owner.Namespace)
}

// TryPod asks by a dry run whether the cluster takes a pod of this template in the owner's namespace, which
// must be there. A refusal is a *PodRefusedError; known is false where the user may not make pods, which a
// controller does for him, so that nothing was asked.
func (c *Client) TryPod(ctx context.Context, owner Ref, template corev1.PodTemplateSpec) (known bool, err error) {
	if ok, err := c.allowed(ctx, Access{Verb: "create", Resource: "pods", Namespace: owner.Namespace}); err != nil {
		return false, failed(owner, err)
	} else if !ok {
		return false, nil
	}
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name, pod.Namespace = owner.Name, owner.Namespace
	pod.Spec.ServiceAccountName = "" // it may not be there yet, and nothing of what is asked for depends on it
	_, err = c.typed.CoreV1().Pods(owner.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: FieldManager})
	switch {
	case err == nil:
		return true, nil
	case apierrors.IsForbidden(err):
		return true, &PodRefusedError{Owner: owner, Err: err}
	}
	return false, failed(owner, err)
}
