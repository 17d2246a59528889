package ingress

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// classAnnotation is how an Ingress named its class before it had a field for it.
const classAnnotation = "kubernetes.io/ingress.class"

// State is the part of the cluster that the configuration is made from.
type State struct {
	Ingresses []*networkingv1.Ingress
	Classes   []*networkingv1.IngressClass
	Services  map[string]*corev1.Service
	Slices    []*discoveryv1.EndpointSlice
	// Secrets are those of type kubernetes.io/tls. The keys of the maps are NAMESPACE/NAME.
	Secrets map[string]*corev1.Secret
}

// Model is what the configuration says.
type Model struct {
	HTTPPort, HTTPSPort int
	Upstreams           []Upstream
	// Servers are in the order of their hosts; the one for every other host is first, and its host is empty.
	Servers []Server
}

// Upstream is the ready endpoints of a Service's port, none perhaps. Scheme is how they are spoken to.
type Upstream struct {
	Name, Scheme string
	Endpoints    []string
}

// Server is a host.
type Server struct {
	Host string
	// Secret is the name of the certificate's Secret, empty for the default certificate.
	Secret    string
	Locations []Location
}

// Location is a path of a host.
type Location struct {
	Path string
	// Exact is for this path alone. Otherwise it is for every path that starts with it.
	Exact bool
	// Upstream is empty where the Service or its port is missing.
	Upstream string
	// Redirect sends http to https.
	Redirect bool
	Settings Settings
	// Owner is the Ingress, NAMESPACE/NAME.
	Owner string
}

func key(namespace, name string) string { return namespace + "/" + name }

// ours says whether an Ingress is this controller's.
func (o *Options) ours(i *networkingv1.Ingress, classes []*networkingv1.IngressClass) bool {
	if class, ok := i.Annotations[classAnnotation]; ok && i.Spec.IngressClassName == nil {
		return class == o.IngressClass
	}
	if i.Spec.IngressClassName == nil {
		return o.WatchWithoutClass
	}
	if o.ClassByName && *i.Spec.IngressClassName == o.IngressClass {
		return true
	}
	return slices.ContainsFunc(classes, func(c *networkingv1.IngressClass) bool {
		return c.Name == *i.Spec.IngressClassName && c.Spec.Controller == o.ControllerClass
	})
}

// own returns this controller's Ingresses, the oldest first: where two claim a path, it has it.
func (o *Options) own(s State) []*networkingv1.Ingress {
	var own []*networkingv1.Ingress
	for _, i := range s.Ingresses {
		if o.ours(i, s.Classes) {
			own = append(own, i)
		}
	}
	slices.SortFunc(own, func(a, b *networkingv1.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(key(a.Namespace, a.Name), key(b.Namespace, b.Name)))
	})
	return own
}

// builder collects a model.
type builder struct {
	state     State
	servers   map[string]*Server
	upstreams map[string]Upstream
}

