package stack

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"
)

// The versions of Kubernetes: older ones than the first have no preStop sleep action (KEP-3960, beta in
// 1.30), which the app's pods end with; the second is the newest that pwdeploy is tested with.
const (
	oldestKubernetes = "1.30"
	newestKubernetes = "1.37"
)

// slowAnswer is when an API server counts as slow: an up sends some hundred requests.
const slowAnswer = time.Second

// What two clocks may differ by. Certificates and tokens that were made just now are refused by a machine
// whose clock is behind, and times that are shown mislead.
const (
	clockWarning = 5 * time.Second
	clockError   = 2 * time.Minute
)

func (l *look) checkCluster() {
	l.checkAnswer()
	l.checkVersion()
	l.checkClock()
	l.checkNodes()
}

func (l *look) checkAnswer() {
	a := l.survey.Answer
	switch {
	case a.Err != nil:
		l.unseen(CheckCluster, "API server", a.Err)
	case a.Took > slowAnswer:
		l.warn(CheckCluster, "API server", fmt.Sprintf("it took %.1f s to answer", a.Took.Seconds()), "an up sends some hundred requests: give it time with --timeout")
	default:
		l.ok(CheckCluster, "API server", fmt.Sprintf("answers in %d ms", a.Took.Milliseconds()))
	}
}

func (l *look) checkVersion() {
	const name = "version"
	v, err := version.ParseGeneric(l.target.Kubernetes)
	switch {
	case err != nil:
		l.skip(CheckCluster, name, fmt.Sprintf("%q is not a version that can be compared", l.target.Kubernetes))
	case v.LessThan(version.MustParseGeneric(oldestKubernetes)):
		l.fail(CheckCluster, name, &CheckError{
			Message: fmt.Sprintf("Kubernetes %s is too old: the app's pods need %s or later", l.target.Kubernetes, oldestKubernetes),
			Advice:  "upgrade the cluster, or choose another one with --context",
		})
	case v.Minor() > version.MustParseGeneric(newestKubernetes).Minor() || v.Major() > 1:
		l.warn(CheckCluster, name, fmt.Sprintf("Kubernetes %s is newer than what pwdeploy is tested with, %s", l.target.Kubernetes, newestKubernetes), "a newer pwdeploy may know it")
	default:
		l.ok(CheckCluster, name, fmt.Sprintf("Kubernetes %s, at least %s is needed", l.target.Kubernetes, oldestKubernetes))
	}
}

func (l *look) checkClock() {
	const name = "clock"
	if l.survey.Answer.Err != nil {
		return
	}
	ahead := l.survey.Answer.Ahead
	off, which := ahead, "ahead of"
	if ahead < 0 {
		off, which = -ahead, "behind"
	}
	message := fmt.Sprintf("this machine's clock is %s %s the cluster's", off.Round(time.Second), which)
	hint := "set both by NTP: certificates and tokens are only valid in their time (timedatectl set-ntp true)"
	switch {
	case off > clockError:
		l.fail(CheckCluster, name, &CheckError{Message: message, Advice: hint})
	case off > clockWarning:
		l.warn(CheckCluster, name, message, hint)
	default:
		l.ok(CheckCluster, name, "this machine's and the cluster's agree")
	}
}

func (l *look) checkNodes() {
	const name = "nodes"
	if l.survey.Nodes.Err != nil {
		l.unseen(CheckCluster, name, l.survey.Nodes.Err)
		return
	}
	all := len(l.survey.Nodes.Items)
	usable := len(l.usableNodes())
	switch {
	case all == 0:
		l.warn(CheckCluster, name, "there are none", "a cluster that makes nodes when pods need them (EKS Auto Mode, Karpenter) is fine; any other one needs a node")
	case usable == 0:
		l.add(Check{Group: CheckCluster, Name: name, State: CheckFailed, passes: true,
			Message: fmt.Sprintf("none of %s can take pods: %s", countedThings(all, "node"), strings.Join(l.unusableNodes(), ", ")),
			Hint:    "kubectl describe nodes says why a node is not ready; kubectl uncordon NODE lets pods on it again"})
	case usable < all:
		l.ok(CheckCluster, name, fmt.Sprintf("%d of %d can take pods; not %s", usable, all, strings.Join(l.unusableNodes(), ", ")))
	default:
		l.ok(CheckCluster, name, countedThings(all, "node")+", ready and schedulable")
	}
}

// usableNodes are those that pods can be put on, taints of the user's own apart.
func (l *look) usableNodes() []corev1.Node {
	return slices.DeleteFunc(slices.Clone(l.survey.Nodes.Items), func(n corev1.Node) bool { return whyUnusable(&n) != "" })
}

func (l *look) unusableNodes() []string {
	var out []string
	for i := range l.survey.Nodes.Items {
		n := &l.survey.Nodes.Items[i]
		if why := whyUnusable(n); why != "" {
			out = append(out, fmt.Sprintf("%s (%s)", n.Name, why))
		}
	}
	return out
}

func whyUnusable(n *corev1.Node) string {
	switch {
	case n.DeletionTimestamp != nil:
		return "being deleted"
	case n.Spec.Unschedulable:
		return "cordoned"
	case !slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}):
		return "not ready"
	}
	return ""
}

// countedThings words a number of things.
func countedThings(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
