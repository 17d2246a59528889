//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/isolation"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/supervise"
)

// logTail is how much of a failed program's log an error shows, in bytes.
const logTail = 1500

// Event is a line that a node's first process writes while it boots.
type Event struct {
	// Step is done, after Elapsed since the start.
	Step    string        `json:",omitempty"`
	Elapsed time.Duration `json:",omitempty"`
	// Error ends the boot, Ready too.
	Error string `json:",omitempty"`
	Ready bool   `json:",omitempty"`
}

// Booter is the first process of a node, or of a control-plane lab.
type Booter struct {
	Spec Spec
	// Node is counted from 1; it is 0 for a control-plane lab.
	Node int
	// Self is this program, to be started again for the parts of the lab that are in it.
	Self string
	// Gate is read once: its other end is closed when the network link is there. Events receives the progress.
	Gate   io.Reader
	Events io.Writer
	// Timeout bounds the boot.
	Timeout time.Duration
	Log     *slog.Logger

	start time.Time
	sup   *supervise.Supervisor
}

// Run boots and then stays until ctx ends.
func (b *Booter) Run(ctx context.Context) error {
	b.start = time.Now()
	if _, err := io.Copy(io.Discard, b.Gate); err != nil {
		return fmt.Errorf("wait for the network link: %w", err)
	}
	b.sup = supervise.New(ctx, b.Spec.Path("log"), b.Log)
	if err := b.bootInTime(ctx); err != nil {
		b.emit(Event{Error: err.Error()})
		return err
	}
	b.emit(Event{Ready: true, Elapsed: time.Since(b.start)})
	<-ctx.Done()
	return nil
}

// bootInTime gives the boot's waits a deadline that the programs which it started don't have.
func (b *Booter) bootInTime(ctx context.Context) error {
	waits, cancel := context.WithTimeout(ctx, b.Timeout)
	defer cancel()
	switch b.Node {
	case 0:
		return b.bootControlPlane(ctx, waits)
	case 1:
		return b.bootFirstNode(ctx, waits)
	default:
		if err := b.setUpNode(); err != nil {
			return err
		}
		if err := b.startRuntime(ctx, waits); err != nil {
			return err
		}
		return b.startNode(ctx, waits)
	}
}

func (b *Booter) bootControlPlane(ctx, waits context.Context) error {
	if err := b.Spec.writeKwokStages(); err != nil {
		return err
	}
	if err := b.startAPI(ctx, waits); err != nil {
		return err
	}
	if err := b.keep(ctx, b.Spec.controllerManager(), b.Spec.scheduler(), b.Spec.kwok(), b.charts()); err != nil {
		return err
	}
	if err := b.applyManifests(waits); err != nil {
		return err
	}
	return b.waitFor(waits, "nodes ready", func(ctx context.Context, c kubernetes.Interface) (string, error) {
		return nodesReady(ctx, c, b.Spec.Nodes)
	})
}

func (b *Booter) bootFirstNode(ctx, waits context.Context) error {
	if err := b.setUpNode(); err != nil {
		return err
	}
	b.step("network and mounts")
	group, _ := errgroup.WithContext(waits)
	group.Go(func() error { return b.startRuntime(ctx, waits) })
	group.Go(func() error { return b.startAPI(ctx, waits) })
	if err := group.Wait(); err != nil {
		return err
	}
	if err := b.keep(ctx, b.Spec.controllerManager(), b.Spec.scheduler(), b.Spec.provisioner(), b.charts()); err != nil {
		return err
	}
	if err := b.applyManifests(waits); err != nil {
		return err
	}
	for node := 2; node <= b.Spec.Nodes; node++ {
		if err := b.spawnNode(ctx, waits, node); err != nil {
			return err
		}
	}
	if err := b.startNode(ctx, waits); err != nil {
		return err
	}
	if err := b.waitFor(waits, "nodes ready", func(ctx context.Context, c kubernetes.Interface) (string, error) {
		return nodesReady(ctx, c, b.Spec.Nodes)
	}); err != nil {
		return err
	}
	return b.waitFor(waits, "cluster DNS ready", dnsReady)
}

// setUpNode makes this process' namespaces a node's.
func (b *Booter) setUpNode() error {
	if err := isolation.SetUpMounts(); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(NodeName(b.Node))); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	n := b.Spec.Network()
	network := isolation.NodeNetwork{Address: n.NodeAddress(b.Node), Local: n.Services, Routes: map[netip.Prefix]netip.Addr{}}
	for other := 1; other <= b.Spec.Nodes; other++ {
		if other != b.Node {
			network.Routes[n.NodePods(other)] = n.NodeAddress(other).Addr()
		}
	}
	return isolation.SetUpNode(network)
}

// startRuntime starts containerd and loads the images.
func (b *Booter) startRuntime(ctx, waits context.Context) error {
	if err := b.Spec.writeNodeSettings(b.Node); err != nil {
		return err
	}
	if err := b.keep(ctx, b.Spec.containerd(b.Node)); err != nil {
		return err
	}
	if err := waitForSocket(waits, b.Spec.Socket(b.Node)); err != nil {
		return b.withLog(err, b.Spec.containerd(b.Node).Name)
	}
	images, err := b.Spec.LoadImages()
	if err != nil {
		return err
	}
	for _, image := range images {
		for _, args := range image.ImportArgs(b.Spec.Socket(b.Node)) {
			c := supervise.Command{Name: NodeName(b.Node) + "-images", Path: ctrPath, Args: args, Env: environment()}
			if err := b.sup.Run(waits, c); err != nil {
				return fmt.Errorf("load the image %s: %w", image.Name, b.withLog(err, c.Name))
			}
		}
	}
	b.step("container runtime ready, images loaded")
	return nil
}