// NewModel makes the model of a state.
func NewModel(o *Options, s State) Model {
	b := &builder{state: s, servers: map[string]*Server{"": {}}, upstreams: map[string]Upstream{}}
	for _, i := range o.own(s) {
		b.add(i)
	}
	m := Model{HTTPPort: o.HTTPPort, HTTPSPort: o.HTTPSPort}
	for _, server := range b.servers {
		m.Servers = append(m.Servers, *server)
	}
	for _, upstream := range b.upstreams {
		m.Upstreams = append(m.Upstreams, upstream)
	}
	slices.SortFunc(m.Servers, func(a, b Server) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortFunc(m.Upstreams, func(a, b Upstream) int { return cmp.Compare(a.Name, b.Name) })
	return m
}

func (b *builder) add(i *networkingv1.Ingress) {
	// The webhook refused what can't be read; what came in without it counts as not set.
	settings, _ := readSettings(i.Annotations)
	for _, rule := range i.Spec.Rules {
		server := b.server(rule.Host)
		secret, encrypted := tlsSecret(i, rule.Host)
		if server.Secret == "" && b.state.Secrets[secret] != nil {
			server.Secret = secret
		}
		if rule.HTTP == nil {
			continue
		}
		for _, p := range rule.HTTP.Paths {
			l := Location{Settings: settings, Owner: key(i.Namespace, i.Name), Upstream: b.upstream(i.Namespace, p.Backend.Service, settings.Scheme)}
			l.Redirect = settings.ForceRedirect || encrypted && settings.Redirect
			server.addPath(p, l)
		}
	}
	if i.Spec.DefaultBackend != nil {
		l := Location{Path: "/", Settings: settings, Owner: key(i.Namespace, i.Name), Upstream: b.upstream(i.Namespace, i.Spec.DefaultBackend.Service, settings.Scheme)}
		b.server("").addLocation(l)
	}
}

func (b *builder) server(host string) *Server {
	if b.servers[host] == nil {
		b.servers[host] = &Server{Host: host}
	}
	return b.servers[host]
}

// addPath adds the locations that NGINX needs for a path. A prefix is one of whole elements: /a is for /a and /a/b,
// not for /ab.
func (s *Server) addPath(p networkingv1.HTTPIngressPath, l Location) {
	path := cmp.Or(p.Path, "/")
	kind := networkingv1.PathTypeImplementationSpecific
	if p.PathType != nil {
		kind = *p.PathType
	}
	l.Path, l.Exact = path, kind == networkingv1.PathTypeExact
	if kind != networkingv1.PathTypePrefix || path == "/" {
		s.addLocation(l)
		return
	}
	l.Path, l.Exact = strings.TrimRight(path, "/"), true
	s.addLocation(l)
	l.Path, l.Exact = l.Path+"/", false
	s.addLocation(l)
}

func (s *Server) addLocation(l Location) {
	i, found := slices.BinarySearchFunc(s.Locations, l, func(a, b Location) int {
		if a.Exact != b.Exact {
			if a.Exact {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Path, b.Path)
	})
	if !found {
		s.Locations = slices.Insert(s.Locations, i, l)
	}
}

// tlsSecret is the Secret that an Ingress names for a host, and whether it asks for https there.
func tlsSecret(i *networkingv1.Ingress, host string) (string, bool) {
	for _, t := range i.Spec.TLS {
		if slices.Contains(t.Hosts, host) {
			return key(i.Namespace, t.SecretName), true
		}
	}
	return "", false
}

// upstream adds the upstream of a backend and returns its name, or "" where there is none.
func (b *builder) upstream(namespace string, backend *networkingv1.IngressServiceBackend, scheme string) string {
	if backend == nil {
		return ""
	}
	service := b.state.Services[key(namespace, backend.Name)]
	if service == nil {
		return ""
	}
	for _, port := range service.Spec.Ports {
		if port.Port != backend.Port.Number && (backend.Port.Name == "" || port.Name != backend.Port.Name) {
			continue
		}
		// A slash, which would tell namespace from name for sure, can't be in a file's name; an underscore is in neither.
		name := fmt.Sprintf("%s_%s_%d_%s", namespace, backend.Name, port.Port, scheme)
		b.upstreams[name] = Upstream{Name: name, Scheme: scheme, Endpoints: b.endpoints(service, port.Name)}
		return name
	}
	return ""
}

// endpoints are the ready addresses of a Service's port.
func (b *builder) endpoints(service *corev1.Service, portName string) []string {
	var found []string
	for _, slice := range b.state.Slices {
		if slice.Namespace != service.Namespace || slice.Labels[discoveryv1.LabelServiceName] != service.Name {
			continue
		}
		for _, port := range slice.Ports {
			if port.Port == nil || port.Name == nil && portName != "" || port.Name != nil && *port.Name != portName {
				continue
			}
			found = append(found, ready(slice, *port.Port)...)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func ready(slice *discoveryv1.EndpointSlice, port int32) []string {
	var found []string
	for _, e := range slice.Endpoints {
		if e.Conditions.Ready != nil && !*e.Conditions.Ready {
			continue
		}
		for _, address := range e.Addresses {
			found = append(found, net.JoinHostPort(address, strconv.Itoa(int(port))))
		}
	}
	return found
}
