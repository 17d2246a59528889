package cluster

import (
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/certs"
)

// lifetime is long enough for a lab that stays up over a holiday, and short enough for a stolen key to be worth little.
const lifetime = 90 * 24 * time.Hour

// WriteIdentities makes the lab's authority, the certificates of its components and their kubeconfigs. The user's own
// kubeconfig and the authority's certificate go to the lab's folder, the rest to its folder pki.
func (s Spec) WriteIdentities() error {
	pki := s.Path("pki")
	if err := os.MkdirAll(pki, 0o700); err != nil {
		return err
	}
	ca, err := certs.NewAuthority("pwdeploy-lab-ca", lifetime)
	if err != nil {
		return err
	}
	if err := ca.Save(pki, "ca"); err != nil {
		return err
	}
	if err := os.WriteFile(s.Path("ca.crt"), ca.Cert, 0o644); err != nil {
		return err
	}
	key, err := certs.NewKey()
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.Path("pki", "service-accounts.key"), key, 0o600); err != nil {
		return err
	}
	if err := s.issueServers(ca); err != nil {
		return err
	}
	for name, request := range s.clients() {
		pair, err := ca.Issue(request)
		if err != nil {
			return err
		}
		if err := s.writeKubeconfig(s.kubeconfig(name), ca.Cert, pair); err != nil {
			return err
		}
	}
	return nil
}

func (s Spec) issueServers(ca *certs.Authority) error {
	net := s.Network()
	server, err := ca.Issue(certs.Request{CommonName: "kube-apiserver", Lifetime: lifetime, Hosts: []string{
		"localhost", "127.0.0.1", net.NodeAddress(1).Addr().String(), net.API.String(),
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}})
	if err != nil {
		return err
	}
	if err := server.Save(s.Path("pki"), "apiserver"); err != nil {
		return err
	}
	kubelet, err := ca.Issue(certs.Request{CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}, Lifetime: lifetime})
	if err != nil {
		return err
	}
	return kubelet.Save(s.Path("pki"), "kubelet-client")
}

// admin is the user's own identity.
const admin = "admin"

func (s Spec) clients() map[string]certs.Request {
	clients := map[string]certs.Request{
		admin:                {CommonName: "admin", Organizations: []string{"system:masters"}},
		"controller-manager": {CommonName: "system:kube-controller-manager"},
		"scheduler":          {CommonName: "system:kube-scheduler"},
		"proxy":              {CommonName: "system:kube-proxy"},
		"provisioner":        {CommonName: "lab-provisioner"},
		"kwok":               {CommonName: "kwok", Organizations: []string{"system:masters"}},
	}
	for node := range s.Nodes {
		name := NodeName(node + 1)
		clients[name] = certs.Request{CommonName: "system:node:" + name, Organizations: []string{"system:nodes"}}
	}
	for name, r := range clients {
		r.Lifetime = lifetime
		clients[name] = r
	}
	return clients
}

// kubeconfig is where a client's kubeconfig is.
func (s Spec) kubeconfig(client string) string {
	if client == admin {
		return s.Kubeconfig()
	}
	return s.Path("pki", client+".kubeconfig")
}

// Kubeconfig is where the user's kubeconfig is.
func (s Spec) Kubeconfig() string { return s.Path("kubeconfig") }

func (s Spec) writeKubeconfig(file string, ca []byte, pair certs.Pair) error {
	config := clientcmdapi.NewConfig()
	config.Clusters[Context] = &clientcmdapi.Cluster{Server: s.Server(), CertificateAuthorityData: ca}
	config.AuthInfos[Context] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.Cert, ClientKeyData: pair.Key}
	config.Contexts[Context] = &clientcmdapi.Context{Cluster: Context, AuthInfo: Context}
	config.CurrentContext = Context
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("write the kubeconfig %s: %w", file, err)
	}
	return nil
}
