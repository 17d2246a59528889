package stack

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pwdeploy/pwdeploy/internal/config"
	"github.com/pwdeploy/pwdeploy/internal/helm"
	"github.com/pwdeploy/pwdeploy/internal/kube"
)

// ready is a node as it should be.
func ready(name string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("10")},
			NodeInfo:    corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64"},
		},
	}
}

// pod asks for cpu, on a node, and listens on the node's port if one is given.
func podOn(node, cpu string, hostPort int32) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "traefik"}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}},
	}}}}
	if hostPort != 0 {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: hostPort, ContainerPort: 8000}}
	}
	return p
}

// wants is a workload that is to be made.
func wants(name, cpu string, replicas int, hostPort int32) workload {
	return workload{ref: kube.Ref{GroupVersionKind: kube.DeploymentKind, Namespace: "pw-crud", Name: name}, fresh: true, replicas: replicas,
		pod: corev1.PodTemplateSpec{Spec: podOn("", cpu, hostPort).Spec}}
}

// a cluster where all is well, and a plan for it.
func well() *look {
	return &look{
		Engine: &Engine{cfg: config.Default(), target: Target{Kubernetes: "v1.34.0", Profile: "local"}},
		plan:   &plan{controller: controller{class: "nginx", namespace: "ingress-nginx"}, ingress: &releasePlan{}},
		survey: &kube.Survey{Answer: kube.Answer{Took: 3 * time.Millisecond}, Nodes: kube.Listed[corev1.Node]{Items: []corev1.Node{ready("one")}}},
	}
}

func forbidden(kind string) error {
	return &kube.RequestError{What: "list of " + kind, Err: apierrors.NewForbidden(schema.GroupResource{Resource: kind}, "", errors.New("no"))}
}

func nodesOf(nodes ...corev1.Node) func(*look) {
	return func(l *look) { l.survey.Nodes.Items = nodes }
}

func cordoned(n corev1.Node) corev1.Node {
	n.Spec.Unschedulable = true
	return n
}

func arm(n corev1.Node) corev1.Node {
	n.Status.NodeInfo.Architecture = "arm64"
	return n
}

func holding(n corev1.Node, images ...string) corev1.Node {
	n.Status.Images = []corev1.ContainerImage{{Names: images}}
	return n
}

func claimOf(class *string) workload {
	w := wants("redis-master", "100m", 1, 0)
	w.claims = []corev1.PersistentVolumeClaim{{Spec: corev1.PersistentVolumeClaimSpec{StorageClassName: class}}}
	return w
}

