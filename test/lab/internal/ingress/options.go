// Package ingress is the lab's ingress controller: it writes NGINX's configuration from the cluster's Ingresses and
// reloads it. It takes the place of ingress-nginx under that one's own, unchanged chart, and does the small part of its
// work that a lab needs.
package ingress

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Options are the flags of ingress-nginx that this controller knows. It accepts the others and does nothing about them.
type Options struct {
	ControllerClass    string
	IngressClass       string
	ClassByName        bool
	WatchWithoutClass  bool
	WatchNamespace     string
	PublishAddress     string
	PublishService     string
	UpdateStatus       bool
	HealthPath         string
	HealthHost         string
	HealthPort         int
	HTTPPort           int
	HTTPSPort          int
	Webhook            string
	WebhookCertificate string
	WebhookKey         string
	// ShutdownGrace is how long the controller, no longer ready, goes on serving after it was told to stop.
	ShutdownGrace time.Duration
	// PodNamespace and PodName are where it runs itself.
	PodNamespace, PodName string
}

// AddFlags adds the flags with the defaults of ingress-nginx.
func (o *Options) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&o.ControllerClass, "controller-class", "k8s.io/ingress-nginx", "the controller in the IngressClasses that are this one's")
	f.StringVar(&o.IngressClass, "ingress-class", "nginx", "the class in the annotation kubernetes.io/ingress.class")
	f.BoolVar(&o.ClassByName, "ingress-class-by-name", false, "take IngressClasses of that name too, whatever their controller")
	f.BoolVar(&o.WatchWithoutClass, "watch-ingress-without-class", false, "take Ingresses without a class too")
	f.StringVar(&o.WatchNamespace, "watch-namespace", "", "the only namespace to look at, empty for all")
	f.StringVar(&o.PublishAddress, "publish-status-address", "", "addresses for the status of the Ingresses, separated by commas")
	f.StringVar(&o.PublishService, "publish-service", "", "the Service, NAMESPACE/NAME, whose addresses go there")
	f.BoolVar(&o.UpdateStatus, "update-status", true, "write the status of the Ingresses")
	f.StringVar(&o.HealthPath, "health-check-path", "/healthz", "the path that says whether the controller works")
	f.StringVar(&o.HealthHost, "healthz-host", "", "the address that it is served on")
	f.IntVar(&o.HealthPort, "healthz-port", 10254, "the port that it is served on")
	f.IntVar(&o.HTTPPort, "http-port", 80, "the port of http")
	f.IntVar(&o.HTTPSPort, "https-port", 443, "the port of https")
	f.StringVar(&o.Webhook, "validating-webhook", "", "the address to serve the admission webhook on, empty for none")
	f.StringVar(&o.WebhookCertificate, "validating-webhook-certificate", "", "its certificate")
	f.StringVar(&o.WebhookKey, "validating-webhook-key", "", "its key")
	f.Var((*seconds)(&o.ShutdownGrace), "shutdown-grace-period", "seconds to go on serving after the signal to stop")
	o.PodNamespace, o.PodName = os.Getenv("POD_NAMESPACE"), os.Getenv("POD_NAME")
}

// seconds is a flag's value in whole seconds.
type seconds time.Duration

// String implements pflag.Value.
func (s *seconds) String() string { return fmt.Sprint(int(time.Duration(*s).Seconds())) }

// Type implements pflag.Value.
func (s *seconds) Type() string { return "int" }

// Set implements pflag.Value.
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text + "s")
	*s = seconds(d)
	return err
}

// publishService splits the Service's name.
func (o *Options) publishService() (namespace, name string, ok bool) {
	return strings.Cut(o.PublishService, "/")
}
