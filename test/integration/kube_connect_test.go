package integration

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/cert"

	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// TestConnect tells every way of not reaching a cluster from the others, and never changes the kubeconfig.
func TestConnect(t *testing.T) {
	server := func(c *clientcmdapi.Config) *clientcmdapi.Cluster {
		return c.Clusters[c.Contexts[c.CurrentContext].Cluster]
	}
	for name, test := range map[string]struct {
		change  func(t *testing.T, c *clientcmdapi.Config)
		context string
		silent  bool   // the server says nothing, however long one waits
		problem string // empty: it connects
		hint    string
	}{
		"as it is": {},
		"the context by name": {context: "other", change: func(_ *testing.T, c *clientcmdapi.Config) {
			c.Contexts["other"] = c.Contexts[c.CurrentContext]
			c.CurrentContext = "gone"
		}},
		"nothing listens": {problem: "nothing listens at https://127.0.0.1:", hint: "start the cluster",
			change: func(_ *testing.T, c *clientcmdapi.Config) { server(c).Server = closedPort }},
		"the server is silent": {silent: true, problem: "the API server does not answer", hint: "VPN",
			change: func(t *testing.T, c *clientcmdapi.Config) { server(c).Server = "https://" + silentPort(t) }},
		"no such context": {context: "nowhere", problem: `context "nowhere" is not in the kubeconfig`, hint: "known contexts: pwdeploy-lab"},
		"no context that is set": {problem: "no cluster is configured", hint: "--kubeconfig",
			change: func(_ *testing.T, c *clientcmdapi.Config) { *c = *clientcmdapi.NewConfig() }},
		"a wrong token": {problem: "the cluster refuses the credentials", hint: "log in again",
			change: func(_ *testing.T, c *clientcmdapi.Config) {
				c.AuthInfos[c.Contexts[c.CurrentContext].AuthInfo] = &clientcmdapi.AuthInfo{Token: "made-up"}
			}},
		"another authority": {problem: "signed by an authority that the kubeconfig does not name", hint: "fetch it again",
			change: func(t *testing.T, c *clientcmdapi.Config) { server(c).CertificateAuthorityData = foreignAuthority(t) }},
		"another name than the certificate's": {problem: "the API server's certificate is for another name",
			change: func(_ *testing.T, c *clientcmdapi.Config) { server(c).TLSServerName = "elsewhere.test" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := kubeconfig(t, func(c *clientcmdapi.Config) {
				if test.change != nil {
					test.change(t, c)
				}
			})
			before := contents(t, path)
			limit := time.Minute
			if test.silent {
				limit = time.Second
			}
			client, err := kube.Connect(within(t, limit), kube.Options{Kubeconfig: path, Context: test.context})
			if contents(t, path) != before {
				t.Error("the kubeconfig was changed")
			}
			if test.problem == "" {
				if err != nil || client.Version.GitVersion == "" || test.context != "" && client.Context != test.context {
					t.Fatalf("got %+v, %v", client, err)
				}
				return
			}
			requireConnectError(t, err, test.problem, test.hint)
		})
	}
}

func requireConnectError(t *testing.T, err error, problem, hint string) {
	t.Helper()
	var connectError *kube.ConnectError
	if !errors.As(err, &connectError) {
		t.Fatalf("got %v, not a ConnectError", err)
	}
	if !strings.Contains(err.Error(), problem) || !strings.Contains(connectError.Hint(), hint) {
		t.Errorf("got %q with the hint %q", err, connectError.Hint())
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %q", err)
	}
}

// TestConnectFile tells a kubeconfig that can't be used from a cluster that can't be reached.
func TestConnectFile(t *testing.T) {
	for name, test := range map[string]struct{ content, problem string }{
		"not there":           {"", "the kubeconfig can't be read"},
		"not YAML":            {"clusters: [", "the kubeconfig is not valid"},
		"without its cluster": {"apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{name: a, context: {cluster: none, user: none}}]\n", "no cluster is configured"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			if test.content != "" {
				if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := kube.Connect(t.Context(), kube.Options{Kubeconfig: path})
			requireConnectError(t, err, test.problem, "")
		})
	}
}

// TestConnectForbidden: a cluster may hide even its version, which every authenticated user can read by default. It
// takes that from everybody for a moment, and so runs beside no other test.
func TestConnectForbidden(t *testing.T) {
	ns := namespace(t, nil)
	user := limitedUser(t, ns, nil, nil)
	for _, name := range []string{"system:public-info-viewer", "system:discovery"} {
		unbind(t, name)
	}
	var err error
	eventually(t, "the version is refused", func() bool {
		_, err = kube.Connect(t.Context(), kube.Options{Kubeconfig: user})
		return err != nil
	})
	requireConnectError(t, err, "the cluster does not let this user read its version", "ask for a role")
}

// unbind takes a ClusterRole away from everybody until the test ends.
func unbind(t *testing.T, name string) {
	t.Helper()
	bindings := adminClient(t).RbacV1().ClusterRoleBindings()
	binding, err := bindings.Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	set := func(ctx context.Context, subjects []rbacv1.Subject) {
		binding.Subjects = subjects
		if binding, err = bindings.Update(ctx, binding, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	old := binding.Subjects
	set(t.Context(), nil)
	t.Cleanup(func() { set(context.WithoutCancel(t.Context()), old) })
}

func contents(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// closedPort is an address on loopback where nothing listens: no test that asks for any free port is given this one.
const closedPort = "https://127.0.0.1:1"

// silentPort is an address where connections are taken and nothing is said.
func silentPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func foreignAuthority(t *testing.T) []byte {
	t.Helper()
	certificate, _, err := cert.GenerateSelfSignedCertKey("elsewhere.test", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
