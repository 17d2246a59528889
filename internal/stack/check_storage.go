package stack

import (
	"fmt"
	"slices"
	"strings"

	storagev1 "k8s.io/api/storage/v1"
)

// defaultClassMark is the annotation of the class that claims get which name none.
const defaultClassMark = "storageclass.kubernetes.io/is-default-class"

// noProvisioner is what a class names whose volumes an administrator makes by hand.
const noProvisioner = "kubernetes.io/no-provisioner"

func (l *look) checkStorage() {
	const name = "volumes"
	classes := map[string]bool{} // that the plan's claims name; empty: the default
	for _, w := range l.workloads {
		for _, claim := range w.claims {
			class := ""
			if claim.Spec.StorageClassName != nil {
				class = *claim.Spec.StorageClassName
			}
			classes[class] = true
		}
	}
	switch {
	case len(classes) == 0:
		l.ok(CheckStorage, name, fmt.Sprintf("none is needed: with profile %s Redis keeps its data in memory", l.target.Profile))
		return
	case l.survey.StorageClasses.Err != nil:
		l.unseen(CheckStorage, name, l.survey.StorageClasses.Err)
		return
	}
	for class := range classes {
		l.checkStorageClass(name, class)
	}
}

func (l *look) checkStorageClass(name, wanted string) {
	found := findClass(l.survey.StorageClasses.Items, wanted)
	hint := "name one that is there with redis.storageClass; " + l.knownClasses()
	switch {
	case found == nil && wanted == "":
		l.add(Check{Group: CheckStorage, Name: name, State: CheckFailed, passes: true,
			Message: "Redis' volumes need a default StorageClass, and the cluster has none", Hint: hint})
	case found == nil:
		l.add(Check{Group: CheckStorage, Name: name, State: CheckFailed, passes: true,
			Message: fmt.Sprintf("Redis' volumes need StorageClass %s, which is not there", wanted), Hint: hint})
	case found.Provisioner == noProvisioner:
		l.warn(CheckStorage, name, fmt.Sprintf("StorageClass %s makes no volumes: an administrator has to", found.Name), hint)
	default:
		l.ok(CheckStorage, name, fmt.Sprintf("StorageClass %s makes them (%s)", found.Name, found.Provisioner))
	}
}

func findClass(all []storagev1.StorageClass, wanted string) *storagev1.StorageClass {
	i := slices.IndexFunc(all, func(c storagev1.StorageClass) bool {
		return c.Name == wanted || wanted == "" && c.Annotations[defaultClassMark] == "true"
	})
	if i < 0 {
		return nil
	}
	return &all[i]
}

func (l *look) knownClasses() string {
	names := make([]string, 0, len(l.survey.StorageClasses.Items))
	for _, c := range l.survey.StorageClasses.Items {
		names = append(names, c.Name)
	}
	if len(names) == 0 {
		return "the cluster has no StorageClass at all: install a provisioner (on EKS the EBS CSI driver)"
	}
	slices.Sort(names)
	return "there are: " + strings.Join(names, ", ")
}
