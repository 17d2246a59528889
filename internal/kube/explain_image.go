package kube

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// isPullProblem tells the kubelet's reasons for an image that it does not have
// (https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/images/types.go).
func isPullProblem(reason string) bool {
	return reason == "ImagePullBackOff" || reason == "ErrImagePull" || reason == "ErrImageNeverPull"
}

// pullPatience is how long a pull may fail for a reason that may pass: the kubelet has tried again by then.
const pullPatience = 15 * time.Second

// pull explains an image that can't be pulled. Its reasons take turns, so they count as one.
func (p *podView) pull(problem *Problem, image string) {
	problem.cause, problem.Final, problem.Patience = "pull", true, pullPatience
	if problem.Reason == "ImagePullBackOff" {
		p.pullAnswer(problem)
	}
	switch code := registryAnswer(problem.Message); {
	case problem.Reason == "ErrImageNeverPull":
		problem.Patience = 0
		problem.Hint = fmt.Sprintf("image %s is not on the node and the pod forbids to pull it: load it (kind load docker-image, minikube image load)", image)
	case problem.Reason == "SignatureValidationFailed":
		problem.Patience = 0
		problem.Hint = fmt.Sprintf("the node's policy does not trust the signature of image %s: use one that is signed as it asks", image)
	case code == http.StatusTooManyRequests:
		problem.Final = false
		problem.Hint = fmt.Sprintf("the registry limits how many images this node may pull; the kubelet tries again, which may help. To get past the limit log in (%s) or name a mirror", p.pullSecrets())
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		problem.Hint = fmt.Sprintf("the registry refuses to hand out image %s: it does not exist, or needs a login (%s)", image, p.pullSecrets())
	case code >= http.StatusInternalServerError, problem.Reason == "RegistryUnavailable":
		problem.Final = false
		problem.Hint = "the registry is in trouble; the kubelet tries again, which may help"
	case strings.Contains(problem.Message, wantsTLS):
		problem.Hint = fmt.Sprintf("the registry of image %s speaks plain HTTP, which the nodes' container runtime does not: give it a certificate, or allow the runtime to (minikube start --insecure-registry, a hosts.toml of containerd)", image)
	case strings.Contains(problem.Message, unknownAuthority):
		problem.Hint = fmt.Sprintf("the nodes don't trust the certificate of the registry of image %s: give their container runtime the authority that signed it (a hosts.toml of containerd)", image)
	default:
		problem.Hint = fmt.Sprintf("check that image %s exists and can be pulled; on a local cluster load it first (kind load docker-image, minikube image load)", image)
	}
}

// What Go's net/http and crypto/x509 say of a registry that the runtime does not talk to. The kubelet has no field for it.
const (
	wantsTLS         = "server gave HTTP response to HTTPS client"
	unknownAuthority = "certificate signed by unknown authority"
)

// pullAnswer adds what the registry said to a back-off that does not repeat it: older kubelets leave it to an event.
func (p *podView) pullAnswer(problem *Problem) {
	if registryAnswer(problem.Message) != 0 {
		return
	}
	for _, e := range eventsAbout(p.view, p.obj, "", "Failed") {
		if registryAnswer(e.Message) != 0 {
			problem.Message = e.Message
			return
		}
	}
}

// pullSecrets says which credentials the kubelet pulled with.
func (p *podView) pullSecrets() string {
	var names []string
	for _, s := range p.pod.Spec.ImagePullSecrets {
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return "the pod names no imagePullSecrets"
	}
	return "the pod names imagePullSecrets " + strings.Join(names, ", ")
}

// registryAnswer is the HTTP status with which a registry refused, or 0. The kubelet and the runtime have no
// field for it; what they pass on is the status line (RFC 9110, 15).
func registryAnswer(message string) int {
	for _, code := range []int{
		http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	} {
		if strings.Contains(message, fmt.Sprintf("%d %s", code, http.StatusText(code))) {
			return code
		}
	}
	for _, refusal := range refusals {
		if strings.Contains(message, refusal) {
			return http.StatusUnauthorized
		}
	}
	return 0
}

// refusals are what stands in place of a status line where a registry wants a login: what containerd and Docker make of a
// token that is not good for the image, and the OCI distribution specification's error codes as CRI-O passes them on.
var refusals = []string{"pull access denied", "authorization failed", "authentication required", "access to the resource is denied"}
