// Package certgen makes the certificate of an admission webhook and tells the API server to trust it: the two commands
// of kube-webhook-certgen that the ingress-nginx chart runs as hooks.
package certgen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certs"
)

// lifetime is that of the certificates: the original makes them for a hundred years, and nothing renews them.
const lifetime = 100 * 365 * 24 * time.Hour

// Options are the flags of the original.
type Options struct {
	Namespace, SecretName string
	// CAName, CertName and KeyName are the Secret's keys.
	CAName, CertName, KeyName string
	// Host is the names of the webhook's server, separated by commas.
	Host string
	// WebhookName is the name of the configurations to patch.
	WebhookName                    string
	PatchValidating, PatchMutating bool
	FailurePolicy                  string
}

// Create makes the Secret with authority, certificate and key, unless it is there.
func Create(ctx context.Context, client kubernetes.Interface, o Options, log *slog.Logger) error {
	secrets := client.CoreV1().Secrets(o.Namespace)
	_, err := secrets.Get(ctx, o.SecretName, metav1.GetOptions{})
	if err == nil {
		log.Info("the secret is there already", "secret", o.Namespace+"/"+o.SecretName)
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("get the secret %s/%s: %w", o.Namespace, o.SecretName, err)
	}
	ca, err := certs.NewAuthority("lab-webhook-ca", lifetime)
	if err != nil {
		return err
	}
	hosts := strings.Split(o.Host, ",")
	pair, err := ca.Issue(certs.Request{CommonName: hosts[0], Hosts: hosts, Lifetime: lifetime})
	if err != nil {
		return err
	}
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: o.SecretName, Namespace: o.Namespace},
		Data:       map[string][]byte{o.CAName: ca.Cert, o.CertName: pair.Cert, o.KeyName: pair.Key},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create the secret %s/%s: %w", o.Namespace, o.SecretName, err)
	}
	log.Info("made the secret", "secret", o.Namespace+"/"+o.SecretName, "host", o.Host)
	return nil
}

// Patch writes the Secret's authority, and a failure policy where one is given, into the webhook configurations. It
// gets and updates them: the chart's role allows no patch.
func Patch(ctx context.Context, client kubernetes.Interface, o Options, log *slog.Logger) error {
	if !o.PatchValidating && !o.PatchMutating {
		return errors.New("nothing to patch: both --patch-validating and --patch-mutating are off")
	}
	secret, err := client.CoreV1().Secrets(o.Namespace).Get(ctx, o.SecretName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get the secret %s/%s: %w", o.Namespace, o.SecretName, err)
	}
	ca := secret.Data[o.CAName]
	if len(ca) == 0 {
		return fmt.Errorf("the secret %s/%s has no key %q", o.Namespace, o.SecretName, o.CAName)
	}
	if o.PatchValidating {
		if err := patchValidating(ctx, client, o, ca); err != nil {
			return fmt.Errorf("the validating webhook configuration %s: %w", o.WebhookName, err)
		}
	}
	if o.PatchMutating {
		if err := patchMutating(ctx, client, o, ca); err != nil {
			return fmt.Errorf("the mutating webhook configuration %s: %w", o.WebhookName, err)
		}
	}
	log.Info("patched", "webhook", o.WebhookName)
	return nil
}

func patchValidating(ctx context.Context, client kubernetes.Interface, o Options, ca []byte) error {
	api := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	c, err := api.Get(ctx, o.WebhookName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = ca
		setPolicy(&c.Webhooks[i].FailurePolicy, o)
	}
	_, err = api.Update(ctx, c, metav1.UpdateOptions{})
	return err
}

func patchMutating(ctx context.Context, client kubernetes.Interface, o Options, ca []byte) error {
	api := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	c, err := api.Get(ctx, o.WebhookName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = ca
		setPolicy(&c.Webhooks[i].FailurePolicy, o)
	}
	_, err = api.Update(ctx, c, metav1.UpdateOptions{})
	return err
}

func setPolicy(policy **admissionregistrationv1.FailurePolicyType, o Options) {
	if o.FailurePolicy != "" {
		p := admissionregistrationv1.FailurePolicyType(o.FailurePolicy)
		*policy = &p
	}
}
