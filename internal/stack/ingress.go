package stack

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// nginxController is what ingress-nginx writes into its IngressClasses, whoever installed it.
const nginxController = "k8s.io/ingress-nginx"

// controllerPods selects ingress-nginx' controller pods: the chart's labels, which minikube's addon has too.
const controllerPods = "app.kubernetes.io/name=ingress-nginx,app.kubernetes.io/component=controller"

// controller is the ingress controller that serves the app.
type controller struct {
	class          string
	namespace      string
	foreign        bool   // somebody else installed it: it is used and never changed
	implementation string // what the class of a foreign one names
}

// findController looks for an ingress controller that is there already. Ours is told by its release's
// label; any other that serves the wanted class, or is an ingress-nginx, is reused.
func (e *Engine) findController(ctx context.Context) (controller, error) {
	own := controller{class: e.cfg.Ingress.ClassName, namespace: e.cfg.Ingress.Namespace}
	release, err := e.ownRelease(ctx, own.namespace, ingressRelease)
	if err != nil {
		return controller{}, err
	}
	classes, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.IngressClassKind}, "")
	if err != nil {
		return controller{}, err
	}
	if release != nil {
		return own, checkClass(classes, own)
	}
	class := chooseClass(classes, own.class)
	if class == nil {
		return own, nil
	}
	return e.foreignController(ctx, class)
}

// chooseClass prefers the class that is asked for; any class of ingress-nginx will do.
func chooseClass(classes []unstructured.Unstructured, wanted string) *unstructured.Unstructured {
	var other *unstructured.Unstructured
	for i := range classes {
		c := &classes[i]
		if c.GetName() == wanted {
			return c
		}
		name, _, _ := unstructured.NestedString(c.Object, "spec", "controller")
		if name == nginxController && other == nil {
			other = c
		}
	}
	return other
}

// ClassTakenError says that the class which our controller shall serve belongs to somebody else's.
type ClassTakenError struct{ Class string }

func (e *ClassTakenError) Error() string {
	return fmt.Sprintf("IngressClass %s belongs to another controller than pwdeploy's", e.Class)
}

// Hint says what to do.
func (e *ClassTakenError) Hint() string {
	return "name another class (ingress.className), or run pwdeploy down first: the next up then uses that controller"
}

// checkClass refuses to let our controller take over a class of somebody else's.
func checkClass(classes []unstructured.Unstructured, own controller) error {
	for i := range classes {
		marks := classes[i].GetAnnotations()
		ours := marks[helm.ReleaseNameAnnotation] == ingressRelease && marks[helm.ReleaseNamespaceAnnotation] == own.namespace
		if classes[i].GetName() == own.class && !ours {
			return &ClassTakenError{Class: own.class}
		}
	}
	return nil
}

func (e *Engine) foreignController(ctx context.Context, class *unstructured.Unstructured) (controller, error) {
	c := controller{class: class.GetName(), namespace: class.GetAnnotations()[helm.ReleaseNamespaceAnnotation], foreign: true}
	c.implementation, _, _ = unstructured.NestedString(class.Object, "spec", "controller")
	if c.namespace == "" && c.implementation == nginxController {
		pods, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.PodKind}, controllerPods)
		if err != nil && !apierrors.IsForbidden(err) {
			return controller{}, err
		}
		if len(pods) > 0 {
			c.namespace = pods[0].GetNamespace()
		}
	}
	if c.namespace != "" {
		return c, nil
	}
	c.namespace = e.cfg.Ingress.Namespace
	if c.namespace == config.Default().Ingress.Namespace {
		e.events.warn(Ingress, fmt.Sprintf("class %s is served by somebody else's controller in an unknown namespace: set ingress.namespace to it, or the app's NetworkPolicy keeps it out", c.class))
	}
	return c, nil
}

