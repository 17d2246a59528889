package stack

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// tryPods asks by dry runs whether the cluster takes the pods that are to be made in namespaces that are there.
// Of a Deployment's dry run the API server would only warn.
func (l *look) tryPods(ctx context.Context) {
	var group sync.WaitGroup
	for _, w := range l.workloads {
		if !w.fresh || !l.exists(w.ref.Namespace) {
			continue
		}
		group.Go(func() {
			known, err := l.kube.TryPod(ctx, w.ref, w.wholePod())
			name := "pods of " + w.ref.Name
			switch {
			case known || err != nil:
				l.seen(CheckRoom, name, err, "quotas, limits and Pod Security of namespace "+w.ref.Namespace+" allow them")
			default:
				l.skip(CheckRoom, name, "not tried, because this user may not make pods in "+w.ref.Namespace)
			}
		})
	}
	group.Wait()
}

// exists reports whether the plan found the namespace.
func (l *look) exists(namespace string) bool {
	return slices.ContainsFunc(l.plan.namespaces, func(p namespacePlan) bool { return p.exists && p.object.GetName() == namespace })
}

func (l *look) checkRoom() {
	l.checkQuotas()
	l.checkCapacity()
}

// needs are what pods ask for.
type needs struct {
	pods                             int
	cpu, memory, cpuMost, memoryMost resource.Quantity
}

func (n *needs) add(pod *corev1.PodSpec, times int) {
	n.pods += times
	for range times {
		for _, c := range pod.Containers {
			n.cpu.Add(*c.Resources.Requests.Cpu())
			n.memory.Add(*c.Resources.Requests.Memory())
			n.cpuMost.Add(*c.Resources.Limits.Cpu())
			n.memoryMost.Add(*c.Resources.Limits.Memory())
		}
	}
}

// of gives what a quota's resource counts, or false for one that nothing is known of.
func (n *needs) of(name corev1.ResourceName) (resource.Quantity, bool) {
	switch name {
	case corev1.ResourcePods:
		return *resource.NewQuantity(int64(n.pods), resource.DecimalSI), true
	case corev1.ResourceCPU, corev1.ResourceRequestsCPU:
		return n.cpu, true
	case corev1.ResourceMemory, corev1.ResourceRequestsMemory:
		return n.memory, true
	case corev1.ResourceLimitsCPU:
		return n.cpuMost, true
	case corev1.ResourceLimitsMemory:
		return n.memoryMost, true
	}
	return resource.Quantity{}, false
}

// checkQuotas adds up what all pods of a namespace ask for: each for itself may fit.
func (l *look) checkQuotas() {
	const name = "quotas"
	if l.survey.Quotas.Err != nil {
		l.unseen(CheckRoom, name, l.survey.Quotas.Err)
		return
	}
	wanted := map[string]*needs{}
	for _, w := range l.workloads {
		if w.fresh && w.lasting() {
			if wanted[w.ref.Namespace] == nil {
				wanted[w.ref.Namespace] = &needs{}
			}
			wanted[w.ref.Namespace].add(&w.pod.Spec, w.replicas)
		}
	}
	var short []string
	for i := range l.survey.Quotas.Items {
		quota := &l.survey.Quotas.Items[i]
		if n := wanted[quota.Namespace]; n != nil {
			short = append(short, shortOf(quota, n)...)
		}
	}
	if len(short) > 0 {
		l.add(Check{Group: CheckRoom, Name: name, State: CheckFailed, passes: true, Message: strings.Join(short, "; "),
			Hint: "raise the quota, or lower --replicas"})
		return
	}
	l.ok(CheckRoom, name, "none is in the way of what up makes")
}

// shortOf says of which of a quota's resources there is too little. Quotas for some pods only are left out.
func shortOf(quota *corev1.ResourceQuota, n *needs) []string {
	if len(quota.Spec.Scopes) > 0 || quota.Spec.ScopeSelector != nil {
		return nil
	}
	var out []string
	for name, hard := range quota.Status.Hard {
		need, known := n.of(name)
		left := hard.DeepCopy()
		left.Sub(quota.Status.Used[name])
		if known && need.Cmp(left) > 0 {
			out = append(out, fmt.Sprintf("ResourceQuota %s/%s leaves %s of %s, and %s is needed", quota.Namespace, quota.Name, left.String(), name, need.String()))
		}
	}
	slices.Sort(out)
	return out
}

// room is what a node has left.
type room struct {
	name        string
	cpu, memory resource.Quantity
	pods        int64
}

func (r *room) take(pod *corev1.PodSpec) {
	r.pods--
	for _, c := range pod.Containers {
		r.cpu.Sub(*c.Resources.Requests.Cpu())
		r.memory.Sub(*c.Resources.Requests.Memory())
	}
}

func (r *room) fits(n *needs) bool {
	return r.pods > 0 && r.cpu.Cmp(n.cpu) >= 0 && r.memory.Cmp(n.memory) >= 0
}

// checkCapacity puts the pods that are to be made on the nodes, one after the other, each where it fits.
// The scheduler may do it otherwise; what does not fit here, hardly fits there.
func (l *look) checkCapacity() {
	const name = "capacity"
	switch {
	case l.survey.Nodes.Err != nil:
		l.unseen(CheckRoom, name, l.survey.Nodes.Err)
		return
	case l.survey.Pods.Err != nil:
		l.unseen(CheckRoom, name, l.survey.Pods.Err)
		return
	case len(l.usableNodes()) == 0:
		l.skip(CheckRoom, name, "no node is there that could be looked at")
		return
	}
	rooms := l.rooms()
	total, homeless := &needs{}, 0
	for _, w := range l.workloads {
		if !w.fresh || !w.lasting() {
			continue
		}
		total.add(&w.pod.Spec, w.replicas)
		homeless += place(rooms, &w.pod.Spec, w.replicas)
	}
	what := fmt.Sprintf("%s of %s cpu and %s memory", countedThings(total.pods, "new pod"), total.cpu.String(), total.memory.String())
	switch {
	case total.pods == 0:
		l.ok(CheckRoom, name, "no new pods are needed")
	case homeless > 0:
		l.warn(CheckRoom, name, fmt.Sprintf("%d of %s fit on no node", homeless, what),
			"kubectl describe nodes shows what takes the room; add a node, or lower --replicas. A cluster that makes nodes when pods need them is fine")
	default:
		l.ok(CheckRoom, name, what+" fit on the nodes")
	}
}

// rooms gives what each usable node has left beside the pods on it.
func (l *look) rooms() []*room {
	var out []*room
	byName := map[string]*room{}
	for _, n := range l.usableNodes() {
		r := &room{name: n.Name, cpu: n.Status.Allocatable.Cpu().DeepCopy(), memory: n.Status.Allocatable.Memory().DeepCopy(), pods: n.Status.Allocatable.Pods().Value()}
		out, byName[n.Name] = append(out, r), r
	}
	for i := range l.survey.Pods.Items {
		pod := &l.survey.Pods.Items[i]
		if r := byName[pod.Spec.NodeName]; r != nil && !ended(pod) {
			r.take(&pod.Spec)
		}
	}
	return out
}

// place puts pods on nodes and returns how many found none.
func place(rooms []*room, pod *corev1.PodSpec, times int) (homeless int) {
	one := &needs{}
	one.add(pod, 1)
	for range times {
		i := slices.IndexFunc(rooms, func(r *room) bool { return r.fits(one) })
		if i < 0 {
			homeless++
			continue
		}
		rooms[i].take(pod)
	}
	return homeless
}
