//go:build linux

package cluster

import (
	"fmt"
	"path/filepath"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/supervise"
)

// clusterDomain is the domain of the cluster's names.
const clusterDomain = "cluster.local"

// environment is what every program gets: nothing of the caller's, so that a lab is the same whoever starts it. A
// proxy variable of the caller's would send the components' traffic there.
func environment() []string {
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
}

// kube is a component that is linked into the program kube.
func (s Spec) kube(component string, args ...string) supervise.Command {
	return supervise.Command{
		Name: component, Path: filepath.Join(s.Bin, "kube"), Args: append([]string{component}, args...), Env: environment(),
	}
}

func (s Spec) etcd() supervise.Command {
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", s.Ports.Etcd), fmt.Sprintf("http://127.0.0.1:%d", s.Ports.EtcdPeer)
	return s.kube("etcd", "--data-dir="+s.Path("etcd"), "--log-level=warn",
		"--unsafe-no-fsync", // the lab's data needn't outlive the machine
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=default="+peer)
}

func (s Spec) apiServer() supervise.Command {
	pki := func(name string) string { return s.Path("pki", name) }
	args := []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", s.Ports.Etcd),
		"--bind-address=" + s.Address(),
		// Without a default route the API server can't find an address by itself.
		"--advertise-address=" + s.Address(),
		fmt.Sprintf("--secure-port=%d", s.Ports.API),
		"--service-cluster-ip-range=" + s.Network().Services.String(),
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file=" + pki("service-accounts.key"), "--service-account-signing-key-file=" + pki("service-accounts.key"),
		"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--profiling=false",
		// Nobody aggregates an API here, but the controller manager refuses to start without this authority.
		"--requestheader-client-ca-file=" + pki("ca.crt"), "--requestheader-allowed-names=front-proxy",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
	}
	if s.ControlPlane {
		args = append(args, "--endpoint-reconciler-type=none") // endpoints may not be on loopback
	}
	return s.kube("kube-apiserver", args...)
}

func (s Spec) controllerManager() supervise.Command {
	config := s.kubeconfig("controller-manager")
	args := []string{
		"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
		"--leader-elect=false", "--use-service-account-credentials=true",
		"--flex-volume-plugin-dir=" + s.Path("flexvolume"), // by default it makes a folder in /usr/libexec
		"--root-ca-file=" + s.Path("pki", "ca.crt"), "--service-account-private-key-file=" + s.Path("pki", "service-accounts.key"),
		"--kube-api-qps=500", "--kube-api-burst=1000", // its own limits cost 5 s at the start
	}
	args = append(args, s.privatePort()...)
	if !s.ControlPlane {
		args = append(args, "--allocate-node-cidrs=false") // the lab gives each node its range, the routes to it are there already
	}
	return s.kube("kube-controller-manager", args...)
}

func (s Spec) scheduler() supervise.Command {
	config := s.kubeconfig("scheduler")
	args := []string{"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config, "--leader-elect=false"}
	return s.kube("kube-scheduler", append(args, s.privatePort()...)...)
}

// privatePort keeps a component's own port out of the way: on loopback of the lab's network namespace, or closed
// where the lab has none of its own.
func (s Spec) privatePort() []string {
	if s.ControlPlane {
		return []string{"--secure-port=0"}
	}
	return []string{"--bind-address=127.0.0.1"}
}

func (s Spec) kubelet(node int) supervise.Command {
	dir, name := s.Path(NodeName(node)), NodeName(node)
	c := s.kube("kubelet", "--config="+filepath.Join(dir, "kubelet.yaml"), "--kubeconfig="+s.kubeconfig(name),
		"--hostname-override="+name, "--node-ip="+s.Network().NodeAddress(node).Addr().String(),
		"--root-dir="+filepath.Join(dir, "kubelet"), "--cert-dir="+filepath.Join(dir, "kubelet", "pki"))
	c.Name = name + "-kubelet"
	return c
}

func (s Spec) kubeProxy(node int) supervise.Command {
	c := s.kube("kube-proxy", "--kubeconfig="+s.kubeconfig("proxy"), "--hostname-override="+NodeName(node),
		"--proxy-mode=nftables", "--nodeport-addresses=0.0.0.0/0", "--cluster-cidr="+s.Network().Pods.String(),
		"--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
		"--conntrack-max-per-core=0") // the table's size is the machine's, not the lab's
	c.Name = NodeName(node) + "-kube-proxy"
	return c
}

func (s Spec) containerd(node int) supervise.Command {
	return supervise.Command{
		Name: NodeName(node) + "-containerd", Path: "/usr/bin/containerd",
		Args: []string{"--config", s.Path(NodeName(node), "containerd.toml")}, Env: environment(),
	}
}

func (s Spec) provisioner() supervise.Command {
	return supervise.Command{
		Name: "provisioner", Path: filepath.Join(s.Bin, "provisioner"), Env: environment(),
		Args: []string{"--kubeconfig=" + s.kubeconfig("provisioner"), "--dir=" + s.Path("storage")},
	}
}

func (s Spec) kwok() supervise.Command {
	return supervise.Command{
		Name: "kwok", Path: filepath.Join(s.Bin, "kwok"), Env: environment(),
		Args: []string{
			"--kubeconfig=" + s.kubeconfig("kwok"), "--config=" + s.Path("kwok.yaml"), "--node-ip=" + s.FakeNodeAddress(),
			"--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-lease-duration-seconds=40",
		},
	}
}