func (e *Engine) ingressSpec(chart *helm.Chart) helm.Spec {
	params := helm.IngressParams{Profile: helm.Profile(e.target.Profile), ClassName: e.cfg.Ingress.ClassName, MakeDefault: e.cfg.Ingress.DefaultClass}
	if e.target.Distribution == "eks-auto" {
		params.LoadBalancerClass = "eks.amazonaws.com/nlb"
	}
	return helm.Spec{
		Name: ingressRelease, Namespace: e.cfg.Ingress.Namespace, Chart: chart, Instance: e.instance(), HookTimeout: e.timeout(),
		Values: helm.IngressValues(params),
	}
}

// WebhookError says that the API server does not take the Ingress because the admission webhook of the
// ingress controller does not answer.
type WebhookError struct {
	Ref  kube.Ref
	Dead *kube.DeadWebhookError // the webhook that nothing answers, where one was found
	Err  error                  // the API server's own words
}

func (e *WebhookError) Error() string {
	if e.Dead != nil {
		return fmt.Sprintf("%s can't be applied: %v", e.Ref, e.Dead)
	}
	return fmt.Sprintf("%s can't be applied yet: %v", e.Ref, e.Err)
}

// Unwrap gives the cause.
func (e *WebhookError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *WebhookError) Hint() string {
	if e.Dead != nil {
		return e.Dead.Hint()
	}
	return "kubectl get validatingwebhookconfigurations shows whose webhook it is; one left over from a deleted controller has to be deleted"
}

// Between two questions whether the webhook answers: it starts listening a moment after the pod is ready.
const (
	webhookFirstPause = 100 * time.Millisecond
	webhookLastPause  = 2 * time.Second
)

// webhookPrompt tells a webhook that is not there yet, which is usual at first, from one that does not answer.
const webhookPrompt = time.Second

// awaitWebhook returns when the API server, and with it every admission webhook for Ingresses, takes the
// app's Ingress. It asks by a dry run, the only proof that the whole way works: readiness, CA bundle and
// endpoints can all be there while the API server still can't reach the webhook (ingress-nginx#5401).
func (e *Engine) awaitWebhook(ctx, waitCtx context.Context, ingress *kube.Trial) error {
	var failure *WebhookError
	for wait := webhookFirstPause; ; wait = min(2*wait, webhookLastPause) {
		begin := time.Now()
		err := e.kube.DryRun(ctx, ingress)
		if ctx.Err() != nil && failure != nil { // the time was up while the webhook was asked again
			return failure
		}
		if err == nil || !webhookMayRecover(err) {
			return err
		}
		failure = &WebhookError{Ref: kube.RefOf(ingress.Object), Err: err}
		if wait == webhookFirstPause && time.Since(begin) < webhookPrompt {
			e.events.progress(App, "the Ingress waits for the controller's admission webhook")
		} else {
			failure.Dead = e.deadWebhook(ctx, ingress.Object)
			if e.leftover(failure.Dead) {
				return failure
			}
			e.events.emit(App, Problem, failure.Error(), failure.Hint())
		}
		select {
		case <-waitCtx.Done():
			if ctx.Err() == nil {
				return errGivenUp
			}
			return failure
		case <-time.After(wait):
		}
	}
}

// deadWebhook finds a webhook that nothing answers and that stands in the way of an object, or nil. Where the user may
// not look, the API server's own words have to do.
func (e *Engine) deadWebhook(ctx context.Context, obj *unstructured.Unstructured) *kube.DeadWebhookError {
	dead, _ := e.kube.DeadWebhooks(ctx, obj)
	for i := range dead {
		if dead[i].Blocks {
			return &dead[i]
		}
	}
	return nil
}

// leftover tells a webhook that waiting does not bring back. What our own controller's lacks may be on its way.
func (e *Engine) leftover(dead *kube.DeadWebhookError) bool {
	return dead != nil && dead.Leftover() && dead.Service.Namespace != e.cfg.Ingress.Namespace
}

// webhookMayRecover tells the API server's "failed calling webhook", an internal error or a time-out, from
// a webhook that answered no.
func webhookMayRecover(err error) bool {
	return apierrors.IsInternalError(err) || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsServiceUnavailable(err) || apierrors.IsTooManyRequests(err)
}
