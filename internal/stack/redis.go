package stack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
	"github.com/pwdeploy/pwdeploy/manifests"
)

// redisVolumes selects the claims that the chart's StatefulSets leave behind. They carry the release's
// name whatever the chart's version.
const redisVolumes = "app.kubernetes.io/instance=" + redisRelease + ",app.kubernetes.io/name=redis"

func (e *Engine) redisSpec(chart *helm.Chart) helm.Spec {
	return helm.Spec{
		Name: redisRelease, Namespace: e.cfg.Redis.Namespace, Chart: chart, Instance: e.instance(), HookTimeout: e.timeout(),
		Values: helm.RedisValues(helm.RedisParams{
			Profile: helm.Profile(e.target.Profile), SecretName: redisPasswordSecret, SecretKey: redisPasswordKey, StorageClass: e.cfg.Redis.StorageClass,
		}),
	}
}

func (e *Engine) passwordRef() kube.Ref {
	return kube.Ref{GroupVersionKind: kube.SecretKind, Namespace: e.cfg.Redis.Namespace, Name: redisPasswordSecret}
}

// LockedDataError says that Redis' volumes are there and the password that they were written with is not.
type LockedDataError struct {
	Secret kube.Ref
	Claims []string
}

func (e *LockedDataError) Error() string {
	return fmt.Sprintf("Redis' volumes are there (%s) but %s with their password is not", e.Claims[0], e.Secret)
}

// Hint says what to do.
func (e *LockedDataError) Hint() string {
	return fmt.Sprintf("restore the Secret from a backup, or give the data up: kubectl -n %s delete pvc -l %s", e.Secret.Namespace, redisVolumes)
}

// checkPassword refuses to make a new password for data that an old one protects
// (bitnami/charts#4369).
func (e *Engine) checkPassword(ctx context.Context) error {
	secret, err := e.kube.Find(ctx, e.passwordRef())
	if err != nil || secret != nil {
		return err
	}
	claims, err := e.redisClaims(ctx)
	if err != nil || len(claims) == 0 {
		return err
	}
	lost := &LockedDataError{Secret: e.passwordRef()}
	for _, c := range claims {
		lost.Claims = append(lost.Claims, c.String())
	}
	return lost
}

func (e *Engine) redisClaims(ctx context.Context) ([]kube.Ref, error) {
	items, err := e.kube.List(ctx, kube.Ref{GroupVersionKind: kube.PVCKind, Namespace: e.cfg.Redis.Namespace}, redisVolumes)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	refs := make([]kube.Ref, 0, len(items))
	for i := range items {
		refs = append(refs, kube.RefOf(&items[i]))
	}
	return refs, err
}

// ensurePassword makes the password once and returns it. A password that is there is never changed.
func (e *Engine) ensurePassword(ctx context.Context) ([]byte, error) {
	password, err := newPassword()
	if err != nil {
		return nil, err
	}
	secret := e.secret(e.passwordRef(), redisPasswordKey, password)
	stored, _, err := e.kube.Create(ctx, secret)
	if err != nil {
		return nil, err
	}
	encoded, _, _ := unstructured.NestedString(stored.Object, "data", redisPasswordKey)
	password, err = base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(password) == 0 {
		return nil, fmt.Errorf("%s: %w", e.passwordRef(), errNoPassword)
	}
	return password, nil
}

var errNoPassword = errors.New("it holds no " + redisPasswordKey)

// passwordBytes is the entropy of the password; in base64url it has no character that a shell, a URL or
// redis.conf could take for something else.
const passwordBytes = 24

func newPassword() ([]byte, error) {
	raw := make([]byte, passwordBytes)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("make a password: %w", err)
	}
	return []byte(base64.RawURLEncoding.EncodeToString(raw)), nil
}

// appPassword is the app's copy: pods can only mount Secrets of their own namespace.
func (e *Engine) appPassword(password []byte) *unstructured.Unstructured {
	ref := kube.Ref{GroupVersionKind: kube.SecretKind, Namespace: e.cfg.Namespace, Name: manifests.PasswordSecret}
	return e.secret(ref, manifests.PasswordKey, password)
}

func (e *Engine) secret(ref kube.Ref, key string, value []byte) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{
		"type": "Opaque",
		"data": map[string]any{key: base64.StdEncoding.EncodeToString(value)},
	}}
	o.SetGroupVersionKind(ref.GroupVersionKind)
	o.SetNamespace(ref.Namespace)
	o.SetName(ref.Name)
	kube.MarkOwned(o, e.instance())
	return o
}
