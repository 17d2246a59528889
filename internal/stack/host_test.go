package stack

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func parsed(t *testing.T, text string) unstructured.Unstructured {
	t.Helper()
	var o unstructured.Unstructured
	if err := yaml.UnmarshalStrict([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	return o
}

// ingressOf is an Ingress of one host and path.
func ingressOf(t *testing.T, namespace, class, host, path string) unstructured.Unstructured {
	t.Helper()
	return parsed(t, `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: web, namespace: `+namespace+`}, spec: {
  ingressClassName: "`+class+`", rules: [{host: "`+host+`", http: {paths: [{path: "`+path+`", pathType: Prefix, backend: {service: {name: a, port: {number: 1}}}}]}}]}}`)
}

// TestHostTaken: another Ingress is in the way if class, host and path are the same, wherever it is.
func TestHostTaken(t *testing.T) {
	ours := ingressOf(t, "pw-crud", "nginx", "demo.pw.test", "/")
	legacy := ingressOf(t, "shop", "", "demo.pw.test", "/")
	legacy.SetAnnotations(map[string]string{legacyClass: "nginx"})
	for name, test := range map[string]struct {
		other unstructured.Unstructured
		want  string
	}{
		"ours itself":        {ours, ""},
		"the same":           {ingressOf(t, "shop", "nginx", "demo.pw.test", "/"), "Ingress shop/web"},
		"no path":            {ingressOf(t, "shop", "nginx", "demo.pw.test", ""), "Ingress shop/web"},
		"another path":       {ingressOf(t, "shop", "nginx", "demo.pw.test", "/shop"), ""},
		"another host":       {ingressOf(t, "shop", "nginx", "other.pw.test", "/"), ""},
		"another controller": {ingressOf(t, "shop", "traefik", "demo.pw.test", "/"), ""},
		"an annotation":      {legacy, "Ingress shop/web"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if taken := hostTaken(&ours, []unstructured.Unstructured{test.other}); taken != nil {
				got = taken.By.String()
			}
			if got != test.want {
				t.Errorf("taken by %q, want %q", got, test.want)
			}
		})
	}
}
