package helm

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
)

// ClientOptions says how a Client reaches a cluster.
type ClientOptions struct {
	// Getter gives the connection, with a default namespace. All getters share one cache of the cluster's
	// kinds.
	Getter func(namespace string) genericclioptions.RESTClientGetter
	// FieldManager is the name under which fields are owned.
	FieldManager string
	// Log gets what Helm says, at debug level. nil: nothing is logged.
	Log *slog.Logger
	// KubeVersion is the cluster's version for Template, such as v1.34.0. Empty means Helm's default. The
	// other methods ask the cluster.
	KubeVersion string
}

// Client plans and carries out releases in one cluster. It is safe for concurrent use; two operations on
// the same release at once are not.
type Client struct {
	options ClientOptions
}

// NewClient makes a Client. It does not talk to the cluster.
func NewClient(o ClientOptions) *Client { return &Client{options: o} }

// Get gives the newest revision of a release, or ErrReleaseNotFound.
func (c *Client) Get(_ context.Context, _, _ string) (*Release, error) { return nil, errors.ErrUnsupported }

// Plan says what Apply would do. A release that is not of the Spec's instance is a *ForeignReleaseError,
// one on which an operation began and did not end a *PendingError.
func (c *Client) Plan(_ context.Context, _ Spec) (Plan, error) { return Plan{}, errors.ErrUnsupported }

// Apply makes the release what the Spec says, and does nothing where it is that already.
func (c *Client) Apply(_ context.Context, _ Spec) (*Release, Action, error) {
	return nil, ActionNone, errors.ErrUnsupported
}

// Uninstall removes a release and its history, and says what its manifest held. timeout bounds each hook.
func (c *Client) Uninstall(_ context.Context, _, _ string, _ time.Duration) (*Release, error) {
	return nil, errors.ErrUnsupported
}

// Objects gives what the manifest of the deployed revision holds, with the namespaces filled in.
func (c *Client) Objects(_ context.Context, _, _ string) ([]*unstructured.Unstructured, error) {
	return nil, errors.ErrUnsupported
}

// Template renders a Spec without a cluster, hooks included.
func (c *Client) Template(_ context.Context, _ Spec) ([]*unstructured.Unstructured, error) {
	return nil, errors.ErrUnsupported
}
