package ingress

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// annotationPrefix is that of the annotations by which an Ingress is tuned.
const annotationPrefix = "nginx.ingress.kubernetes.io/"

// Settings are the annotations that this controller knows, with the defaults of ingress-nginx.
type Settings struct {
	// BodySize is how large a request's body may be, as NGINX writes it. 0 is no limit.
	BodySize string
	// The time-outs are in seconds.
	ReadTimeout, SendTimeout string
	// Redirect sends http to https where the Ingress has a certificate, ForceRedirect always.
	Redirect, ForceRedirect bool
	// Scheme is that of the backend: http or https.
	Scheme string
}

var (
	sizePattern    = regexp.MustCompile(`^\d{1,9}[kmgKMG]?$`)
	secondsPattern = regexp.MustCompile(`^\d{1,6}$`)
	boolPattern    = regexp.MustCompile(`^(true|false)$`)
	schemePattern  = regexp.MustCompile(`^(HTTP|HTTPS)$`)
)

// readSettings reads the annotations. Every value ends up in NGINX's configuration, so each has to look right; for
// those that don't the default stays.
func readSettings(annotations map[string]string) (Settings, error) {
	var problems []error
	read := func(name, otherwise string, pattern *regexp.Regexp) string {
		value, ok := annotations[annotationPrefix+name]
		if !ok {
			return otherwise
		}
		if !pattern.MatchString(value) {
			problems = append(problems, fmt.Errorf("annotation %s%s contains invalid value %q", annotationPrefix, name, value))
			return otherwise
		}
		return value
	}
	s := Settings{
		BodySize:      read("proxy-body-size", "1m", sizePattern),
		ReadTimeout:   read("proxy-read-timeout", "60", secondsPattern),
		SendTimeout:   read("proxy-send-timeout", "60", secondsPattern),
		Redirect:      read("ssl-redirect", "true", boolPattern) == "true",
		ForceRedirect: read("force-ssl-redirect", "false", boolPattern) == "true",
		Scheme:        strings.ToLower(read("backend-protocol", "HTTP", schemePattern)),
	}
	return s, errors.Join(problems...)
}

// snippets are the annotations that would put text of the user's into the configuration, sorted.
func snippets(annotations map[string]string) []string {
	var found []string
	for name := range annotations {
		if strings.HasPrefix(name, annotationPrefix) && strings.HasSuffix(name, "-snippet") {
			found = append(found, strings.TrimPrefix(name, annotationPrefix))
		}
	}
	slices.SortFunc(found, cmp.Compare[string])
	return found
}
