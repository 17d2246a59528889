package kube

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// revisionPrefix starts the names of the Secrets that hold revisions; the number follows.
	revisionPrefix = "pwdeploy-revision-"
	// revisionLabel selects them.
	revisionLabel = "pwdeploy/revision"
	// revisionType tells them from the user's own Secrets in listings.
	revisionType corev1.SecretType = "pwdeploy/revision"
	// revisionKey holds the Revision without its objects, revisionObjectsKey the objects, as gzip'd JSON.
	revisionKey        = "revision.json"
	revisionObjectsKey = "objects.json.gz"
	// revisionVersion is the version of their shape. A newer one is listed, and not used.
	revisionVersion = 1
	// revisionLimit bounds the objects of a revision: a Secret holds 1 MiB, base64 not counted.
	revisionLimit = 900 << 10
)

// RevisionStatus says what became of a revision.
type RevisionStatus string

// The statuses.
const (
	RevisionPending  RevisionStatus = "pending"  // a run is under way, or was killed
	RevisionDeployed RevisionStatus = "deployed" // it was complete, and answered
	RevisionFailed   RevisionStatus = "failed"   // it did not come to its end, and the run said so
	// RevisionUnreadable is the status of a record that is damaged, or was written by a newer pwdeploy.
	RevisionUnreadable RevisionStatus = "unreadable"
)

// Revision is one set of objects and releases that a deployment was made of, and how it came about. A set
// has the same revision however many runs it takes to get there.
type Revision struct {
	Version      int               `json:"version"` // of the record's shape
	Number       int               `json:"number"`
	Status       RevisionStatus    `json:"status"`
	StartedAt    time.Time         `json:"startedAt"`
	EndedAt      time.Time         `json:"endedAt,omitzero"`
	By           string            `json:"by"`                   // user@host of the machine that pwdeploy ran on
	User         string            `json:"user,omitempty"`       // who that is to the cluster
	Pwdeploy     string            `json:"pwdeploy"`             // the version that made it
	ConfigFile   string            `json:"configFile,omitempty"` // path; empty if there was none
	Settings     map[string]string `json:"settings,omitempty"`   // what the run was asked for: host, image, profile
	IngressClass string            `json:"ingressClass,omitempty"`
	Releases     []RevisionRelease `json:"releases"`
	RollbackTo   int               `json:"rollbackTo,omitempty"` // it went back to what that revision was
	Set          string            `json:"set"`                  // digest of objects and releases: equal ones deploy the same
	// ObjectsLeftOut says that the objects did not fit: nothing can go back to this revision.
	ObjectsLeftOut bool `json:"objectsLeftOut,omitempty"`

	// Objects are the app's, as they were applied. Secrets are never among them.
	Objects []*unstructured.Unstructured `json:"-"`
}

// RevisionRelease is a Helm release of a revision.
type RevisionRelease struct {
	InventoryChart
	ChartDigest string `json:"chartDigest,omitempty"` // of the chart alone, as it can be pinned
	Revision    int    `json:"revision,omitempty"`    // Helm's; 0 if it did not get that far
}

func revisionRef(namespace string, number int) Ref {
	return Ref{GroupVersionKind: SecretKind, Namespace: namespace, Name: revisionPrefix + strconv.Itoa(number)}
}

// IsRevision reports whether ref is a Secret that holds a revision.
func IsRevision(ref Ref) bool {
	number, ok := strings.CutPrefix(ref.Name, revisionPrefix)
	_, err := strconv.Atoi(number)
	return ok && err == nil && ref.GroupKind() == SecretKind.GroupKind()
}

// WriteRevision stores rev in namespace, under rev.Number if that is free. If it is not, the newest revision
// is written over if it is of the same set, be it that a run was killed or failed or that the inventory is
// gone, and otherwise rev gets the next number.
func (c *Client) WriteRevision(ctx context.Context, namespace string, rev *Revision) error {
	err := c.createRevision(ctx, namespace, rev)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	all, err := c.ReadRevisions(ctx, namespace)
	if err != nil || len(all) == 0 {
		return err
	}
	newest := all[0]
	if rev.Number = newest.Number; newest.Set == rev.Set {
		rev.ObjectsLeftOut = newest.ObjectsLeftOut
		return c.EndRevision(ctx, namespace, rev)
	}
	rev.Number++
	return c.createRevision(ctx, namespace, rev)
}

func (c *Client) createRevision(ctx context.Context, namespace string, rev *Revision) error {
	ref := revisionRef(namespace, rev.Number)
	secret, err := rev.encode(namespace)
	if err != nil {
		return failed(ref, err)
	}
	if _, err := c.typed.CoreV1().Secrets(namespace).Create(ctx, secret, metav1.CreateOptions{FieldManager: FieldManager}); err != nil {
		return failed(ref, err)
	}
	return nil
}

