package e2e

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// twoControllers is the configuration of docs/reliability.md for a controller on each of two nodes. With a host port,
// two of them can't be on one node.
func twoControllers(t *testing.T) string {
	t.Helper()
	return configuration(t, map[string]string{
		"pwdeploy.yaml": "ingress:\n  chart:\n    values: [ingress.yaml]\n",
		"ingress.yaml":  "controller:\n  replicaCount: 2\n",
	})
}

// configuration writes files and returns the path of their pwdeploy.yaml.
func configuration(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "pwdeploy.yaml")
}

// entrances are the addresses at which the ingress controllers' nodes take requests.
func entrances(t *testing.T) []string {
	t.Helper()
	var addresses []string
	for _, p := range controller.mustPods(t) {
		addresses = append(addresses, net.JoinHostPort(p.Status.HostIP, "80"))
	}
	return addresses
}

// TestServingThroughout: nothing that is done to the cluster costs a request.
func TestServingThroughout(t *testing.T) {
	cleanUp(t)
	args := []string{}
	two := len(nodes(t)) >= 2
	if two {
		args = append(args, "--config", twoControllers(t))
	}
	up(t, args...)
	args = append(args, "--image", changedImage())
	t.Run("new image", func(t *testing.T) {
		throughout(t, &load{}, func() { up(t, args...) })
	})
	t.Run("scaled up and down", func(t *testing.T) {
		throughout(t, &load{}, func() {
			up(t, append(args, "--replicas", "4")...)
			app.settle(t, 4)
			up(t, append(args, "--replicas", "2")...)
			app.settle(t, 2)
		})
	})
	t.Run("deleted pod", func(t *testing.T) {
		throughout(t, &load{}, func() {
			deletePod(t, app.mustPods(t)[0])
			app.settle(t, 2)
		})
	})
	if !two {
		t.Log("one node: no controller to take over, and no node to drain to")
		return
	}
	t.Run("restarted ingress controllers", func(t *testing.T) {
		throughout(t, &load{moves: true}, func() { controller.restart(t) })
	})
	t.Run("deleted ingress controller", func(t *testing.T) {
		throughout(t, &load{moves: true}, func() {
			deletePod(t, controller.mustPods(t)[0])
			controller.settle(t, 2)
		})
	})
	t.Run("drained node", func(t *testing.T) {
		node := nodeToDrain(t)
		throughout(t, &load{moves: true}, func() {
			uncordon := cordon(t, node)
			drain(t, node)
			app.settle(t, 2)
			uncordon()
			controller.settle(t, 2)
		})
	})
}

// throughout does something under load, and wants every request served.
func throughout(t *testing.T, l *load, do func()) {
	t.Helper()
	l.addresses = entrances(t)
	l.begin(t)
	do()
	l.end(t)
}

// nodeToDrain is a node with a pod of the app and without the Redis master: that one's move is an outage, and has a test
// of its own.
func nodeToDrain(t *testing.T) string {
	t.Helper()
	master := redisMaster.mustPods(t)[0].Spec.NodeName
	names := nodes(t)
	node := names[slices.IndexFunc(names, func(name string) bool { return name != master })]
	pods := app.mustPods(t)
	if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Spec.NodeName == node }) {
		uncordon := cordon(t, master)
		deletePod(t, pods[0])
		app.settle(t, len(pods))
		uncordon()
	}
	return node
}

// TestRedisMasterRestarted: the service answers 503 quickly while the Redis master is away, serves again by itself, and
// with persistence on has everything that it acknowledged.
func TestRedisMasterRestarted(t *testing.T) {
	config := persistent(t)
	cleanUp(t)
	up(t, "--config", config)
	t.Run("deleted pod", func(t *testing.T) {
		outage(t, func(p corev1.Pod) { deletePod(t, p) })
	})
	t.Run("killed redis-server", func(t *testing.T) {
		outage(t, func(p corev1.Pod) { killProcess(t, p, "redis-server") })
	})
	must(t, 0, "down", "--yes", "--delete-data", "--config", config)
	waitForVolumes(t)
}

// outage makes the Redis master go away under load, and wants its return.
func outage(t *testing.T, do func(corev1.Pod)) {
	t.Helper()
	before := incarnations(t, app)
	master := incarnations(t, redisMaster)
	l := &load{addresses: entrances(t), outage: true}
	l.begin(t)
	do(redisMaster.mustPods(t)[0])
	eventually(t, "the service answers 503", func(context.Context) (bool, error) { return l.now().refused > 0, nil })
	eventually(t, "the Redis master is another one and ready", func(ctx context.Context) (bool, error) {
		pods, err := redisMaster.pods(ctx)
		if err != nil || len(pods) != 1 || !ready(pods[0]) {
			return false, err
		}
		return master[pods[0].UID] != restarts(pods[0])+1, nil
	})
	l.end(t)
	t.Logf("acknowledged and read back: %d", l.readBack(t))
	for uid, n := range incarnations(t, app) {
		if before[uid] != n {
			t.Errorf("a pod of the app was restarted")
		}
	}
}

// incarnations tells a workload's pods, and how often each one's container was started.
func incarnations(t *testing.T, w workload) map[types.UID]int32 {
	t.Helper()
	seen := map[types.UID]int32{}
	for _, p := range w.mustPods(t) {
		seen[p.UID] = restarts(p) + 1
	}
	return seen
}

func restarts(p corev1.Pod) int32 {
	if len(p.Status.ContainerStatuses) == 0 {
		return 0
	}
	return p.Status.ContainerStatuses[0].RestartCount
}