func (b *Booter) startAPI(ctx, waits context.Context) error {
	if err := b.keep(ctx, b.Spec.etcd(), b.Spec.apiServer()); err != nil {
		return err
	}
	// Only a ready API server has the bootstrap roles; without them the controller manager exits at once.
	return b.waitFor(waits, "API server ready", func(ctx context.Context, c kubernetes.Interface) (string, error) {
		body, err := c.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil {
			return string(body), err
		}
		return "", nil
	})
}

func (b *Booter) startNode(ctx, _ context.Context) error {
	return b.keep(ctx, b.Spec.kubelet(b.Node), b.Spec.kubeProxy(b.Node))
}

// spawnNode starts the first process of another node, joins its network, and waits until its runtime is there.
func (b *Booter) spawnNode(ctx, waits context.Context, node int) error {
	gate, openGate, err := os.Pipe()
	if err != nil {
		return err
	}
	defer openGate.Close()
	events, report, err := os.Pipe()
	if err != nil {
		return err
	}
	defer events.Close()
	c := b.Spec.bootCommand(b.Self, node)
	c.Files = []*os.File{gate, report}
	c.Attr = syscall.SysProcAttr{Cloneflags: isolation.NodeNamespaces}
	pid, _, err := b.sup.Start(ctx, c)
	gate.Close()
	report.Close()
	if err != nil {
		return err
	}
	if err := isolation.AttachNode(NodeName(node), pid); err != nil {
		return err
	}
	openGate.Close()
	return b.withLog(Follow(waits, events, func(Event) {}), c.Name)
}

// bootCommand is this program as the first process of a node.
func (s Spec) bootCommand(self string, node int) supervise.Command {
	return supervise.Command{Name: NodeName(node), Path: self, Args: []string{"boot", "--dir", s.Dir, "--node", fmt.Sprint(node)}, Env: environment()}
}

func (b *Booter) charts() supervise.Command {
	return supervise.Command{Name: "charts", Path: b.Self, Args: []string{"serve-charts", "--dir", b.Spec.Dir}, Env: environment()}
}

func (b *Booter) keep(ctx context.Context, commands ...supervise.Command) error {
	for _, c := range commands {
		if err := b.sup.Keep(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (b *Booter) applyManifests(ctx context.Context) error {
	config, err := b.Spec.ClientConfig()
	if err != nil {
		return err
	}
	text, err := b.Spec.manifests()
	if err != nil {
		return err
	}
	if err := apply(ctx, config, text); err != nil {
		return fmt.Errorf("create the cluster's own objects: %w", err)
	}
	return nil
}

// waitFor asks until the answer is that nothing is missing.
func (b *Booter) waitFor(ctx context.Context, what string, missing func(context.Context, kubernetes.Interface) (string, error)) error {
	config, err := b.Spec.ClientConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	for {
		why, err := missing(ctx, client)
		if err == nil && why == "" {
			b.step(what)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %s", what, b.Timeout, join(why, err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func join(why string, err error) string {
	if err == nil {
		return why
	}
	if why == "" {
		return err.Error()
	}
	return why + ": " + err.Error()
}

func (b *Booter) step(what string) { b.emit(Event{Step: what, Elapsed: time.Since(b.start)}) }

// emit writes one line; whoever started the lab may have gone, which is no reason to stop.
func (b *Booter) emit(e Event) {
	line, err := json.Marshal(e)
	if err != nil {
		b.Log.Error("encode an event", "error", err)
		return
	}
	if _, err := b.Events.Write(append(line, '\n')); err != nil {
		b.Log.Warn("nobody listens", "event", string(line), "error", err)
	}
	b.Log.Info("boot", "event", string(line))
}

// withLog adds the end of a program's log to an error.
func (b *Booter) withLog(err error, name string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s", err, b.sup.Tail(name, logTail))
}

// Follow reads a booting node's events until it is ready.
func Follow(ctx context.Context, events io.ReadCloser, show func(Event)) error {
	stop := context.AfterFunc(ctx, func() { events.Close() })
	defer stop()
	lines := json.NewDecoder(events)
	for {
		var e Event
		err := lines.Decode(&e)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the lab didn't boot in time: %w", ctx.Err())
		case errors.Is(err, io.EOF):
			return errors.New("the lab's first process ended while it booted")
		case err != nil:
			return fmt.Errorf("read the boot's progress: %w", err)
		case e.Error != "":
			return errors.New(e.Error)
		}
		show(e)
		if e.Ready {
			return nil
		}
	}
}

// ClientConfig is the user's way to the API server, without the client's own rate limit.
func (s Spec) ClientConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s: %w", s.Kubeconfig(), err)
	}
	config.QPS, config.Timeout = -1, 10*time.Second
	return config, nil
}

func waitForSocket(ctx context.Context, path string) error {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the container runtime doesn't answer on %s: %w", filepath.Base(path), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
