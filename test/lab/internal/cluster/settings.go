//go:build linux

package cluster

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	nodefast "sigs.k8s.io/kwok/kustomize/stage/node/fast"
	nodeheartbeat "sigs.k8s.io/kwok/kustomize/stage/node/heartbeat-with-lease"
	podfast "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
)

// PauseImage is the image that holds a pod's namespaces, CoreDNSImage that of the cluster's name server.
const (
	PauseImage   = "registry.k8s.io/pause:3.10"
	CoreDNSImage = "registry.k8s.io/coredns/coredns:v1.15.0"
)

// cniPlugins is where Debian's package containernetworking-plugins puts them.
const cniPlugins = "/usr/lib/cni"

//go:embed settings/containerd.toml
var containerdTemplate string

//go:embed settings/kubelet.yaml
var kubeletTemplate string

//go:embed settings/cni.conflist
var cniTemplate string

//go:embed settings/cluster.yaml
var clusterTemplate string

//go:embed settings/nodes.yaml
var fakeNodes string

// nodeSettings is what the templates of a node's settings may name.
type nodeSettings struct {
	Dir, Socket, Cgroup, CNIPlugins, PauseImage, Pods, PodRange, DNS, Domain, CA string
}

func (s Spec) nodeSettings(node int) nodeSettings {
	return nodeSettings{
		Dir: s.Path(NodeName(node)), Socket: s.Socket(node), Cgroup: "/" + s.Name() + "/" + NodeName(node),
		CNIPlugins: cniPlugins, PauseImage: PauseImage, Pods: s.Network().NodePods(node).String(), PodRange: s.Network().Pods.String(),
		DNS: s.Network().DNS.String(), Domain: clusterDomain, CA: s.Path("pki", "ca.crt"),
	}
}

// writeNodeSettings writes what a node's programs read.
func (s Spec) writeNodeSettings(node int) error {
	settings := s.nodeSettings(node)
	for file, text := range map[string]string{
		"containerd.toml": containerdTemplate, "kubelet.yaml": kubeletTemplate,
		"cni/10-lab.conflist": cniTemplate, "resolv.conf": "",
	} {
		path := filepath.Join(settings.Dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		rendered, err := render(file, text, settings)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(rendered), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manifests are the objects that a lab starts with.
func (s Spec) manifests() (string, error) {
	if s.ControlPlane {
		return fakeNodes, nil
	}
	return render("cluster.yaml", clusterTemplate, struct{ DNS, CoreDNSImage, Domain string }{s.Network().DNS.String(), CoreDNSImage, clusterDomain})
}

// writeKwokStages writes how KWOK plays nodes and pods: everything succeeds at once.
func (s Spec) writeKwokStages() error {
	stages := []string{
		nodefast.DefaultNodeInit, nodeheartbeat.DefaultNodeHeartbeatWithLease,
		podfast.DefaultPodReady, podfast.DefaultPodComplete, podfast.DefaultPodDelete,
	}
	return os.WriteFile(s.Path("kwok.yaml"), []byte(strings.Join(stages, "\n---\n")), 0o644)
}

func render(name, text string, data any) (string, error) {
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := t.Execute(&out, data); err != nil {
		return "", err
	}
	return out.String(), nil
}
