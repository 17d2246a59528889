package kube

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	authv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Access is something that a run will do.
type Access struct {
	Verb      string
	Group     string
	Resource  string
	Namespace string // empty: in the whole cluster
}

// String words it as an administrator would search for it: "create ingresses.networking.k8s.io in pw-crud".
func (a Access) String() string {
	name := a.Resource
	if a.Group != "" {
		name += "." + a.Group
	}
	if a.Namespace == "" {
		return a.Verb + " " + name
	}
	return fmt.Sprintf("%s %s in %s", a.Verb, name, a.Namespace)
}

// AccessTo gives the accesses that verbs on an object of this kind need. A kind that the cluster does
// not know is an error.
func (c *Client) AccessTo(gvk schema.GroupVersionKind, namespace string, verbs ...string) ([]Access, error) {
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return nil, fmt.Errorf("the cluster does not know the kind %s: %w", gvk.Kind, err)
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		namespace = ""
	}
	out := make([]Access, 0, len(verbs))
	for _, v := range verbs {
		out = append(out, Access{Verb: v, Group: mapping.Resource.Group, Resource: mapping.Resource.Resource, Namespace: namespace})
	}
	return out, nil
}

// CheckAccess asks the cluster whether the user may do all of wanted (SelfSubjectAccessReview) and returns
// a *DeniedError with what is refused. A cluster administrator is recognized with one request.
func (c *Client) CheckAccess(ctx context.Context, wanted []Access) error {
	all, err := c.allowed(ctx, Access{Verb: "*", Group: "*", Resource: "*"})
	if err != nil {
		return err
	}
	if all {
		return nil
	}
	wanted = distinct(wanted)
	ok := make([]bool, len(wanted))
	var group errgroup.Group
	group.SetLimit(parallelism)
	for i, a := range wanted {
		group.Go(func() error {
			var err error
			ok[i], err = c.allowed(ctx, a)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	denied := &DeniedError{}
	for i, a := range wanted {
		if !ok[i] {
			denied.Denied = append(denied.Denied, a)
		}
	}
	if len(denied.Denied) > 0 {
		return denied
	}
	return nil
}

func (c *Client) allowed(ctx context.Context, a Access) (bool, error) {
	review := &authv1.SelfSubjectAccessReview{Spec: authv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authv1.ResourceAttributes{Verb: a.Verb, Group: a.Group, Resource: a.Resource, Namespace: a.Namespace},
	}}
	answer, err := c.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("permission to %s: %w", a, err)
	}
	return answer.Status.Allowed, nil
}

func distinct(in []Access) []Access {
	seen := map[Access]bool{}
	var out []Access
	for _, a := range in {
		if !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}
