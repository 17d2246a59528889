package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Context is the name of the lab's context in its kubeconfig.
const Context = "pwdeploy-lab"

// Spec is a lab: what `lab up` decided, kept in its folder for the processes that carry it out.
type Spec struct {
	// Dir is the lab's folder, Bin the folder with its programs, both absolute.
	Dir, Bin string
	// Index chooses the addresses and the names of link and cgroup.
	Index int
	Nodes int
	// ControlPlane is a lab without nodes of its own: KWOK plays them, everything listens on loopback only.
	ControlPlane bool
	// Ports are the loopback ports of a control-plane lab.
	Ports Ports
	// Version is Kubernetes' version.
	Version string
}

// Ports are the ports of a lab on loopback, or in its own network namespace.
type Ports struct {
	API, Etcd, EtcdPeer, Charts int
}

// NodePorts are the ports of a lab in network namespaces of its own.
var NodePorts = Ports{API: 6443, Etcd: 2379, EtcdPeer: 2380, Charts: 3128}

// Name is the name of the lab's link and cgroup.
func (s Spec) Name() string { return fmt.Sprintf("pwlab%d", s.Index) }

// NodeName is the name of a node, counted from 1.
func NodeName(node int) string { return fmt.Sprintf("lab-%d", node) }

// Path joins names to the lab's folder.
func (s Spec) Path(names ...string) string {
	return filepath.Join(append([]string{s.Dir}, names...)...)
}

// Network is the lab's addresses; the index was checked when the spec was made.
func (s Spec) Network() Network {
	n, err := NewNetwork(s.Index)
	if err != nil {
		panic(err)
	}
	return n
}

// Address is where the lab is reached from the machine.
func (s Spec) Address() string {
	if s.ControlPlane {
		return "127.0.0.1"
	}
	return s.Network().NodeAddress(1).Addr().String()
}

// FakeNodeAddress is where the node ports of a control plane's nodes would be reached. Control planes beside one another
// may choose the same node port, so each has an address of its own on loopback: its API server's port makes it.
func (s Spec) FakeNodeAddress() string {
	return fmt.Sprintf("127.%d.%d.1", s.Ports.API>>8, s.Ports.API&0xff)
}

// Server is the API server's URL.
func (s Spec) Server() string { return fmt.Sprintf("https://%s:%d", s.Address(), s.Ports.API) }

// ChartProxy is the URL of the proxy that answers for the chart repositories.
func (s Spec) ChartProxy() string { return fmt.Sprintf("http://%s:%d", s.Address(), s.Ports.Charts) }

// Socket is containerd's socket on a node, counted from 1.
func (s Spec) Socket(node int) string {
	return s.Path(NodeName(node), "containerd.sock")
}

// Save writes the spec into the lab's folder.
func (s Spec) Save() error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.Path("spec.json"), append(text, '\n'), 0o644)
}

// Load reads the spec from a lab's folder.
func Load(dir string) (Spec, error) {
	var s Spec
	text, err := os.ReadFile(filepath.Join(dir, "spec.json"))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", filepath.Join(dir, "spec.json"), err)
	}
	return s, nil
}
