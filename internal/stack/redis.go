package stack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
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

// findPassword gives the password that is there, or nil if one is to be made. It refuses to make a new one for
// data that an old one protects (bitnami/charts#4369).
func (e *Engine) findPassword(ctx context.Context) ([]byte, error) {
	secret, err := e.kube.Find(ctx, e.passwordRef())
	if err != nil {
		return nil, err
	}
	if secret != nil {
		return secretValue(secret, redisPasswordKey)
	}
	if copied, err := e.copiedPassword(ctx); err != nil || copied != nil {
		return copied, err
	}
	claims, err := e.redisClaims(ctx)
	if err != nil || len(claims) == 0 {
		return nil, err
	}
	lost := &LockedDataError{Secret: e.passwordRef()}
	for _, c := range claims {
		lost.Claims = append(lost.Claims, c.String())
	}
	return nil, lost
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

// copiedPassword is the app's copy of the password, or nil. It is as good as the original where somebody
// deleted that.
func (e *Engine) copiedPassword(ctx context.Context) ([]byte, error) {
	copied, err := e.kube.Find(ctx, kube.RefOf(e.appPassword(nil)))
	if err != nil || copied == nil || !kube.Owned(copied, e.instance()) {
		return nil, err
	}
	return secretValue(copied, manifests.PasswordKey)
}

// secretValue reads a key of a Secret, which must have it.
func secretValue(secret *unstructured.Unstructured, key string) ([]byte, error) {
	encoded, _, _ := unstructured.NestedString(secret.Object, "data", key)
	value, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(value) == 0 {
		return nil, fmt.Errorf("%s: it holds no %s", kube.RefOf(secret), key)
	}
	return value, nil
}

// ensurePassword makes the password once and returns it. A password that is there is never changed.
func (e *Engine) ensurePassword(ctx context.Context) ([]byte, error) {
	password, err := e.copiedPassword(ctx)
	if err != nil {
		return nil, err
	}
	if password == nil {
		if password, err = newPassword(); err != nil {
			return nil, err
		}
	}
	secret := e.secret(e.passwordRef(), redisPasswordKey, password)
	stored, _, err := e.kube.Create(ctx, secret)
	if err != nil {
		return nil, err
	}
	return secretValue(stored, redisPasswordKey)
}

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