// TestChecks: each check's states, on a cluster where all else is well.
func TestChecks(t *testing.T) {
	gp3 := "gp3"
	class := func(name, provisioner string, standard bool) func(*look) {
		return func(l *look) {
			c := storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{}}, Provisioner: provisioner}
			if standard {
				c.Annotations[defaultClassMark] = "true"
			}
			l.survey.StorageClasses.Items = append(l.survey.StorageClasses.Items, c)
		}
	}
	for name, test := range map[string]struct {
		change []func(*look)
		check  string // group and name
		state  CheckState
		text   string // in message or hint
	}{
		"answers":     {nil, "cluster API server", CheckOK, "3 ms"},
		"slow":        {[]func(*look){func(l *look) { l.survey.Answer.Took = 2 * time.Second }}, "cluster API server", CheckWarning, "2.0 s"},
		"no answer":   {[]func(*look){func(l *look) { l.survey.Answer.Err = errors.New("reset") }}, "cluster API server", CheckSkipped, "reset"},
		"version":     {nil, "cluster version", CheckOK, "v1.34.0"},
		"EKS version": {[]func(*look){func(l *look) { l.target.Kubernetes = "v1.30.4-eks-a737599" }}, "cluster version", CheckOK, "v1.30.4"},
		"too old":     {[]func(*look){func(l *look) { l.target.Kubernetes = "v1.29.9" }}, "cluster version", CheckFailed, "1.30"},
		"too new":     {[]func(*look){func(l *look) { l.target.Kubernetes = "v1.40.0" }}, "cluster version", CheckWarning, "newer"},
		"no version":  {[]func(*look){func(l *look) { l.target.Kubernetes = "main" }}, "cluster version", CheckSkipped, "main"},

		"clock":       {[]func(*look){func(l *look) { l.survey.Answer.Ahead = -2 * time.Second }}, "cluster clock", CheckOK, "agree"},
		"clock ahead": {[]func(*look){func(l *look) { l.survey.Answer.Ahead = 20 * time.Second }}, "cluster clock", CheckWarning, "20s ahead of"},
		"clock off":   {[]func(*look){func(l *look) { l.survey.Answer.Ahead = -time.Hour }}, "cluster clock", CheckFailed, "1h0m0s behind"},

		"nodes":             {nil, "cluster nodes", CheckOK, "1 node,"},
		"no nodes":          {[]func(*look){nodesOf()}, "cluster nodes", CheckWarning, "none"},
		"a cordoned node":   {[]func(*look){nodesOf(ready("one"), cordoned(ready("two")))}, "cluster nodes", CheckOK, "two (cordoned)"},
		"all cordoned":      {[]func(*look){nodesOf(cordoned(ready("one")))}, "cluster nodes", CheckFailed, "uncordon"},
		"not ready":         {[]func(*look){nodesOf(corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "one"}})}, "cluster nodes", CheckFailed, "one (not ready)"},
		"nodes not allowed": {[]func(*look){func(l *look) { l.survey.Nodes = kube.Listed[corev1.Node]{Err: forbidden("nodes")} }}, "cluster nodes", CheckSkipped, "this user may not"},

		"no volumes":      {nil, "storage volumes", CheckOK, "memory"},
		"a class":         {[]func(*look){planning(claimOf(&gp3)), class("gp3", "ebs.csi.aws.com", false)}, "storage volumes", CheckOK, "ebs.csi.aws.com"},
		"no such class":   {[]func(*look){planning(claimOf(&gp3)), class("gp2", "ebs.csi.aws.com", true)}, "storage volumes", CheckFailed, "there are: gp2"},
		"default class":   {[]func(*look){planning(claimOf(nil)), class("standard", "local", true)}, "storage volumes", CheckOK, "standard"},
		"no default":      {[]func(*look){planning(claimOf(nil)), class("gp2", "ebs.csi.aws.com", false)}, "storage volumes", CheckFailed, "no"},
		"no class at all": {[]func(*look){planning(claimOf(&gp3))}, "storage volumes", CheckFailed, "EBS CSI driver"},
		"by hand":         {[]func(*look){planning(claimOf(&gp3)), class("gp3", noProvisioner, false)}, "storage volumes", CheckWarning, "administrator"},

		"nothing there": {nil, "ingress controller", CheckOK, "will be installed"},
		"reused":        {[]func(*look){foreign("example.test/ingress")}, "ingress controller", CheckOK, "somebody else's"},
		"abandoned":     {[]func(*look){foreign(nginxController)}, "ingress controller", CheckWarning, "kubectl delete ingressclass nginx"},
		"served": {[]func(*look){foreign(nginxController), func(l *look) {
			p := podOn("one", "1m", 0)
			p.Labels = map[string]string{"app.kubernetes.io/name": "ingress-nginx", "app.kubernetes.io/component": "controller"}
			l.survey.Pods.Items = []corev1.Pod{p}
		}}, "ingress controller", CheckOK, "somebody else's"},
		"classes": {[]func(*look){func(l *look) {
			l.survey.IngressClasses.Items = []networkingv1.IngressClass{{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{
				helm.ReleaseNameAnnotation: "edge", helm.ReleaseNamespaceAnnotation: "platform"}}, Spec: networkingv1.IngressClassSpec{Controller: "traefik.io/ingress-controller"}}}
		}}, "ingress classes", CheckOK, "web (traefik.io/ingress-controller, of release platform/edge)"},
		"no balancer needed": {nil, "ingress load balancer", CheckOK, "none is needed"},

		"ports free":          {[]func(*look){planning(wants("controller", "100m", 1, 80))}, "ingress host ports", CheckOK, "80/TCP"},
		"ports taken":         {[]func(*look){planning(wants("controller", "100m", 1, 80)), pods(podOn("one", "0", 80))}, "ingress host ports", CheckFailed, "one: Pod kube-system/traefik has 80/TCP"},
		"ports taken, partly": {[]func(*look){planning(wants("controller", "100m", 1, 80)), nodesOf(ready("one"), ready("two")), pods(podOn("one", "0", 80))}, "ingress host ports", CheckOK, "free on 1 node"},
		"another port":        {[]func(*look){planning(wants("controller", "100m", 1, 80)), pods(podOn("one", "0", 8080))}, "ingress host ports", CheckOK, "free"},

		"a leftover webhook": {[]func(*look){dead(kube.DeadWebhookError{Name: "a.test", Lacks: kube.NoNamespace, Blocks: true})}, "ingress webhook a.test", CheckFailed, "kubectl delete"},
		"a lenient webhook":  {[]func(*look){dead(kube.DeadWebhookError{Name: "a.test", Lacks: kube.NoService})}, "ingress webhook a.test", CheckWarning, "Service is gone"},
		"our own webhook": {[]func(*look){dead(kube.DeadWebhookError{Name: "a.test", Lacks: kube.NoNamespace, Blocks: true, Service: kube.Ref{Namespace: "ingress-nginx"}})},
			"leftovers webhook a.test", CheckWarning, "puts its controller back"},
		"a left role": {[]func(*look){func(l *look) {
			l.survey.ClusterRoles.Items = []rbacv1.ClusterRole{{ObjectMeta: metav1.ObjectMeta{Name: "ingress-nginx", Annotations: map[string]string{
				helm.ReleaseNameAnnotation: ingressRelease, helm.ReleaseNamespaceAnnotation: "ingress-nginx"}}}}
		}}, "leftovers cluster roles", CheckWarning, "ClusterRole ingress-nginx"},

		"one platform":     {nil, "sources platform", CheckOK, "linux/amd64"},
		"two platforms":    {[]func(*look){nodesOf(ready("one"), arm(ready("two")))}, "sources platform", CheckWarning, "linux/amd64, linux/arm64"},
		"image loaded":     {[]func(*look){nodesOf(holding(ready("one"), "docker.io/pw/crudservice:latest"))}, "sources app image", CheckOK, "on every node"},
		"image not loaded": {[]func(*look){nodesOf(holding(ready("one"), "docker.io/library/redis:8"))}, "sources app image", CheckWarning, "docker.io would be asked"},
		"image of a registry": {[]func(*look){nodesOf(holding(ready("one"), "docker.io/library/redis:8")), func(l *look) { l.cfg.Image = "registry.test/a:1" }},
			"sources app image", CheckSkipped, "the nodes pull it"},

		"room":           {[]func(*look){planning(wants("a", "500m", 2, 0))}, "room capacity", CheckOK, "2 new pods of 1 cpu"},
		"no room":        {[]func(*look){planning(wants("a", "500m", 3, 0))}, "room capacity", CheckWarning, "1 of 3 new pods"},
		"room taken":     {[]func(*look){planning(wants("a", "500m", 1, 0)), pods(podOn("one", "600m", 0))}, "room capacity", CheckWarning, "1 of 1 new pod"},
		"pods forbidden": {[]func(*look){func(l *look) { l.survey.Pods.Err = forbidden("pods") }}, "room capacity", CheckSkipped, "this user may not"},
		"quota":          {[]func(*look){planning(wants("a", "500m", 2, 0)), quota("2")}, "room quotas", CheckOK, "none"},
		"quota short":    {[]func(*look){planning(wants("a", "500m", 2, 0)), quota("1")}, "room quotas", CheckFailed, "ResourceQuota pw-crud/q leaves 500m of requests.cpu, and 1 is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			l := well()
			for _, change := range test.change {
				change(l)
			}
			l.checkAll()
			for _, c := range l.checks {
				if string(c.Group)+" "+c.Name == test.check {
					if c.State != test.state || !strings.Contains(c.Message+"\n"+c.Hint, test.text) {
						t.Errorf("%s, want %s with %q:\n%s\n%s", c.State, test.state, test.text, c.Message, c.Hint)
					}
					return
				}
			}
			t.Errorf("no check %q in %v", test.check, l.checks)
		})
	}
}

