package stack

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// checkImages says what can be known of the images without asking a registry: the nodes pull them, by their
// own way and with their own credentials, so that an answer from here would prove nothing.
func (l *look) checkImages() {
	l.checkPlatform()
	var elsewhere []string
	for _, image := range l.images() {
		if image != l.cfg.Image {
			elsewhere = append(elsewhere, image)
		}
	}
	if len(elsewhere) > 0 {
		l.skip(CheckSources, "images", "not asked for from here, the nodes pull them: "+strings.Join(elsewhere, ", "))
	}
	l.checkAppImage()
}

// images gives the images of the plan, each once.
func (l *look) images() []string {
	var out []string
	for _, w := range l.workloads {
		for _, c := range append(slices.Clone(w.pod.Spec.InitContainers), w.pod.Spec.Containers...) {
			if !slices.Contains(out, c.Image) {
				out = append(out, c.Image)
			}
		}
	}
	slices.Sort(out)
	return out
}

func (l *look) checkAppImage() {
	const name = "app image"
	image := l.cfg.Image
	on, known := l.nodesWith(image)
	switch {
	case on > 0 && on == len(l.survey.Nodes.Items):
		l.ok(CheckSources, name, fmt.Sprintf("%s is on every node already%s", image, moving(image)))
	case on > 0:
		l.ok(CheckSources, name, fmt.Sprintf("%s is on %d of %d nodes already%s; the others pull it", image, on, len(l.survey.Nodes.Items), moving(image)))
	case known && !hasRegistry(image):
		l.warn(CheckSources, name, fmt.Sprintf("no node reports %s, and its name has no registry: docker.io would be asked", image),
			"load it into the nodes (kind load docker-image, minikube image load), or name one with its registry by --image")
	default:
		l.skip(CheckSources, name, fmt.Sprintf("%s: not asked for from here, the nodes pull it%s", image, moving(image)))
	}
}

// moving words what a tag that moves means with the pods' pull policy, which is IfNotPresent.
func moving(image string) string {
	if strings.HasSuffix(canonicalImage(image), ":latest") {
		return " (a tag that moves: a node that has it does not look for a newer one)"
	}
	return ""
}

// nodesWith counts the nodes that report an image. known is false where none reports any: a kubelet names up
// to fifty, the largest first.
func (l *look) nodesWith(image string) (on int, known bool) {
	wanted := canonicalImage(image)
	for _, n := range l.survey.Nodes.Items {
		known = known || len(n.Status.Images) > 0
		if slices.ContainsFunc(n.Status.Images, func(i corev1.ContainerImage) bool {
			return slices.ContainsFunc(i.Names, func(name string) bool { return canonicalImage(name) == wanted })
		}) {
			on++
		}
	}
	return on, known
}

// hasRegistry tells a registry's host from the first part of a name as container runtimes do: it has a dot or
// a port, or is localhost.
func hasRegistry(image string) bool {
	first, _, found := strings.Cut(image, "/")
	return found && (strings.ContainsAny(first, ".:") || first == "localhost")
}

// canonicalImage fills in what a name leaves out: docker.io, library, latest. A digest makes the tag void.
func canonicalImage(image string) string {
	if !hasRegistry(image) {
		if !strings.Contains(image, "/") {
			image = "library/" + image
		}
		image = "docker.io/" + image
	}
	name, digest, pinned := strings.Cut(image, "@")
	slash := strings.LastIndex(name, "/")
	base, tag, tagged := strings.Cut(name[slash+1:], ":")
	switch {
	case pinned:
		return name[:slash+1] + base + "@" + digest
	case !tagged:
		tag = "latest"
	}
	return name[:slash+1] + base + ":" + tag
}

func (l *look) checkPlatform() {
	const name = "platform"
	if l.survey.Nodes.Err != nil {
		l.unseen(CheckSources, name, l.survey.Nodes.Err)
		return
	}
	var platforms []string
	for _, n := range l.survey.Nodes.Items {
		platform := n.Status.NodeInfo.OperatingSystem + "/" + n.Status.NodeInfo.Architecture
		if platform != "/" && !slices.Contains(platforms, platform) {
			platforms = append(platforms, platform)
		}
	}
	slices.Sort(platforms)
	switch len(platforms) {
	case 0:
		l.skip(CheckSources, name, "the nodes don't tell theirs")
	case 1:
		l.ok(CheckSources, name, "every node is "+platforms[0]+": the images have to be made for it")
	default:
		l.warn(CheckSources, name, "the nodes differ: "+strings.Join(platforms, ", "),
			"each image has to be made for all of them, or its pods fail with \"exec format error\" where it is not: docker buildx imagetools inspect IMAGE lists what it is made for")
	}
}

func (l *look) checkNotes() {
	if l.plan.ingress == nil || l.plan.ingress.spec.Chart == nil || l.plan.ingress.spec.Chart.Name != ingressRelease {
		return
	}
	if l.inUp && l.plan.ingress.Current != nil {
		return // it was said when it was installed
	}
	l.warn(CheckNotes, "ingress-nginx", "ingress-nginx was retired by its makers in March 2026: holes that are found in it are no longer mended",
		"fine for development; where the public can reach it, bring another controller (Traefik serves Ingresses of class nginx too) and name its class by ingress.className: pwdeploy then uses that one")
}
