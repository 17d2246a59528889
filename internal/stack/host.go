package stack

import (
	"context"
	"fmt"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// HostTakenError says that another Ingress of the same class serves the host and path that the app is to be
// served under. Which of the two would answer is not defined, and ingress-nginx' admission webhook refuses
// the second.
type HostTakenError struct {
	Host, Path string
	By         kube.Ref  // the other Ingress
	Since      time.Time // when it was made
}

func (e *HostTakenError) Error() string {
	return fmt.Sprintf("host %s with path %s is served by %s already, since %s", e.Host, e.Path, e.By, e.Since.UTC().Format("2006-01-02 15:04 MST"))
}

// Hint says what to do.
func (e *HostTakenError) Hint() string {
	return fmt.Sprintf("choose another host with --host, or delete that Ingress if it is no longer needed: kubectl -n %s delete ingress %s", e.By.Namespace, e.By.Name)
}

// checkNewHost is checkHost where the last run did not serve this host. A user who may not see the Ingresses of all
// namespaces is not stopped.
func (e *Engine) checkNewHost(ctx context.Context, p *plan) error {
	if e.inventory != nil && e.inventory.Complete && e.inventory.Settings[settingHost] == e.cfg.Host {
		return nil
	}
	if err := e.checkHost(ctx, p.app.ingress); !apierrors.IsForbidden(err) {
		return err
	}
	return nil
}

// checkHost looks in all namespaces for Ingresses in the way of ours. What is found is a *HostTakenError.
func (e *Engine) checkHost(ctx context.Context, ours *unstructured.Unstructured) error {
	all, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.IngressKind}, "")
	if err != nil {
		return err
	}
	if taken := hostTaken(ours, all); taken != nil {
		return taken
	}
	return nil
}

// hostTaken finds an Ingress with a host, path and class of ours.
func hostTaken(ours *unstructured.Unstructured, all []unstructured.Unstructured) *HostTakenError {
	wanted := routes(ours)
	for i := range all {
		other := &all[i]
		if kube.RefOf(other).Same(kube.RefOf(ours)) || !sameClass(ours, other) {
			continue
		}
		for route := range routes(other) {
			if wanted[route] {
				return &HostTakenError{Host: route.host, Path: route.path, By: kube.RefOf(other), Since: other.GetCreationTimestamp().Time}
			}
		}
	}
	return nil
}

// route is what an Ingress answers for.
type route struct{ host, path string }

func routes(ingress *unstructured.Unstructured) map[route]bool {
	out := map[route]bool{}
	var typed networkingv1.Ingress
	if runtime.DefaultUnstructuredConverter.FromUnstructured(ingress.Object, &typed) != nil {
		return out
	}
	for _, rule := range typed.Spec.Rules {
		if rule.HTTP == nil {
			continue
		}
		for _, p := range rule.HTTP.Paths {
			path := p.Path
			if path == "" {
				path = "/"
			}
			out[route{rule.Host, path}] = true
		}
	}
	return out
}

// legacyClass is how Ingresses named their class before Kubernetes 1.18; controllers still honour it.
const legacyClass = "kubernetes.io/ingress.class"

func sameClass(a, b *unstructured.Unstructured) bool { return classOf(a) == classOf(b) }

func classOf(ingress *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(ingress.Object, "spec", "ingressClassName")
	if name == "" {
		name = ingress.GetAnnotations()[legacyClass]
	}
	return name
}