func planning(w workload) func(*look) { return func(l *look) { l.workloads = append(l.workloads, w) } }

func pods(p ...corev1.Pod) func(*look) { return func(l *look) { l.survey.Pods.Items = p } }

func dead(w kube.DeadWebhookError) func(*look) {
	return func(l *look) { l.dead = []kube.DeadWebhookError{w} }
}

func foreign(implementation string) func(*look) {
	return func(l *look) {
		l.plan.ingress = nil
		l.plan.controller = controller{class: "nginx", foreign: true, implementation: implementation}
	}
}

// quota allows so much cpu, of which half a cpu is used.
func quota(cpu string) func(*look) {
	return func(l *look) {
		l.survey.Quotas.Items = []corev1.ResourceQuota{{ObjectMeta: metav1.ObjectMeta{Namespace: "pw-crud", Name: "q"}, Status: corev1.ResourceQuotaStatus{
			Hard: corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse(cpu)},
			Used: corev1.ResourceList{corev1.ResourceRequestsCPU: resource.MustParse("500m")},
		}}}
	}
}

// TestSeen: a look that fails is no error of the cluster's, so that up goes on; what it finds is.
func TestSeen(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want CheckState
	}{
		"nothing":         {nil, CheckOK},
		"a finding":       {&HostTakenError{}, CheckFailed},
		"a refusal":       {&kube.PodRefusedError{Err: apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "a", errors.New("exceeded quota"))}, CheckFailed},
		"forbidden":       {forbidden("ingresses"), CheckSkipped},
		"a broken answer": {&kube.RequestError{What: "list of Ingress", Err: apierrors.NewInternalError(errors.New("etcd"))}, CheckSkipped},
	} {
		t.Run(name, func(t *testing.T) {
			l := well()
			l.seen(CheckIngress, "host", test.err, "fine")
			if got := l.checks[0].State; got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestVerdict: up refuses what waiting does not mend, all of it at once and in its own words, and warns of the rest once.
func TestVerdict(t *testing.T) {
	l := well()
	var told []string
	l.events = newEmitter(func(e Event) { told = append(told, string(e.Kind)+" "+e.Message) })
	taken := &HostTakenError{Host: "demo.pw.test", Path: "/"}
	l.fail(CheckIngress, "host", taken)
	l.fail(CheckLeftovers, "namespaces", &NamespaceTerminatingError{Name: "redis"})
	l.warn(CheckNotes, "a", "worth knowing", "")
	l.add(Check{Group: CheckRoom, Name: "quotas", State: CheckFailed, Message: "too little", passes: true})
	l.skip(CheckRoom, "b", "not seen")
	err := l.verdict()
	var terminating *NamespaceTerminatingError
	if !errors.As(err, &terminating) || !errors.Is(err, taken) {
		t.Errorf("the errors are %v", err)
	}
	if got, want := strings.Join(told, "; "), "warning too little; warning worth knowing"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if err := well().verdict(); err != nil {
		t.Errorf("where all is well: %v", err)
	}
}

// TestRetiredOnce: check always says it, up only when it installs the controller.
func TestRetiredOnce(t *testing.T) {
	for name, test := range map[string]struct {
		inUp, installed, want bool
	}{
		"check, first": {false, false, true}, "check, again": {false, true, true},
		"up, first": {true, false, true}, "up, again": {true, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			l := well()
			l.inUp = test.inUp
			l.plan.ingress.spec.Chart = &helm.Chart{Name: "ingress-nginx"}
			if test.installed {
				l.plan.ingress.Current = &helm.Release{}
			}
			l.checkNotes()
			if said := len(l.checks) > 0; said != test.want {
				t.Errorf("said: %v, want %v", said, test.want)
			}
		})
	}
}

// TestCanonicalImage: names are compared as container runtimes write them.
func TestCanonicalImage(t *testing.T) {
	for image, want := range map[string]string{
		"redis":                              "docker.io/library/redis:latest",
		"pw/crudservice":                     "docker.io/pw/crudservice:latest",
		"docker.io/pw/crudservice:1":         "docker.io/pw/crudservice:1",
		"localhost/a":                        "localhost/a:latest",
		"registry.test:5000/a/b:2":           "registry.test:5000/a/b:2",
		"registry.test:5000/a/b":             "registry.test:5000/a/b:latest",
		"docker.io/library/redis:8@sha256:0": "docker.io/library/redis@sha256:0",
		"library/redis@sha256:0":             "docker.io/library/redis@sha256:0",
	} {
		if got := canonicalImage(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
	}
}
