package faults

import (
	"testing"

	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// kubeconfigScenes are kubeconfigs that lead nowhere.
func kubeconfigScenes() []scene {
	plugin := func(command string) func(*testing.T, *harness.Site) {
		return changed(func(c *clientcmdapi.Config) {
			c.AuthInfos[c.Contexts[c.CurrentContext].AuthInfo] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
				Command: command, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}}
		})
	}
	return []scene{
		{name: "kubeconfig whose credential plugin is missing", provoke: plugin("no-such-plugin"),
			want: want{code: 4, object: "no-such-plugin", reason: "no credentials for the cluster", hint: "they come from the command no-such-plugin", state: nothingChanged}},
		{name: "kubeconfig whose credential plugin fails", provoke: plugin("false"),
			want: want{code: 4, object: "false", reason: "no credentials for the cluster", hint: "they come from the command false", state: nothingChanged}},
		{name: "kubeconfig that is not there", provoke: kubeconfigPath("nowhere"),
			want: want{code: 4, reason: "the kubeconfig can't be read", says: []string{"nowhere"}, hint: "--kubeconfig", state: nothingChanged}},
		{name: "kubeconfig that is not YAML", provoke: kubeconfigFile("clusters: ["),
			want: want{code: 4, reason: "the kubeconfig is not valid", hint: "kubectl config view", state: nothingChanged}},
		{name: "kubeconfig that is empty", provoke: kubeconfigFile(""),
			want: want{code: 4, reason: "no cluster is configured", hint: "--kubeconfig", state: nothingChanged}},
		{name: "kubeconfig without the context", provoke: changed(func(*clientcmdapi.Config) {}), command: []string{"up", "--context", "nowhere"},
			want: want{code: 4, object: `context "nowhere"`, reason: "is not in the kubeconfig", hint: "known contexts: pwdeploy-lab", state: nothingChanged}},
		{name: "credentials that have expired", provoke: changed(func(c *clientcmdapi.Config) {
			c.AuthInfos[c.Contexts[c.CurrentContext].AuthInfo] = &clientcmdapi.AuthInfo{Token: "expired"}
		}),
			want: want{code: 4, object: "https://127.0.0.1:", reason: "the cluster refuses the credentials", hint: "log in again", state: nothingChanged}},
	}
}

func kubeconfigPath(path string) func(*testing.T, *harness.Site) {
	return func(_ *testing.T, s *harness.Site) { s.Env = append(s.Env, "PWDEPLOY_KUBECONFIG="+path) }
}

func kubeconfigFile(content string) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) {
		path := file(t, "kubeconfig", []byte(content))
		kubeconfigPath(path)(t, s)
	}
}

// changed gives pwdeploy a changed copy of the lab's kubeconfig.
func changed(change func(*clientcmdapi.Config)) func(*testing.T, *harness.Site) {
	return func(t *testing.T, s *harness.Site) { kubeconfigPath(harness.Kubeconfig(t, change))(t, s) }
}
