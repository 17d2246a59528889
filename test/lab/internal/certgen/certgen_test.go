package certgen_test

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certgen"
)

var quiet = slog.New(slog.DiscardHandler)

func options() certgen.Options {
	return certgen.Options{
		Namespace: "ingress-nginx", SecretName: "admission", CAName: "ca", CertName: "cert", KeyName: "key",
		Host: "hook,hook.ingress-nginx.svc", WebhookName: "admission", PatchValidating: true, FailurePolicy: "Fail",
	}
}

func TestCreate(t *testing.T) {
	client := fake.NewClientset()
	if err := certgen.Create(t.Context(), client, options(), quiet); err != nil {
		t.Fatal(err)
	}
	get := func() *corev1.Secret {
		t.Helper()
		s, err := client.CoreV1().Secrets("ingress-nginx").Get(t.Context(), "admission", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	made := get()
	pair, err := tls.X509KeyPair(made.Data["cert"], made.Data["key"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(made.Data["ca"])
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "hook.ingress-nginx.svc"}); err != nil {
		t.Error(err)
	}
	if err := certgen.Create(t.Context(), client, options(), quiet); err != nil {
		t.Fatal(err)
	}
	if string(get().Data["cert"]) != string(made.Data["cert"]) {
		t.Error("a second create made another certificate")
	}
}

func TestPatch(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "admission", Namespace: "ingress-nginx"}, Data: map[string][]byte{"ca": []byte("authority")}}
	ignore := admissionregistrationv1.Ignore
	hook := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "admission"},
		Webhooks:   []admissionregistrationv1.ValidatingWebhook{{Name: "a", FailurePolicy: &ignore}, {Name: "b"}},
	}
	client := fake.NewClientset(secret, hook)
	if err := certgen.Patch(t.Context(), client, options(), quiet); err != nil {
		t.Fatal(err)
	}
	for _, a := range client.Actions() {
		if a.GetVerb() == "patch" {
			t.Error("the chart's role allows no patch")
		}
	}
	got, err := client.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(t.Context(), "admission", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range got.Webhooks {
		if string(w.ClientConfig.CABundle) != "authority" || *w.FailurePolicy != admissionregistrationv1.Fail {
			t.Errorf("webhook %s: %q %v", w.Name, w.ClientConfig.CABundle, w.FailurePolicy)
		}
	}
}

func TestPatchFails(t *testing.T) {
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "admission", Namespace: "ingress-nginx"}}
	with := func(change func(*certgen.Options)) certgen.Options {
		o := options()
		change(&o)
		return o
	}
	for name, o := range map[string]certgen.Options{
		"no secret":     with(func(o *certgen.Options) { o.SecretName = "other" }),
		"no authority":  with(func(*certgen.Options) {}),
		"nothing to do": with(func(o *certgen.Options) { o.PatchValidating = false }),
	} {
		if err := certgen.Patch(t.Context(), fake.NewClientset(secret), o, quiet); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
