package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/charts"
	"github.com/pwdeploy/pwdeploy/test/lab/internal/cluster"
)

// writeEnv writes the shell lines that make an unchanged pwdeploy work against the lab.
func writeEnv(spec cluster.Spec, staged []charts.Archive) error {
	var out strings.Builder
	out.WriteString("# Source this file to work against the lab: . " + spec.Path("env") + "\n")
	lines := [][2]string{
		{"KUBECONFIG", spec.Kubeconfig()},
		{"HTTPS_PROXY", spec.ChartProxy()},
		{"NO_PROXY", "127.0.0.0/8,localhost,198.18.0.0/15"},
		{"SSL_CERT_FILE", spec.Path("ca.crt")},
		{"PWDEPLOY_CACHE_DIR", spec.Path("user-cache")}, // what comes from here never enters the user's cache
		{"LAB_DIR", spec.Dir},
		{"LAB_ADDRESS", spec.Address()},
	}
	for _, chart := range staged {
		switch chart.Name {
		case charts.RedisName:
			digest, err := chart.ManifestDigest()
			if err != nil {
				return err
			}
			lines = append(lines, [2]string{"PWDEPLOY_REDIS_CHART_DIGEST", digest})
		case charts.IngressName:
			lines = append(lines, [2]string{"PWDEPLOY_INGRESS_CHART_DIGEST", chart.Digest()})
		}
		if chart.StandIn != "" {
			fmt.Fprintf(&out, "# The chart %s is a stand-in: %s\n", chart.Name, chart.StandIn)
		}
	}
	for _, line := range lines {
		fmt.Fprintf(&out, "export %s=%s\n", line[0], quote(line[1]))
	}
	return os.WriteFile(spec.Path("env"), []byte(out.String()), 0o644)
}

// quote makes a word of the shell's.
func quote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._:,-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Env prints the env file of the lab that is up.
func (l *Lab) Env() error {
	spec, err := l.up()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(spec.Path("env"))
	if err != nil {
		return err
	}
	_, err = l.Out.Write(text)
	return err
}

// summary says how to use the lab, and what in it is not what its name says.
func (l *Lab) summary(spec cluster.Spec) {
	fmt.Fprintf(l.Out, "\n  use it       . %s\n  kubeconfig   %s (context %s)\n", spec.Path("env"), spec.Kubeconfig(), cluster.Context)
	if !spec.ControlPlane {
		fmt.Fprintf(l.Out, "  address      %s (node ports, and ports 80 and 443 of an ingress controller)\n", spec.Address())
	}
	fmt.Fprintf(l.Out, "  take it away lab down, or make lab-down\n\n")
	l.standIns(spec)
}

// standIns lists what stands in for something else.
func (l *Lab) standIns(spec cluster.Spec) {
	w := tabwriter.NewWriter(l.Out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintln(w, "  stand-ins (nothing here is evidence about the real ones)")
	if spec.ControlPlane {
		fmt.Fprintln(w, "  nodes\tplayed by KWOK: no container runs")
	}
	images, err := spec.LoadImages()
	if err != nil {
		fmt.Fprintf(w, "  images\t%v\n", err)
	}
	for _, i := range images {
		if i.Note != "" {
			fmt.Fprintf(w, "  image %s\t%s\n", i.Name, i.Note)
		}
	}
	for _, name := range []string{charts.RedisName, charts.IngressName} {
		chart, err := charts.Load(spec.Path("charts"), name)
		switch {
		case err != nil:
			fmt.Fprintf(w, "  chart %s\t%v\n", name, err)
		case chart.StandIn != "":
			fmt.Fprintf(w, "  chart %s %s\t%s\n", name, chart.Version, chart.StandIn)
		}
	}
}

// Status says how the lab is; one that is not healthy is an error.
func (l *Lab) Status(ctx context.Context) error {
	spec, err := l.up()
	if err != nil {
		return err
	}
	config, err := spec.ClientConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	fmt.Fprintf(l.Out, "lab: up in %s, Kubernetes %s at %s\n\n", l.Dir, spec.Version, spec.Server())
	w := tabwriter.NewWriter(l.Out, 0, 0, 2, ' ', 0)
	problem := l.objects(ctx, w, client)
	if err := w.Flush(); err != nil {
		return err
	}
	l.summary(spec)
	return problem
}

func (l *Lab) objects(ctx context.Context, w io.Writer, client kubernetes.Interface) error {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("ask for the nodes: %w", err)
	}
	var problems []error
	for _, n := range nodes.Items {
		ready := "not ready"
		for _, c := range n.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				ready = "ready"
			}
		}
		if ready != "ready" {
			problems = append(problems, fmt.Errorf("the node %s isn't ready", n.Name))
		}
		fmt.Fprintf(w, "  node %s\t%s\t%s\n", n.Name, ready, n.Status.NodeInfo.ContainerRuntimeVersion)
	}
	deployments, err := client.AppsV1().Deployments("kube-system").List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("ask for the deployments: %w", err)
	}
	for _, d := range deployments.Items {
		fmt.Fprintf(w, "  deployment %s\t%d of %d available\t\n", d.Name, d.Status.AvailableReplicas, *d.Spec.Replicas)
		if d.Status.AvailableReplicas < *d.Spec.Replicas {
			problems = append(problems, fmt.Errorf("the deployment %s isn't available", d.Name))
		}
	}
	return errors.Join(problems...)
}