// EndRevision writes what became of a revision. Its objects stay as they were stored.
func (c *Client) EndRevision(ctx context.Context, namespace string, rev *Revision) error {
	ref := revisionRef(namespace, rev.Number)
	head, err := json.Marshal(rev)
	if err != nil {
		return failed(ref, err)
	}
	patch, err := json.Marshal(map[string]any{"data": map[string][]byte{revisionKey: head}})
	if err != nil {
		return failed(ref, err)
	}
	_, err = c.typed.CoreV1().Secrets(namespace).Patch(ctx, ref.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
	if err != nil {
		return failed(ref, err)
	}
	return nil
}

// ReadRevision reads one revision, or returns nil if there is none of that number. Revision number
// Inventory.Revision is the one that was deployed last: its Objects are what the app's objects should be.
func (c *Client) ReadRevision(ctx context.Context, namespace string, number int) (*Revision, error) {
	ref := revisionRef(namespace, number)
	secret, err := c.typed.CoreV1().Secrets(namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(ref, err)
	}
	return decodeRevision(number, secret.Data), nil
}

// ReadRevisions reads the revisions in namespace, the newest first. One that can't be read is listed as
// RevisionUnreadable.
func (c *Client) ReadRevisions(ctx context.Context, namespace string) ([]*Revision, error) {
	selector := fmt.Sprintf("%s=%s,%s=%s,%s", ManagedByLabel, ManagedBy, InstanceLabel, namespace, revisionLabel)
	list, err := c.typed.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, failed(listOf(revisionRef(namespace, 0)), err)
	}
	var all []*Revision
	for _, secret := range list.Items {
		number, err := strconv.Atoi(strings.TrimPrefix(secret.Name, revisionPrefix))
		if err == nil {
			all = append(all, decodeRevision(number, secret.Data))
		}
	}
	slices.SortFunc(all, func(a, b *Revision) int { return b.Number - a.Number })
	return all, nil
}

// DeleteRevision removes a revision; it is no error if it is not there.
func (c *Client) DeleteRevision(ctx context.Context, namespace string, number int) error {
	_, err := c.Delete(ctx, revisionRef(namespace, number), "")
	return err
}

// encode makes the Secret. Secrets of the app are left out, whoever put them among the objects.
func (rev *Revision) encode(namespace string) (*corev1.Secret, error) {
	rev.Version = revisionVersion
	kept := slices.DeleteFunc(slices.Clone(rev.Objects), func(o *unstructured.Unstructured) bool {
		return o.GroupVersionKind().GroupKind() == SecretKind.GroupKind()
	})
	body, err := json.Marshal(kept)
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{}
	if packed := pack(body); len(packed) <= revisionLimit {
		data[revisionObjectsKey] = packed
	} else {
		rev.ObjectsLeftOut = true
	}
	if data[revisionKey], err = json.Marshal(rev); err != nil {
		return nil, err
	}
	number := strconv.Itoa(rev.Number)
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: revisionPrefix + number, Namespace: namespace,
			Labels: map[string]string{ManagedByLabel: ManagedBy, InstanceLabel: namespace, revisionLabel: number}},
		Type: revisionType,
		Data: data,
	}, nil
}

func pack(body []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(body) // a buffer takes all
	_ = w.Close()
	return out.Bytes()
}

// decodeRevision reads what encode wrote. The number is the Secret's name, which can't be damaged.
func decodeRevision(number int, data map[string][]byte) *Revision {
	rev := &Revision{}
	err := json.Unmarshal(data[revisionKey], rev)
	if err == nil && rev.Version <= revisionVersion && !rev.ObjectsLeftOut {
		rev.Objects, err = unpack(data[revisionObjectsKey])
	}
	if err != nil || rev.Version > revisionVersion {
		return &Revision{Number: number, Status: RevisionUnreadable}
	}
	rev.Number = number
	return rev
}

func unpack(packed []byte) ([]*unstructured.Unstructured, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	const most = 32 << 20 // what little packed bytes may become
	body, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, err
	}
	if len(body) > most {
		return nil, errors.New("the objects are too large")
	}
	var objs []*unstructured.Unstructured
	return objs, json.Unmarshal(body, &objs)
}

// WhoAmI is the cluster's name for the user (SelfSubjectReview), or empty if it does not say.
func (c *Client) WhoAmI(ctx context.Context) string {
	answer, err := c.typed.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		c.log.DebugContext(ctx, "the cluster does not say who the user is", "error", err)
		return ""
	}
	return answer.Status.UserInfo.Username
}
