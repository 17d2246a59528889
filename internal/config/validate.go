package config

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// origins remembers where each setting's value came from, by its path.
type origins map[string]string

// fileOrigin is the key of the configuration file's path.
const fileOrigin = ""

func (o origins) inFile(path string) { o[fileOrigin] = filepath.Base(path) }

// of says where a value came from, for messages.
func (o origins) of(path string) string {
	if w, ok := o[path]; ok {
		return w
	}
	if file, ok := o[fileOrigin]; ok {
		return file + ": " + path
	}
	return path
}

// validate reports everything that is wrong, not just the first.
func (c *Config) validate(where origins) error {
	var errs []error
	bad := func(path, format string, args ...any) {
		errs = append(errs, &Error{Where: where.of(path), Detail: fmt.Sprintf(format, args...)})
	}
	if c.Profile != "" && c.Profile != ProfileLocal && c.Profile != ProfileAWS {
		bad("profile", "%q is not a profile: use %s or %s", c.Profile, ProfileLocal, ProfileAWS)
	}
	if c.Timeout <= 0 {
		bad("timeout", "must be more than zero")
	}
	if c.Replicas < 1 {
		bad("replicas", "must be at least 1: pwdeploy down is what takes the app away")
	}
	if err := new(slog.Level).UnmarshalText([]byte(c.LogLevel)); err != nil {
		bad("logLevel", "%q is not a level: use debug, info, warn or error", c.LogLevel)
	}
	for _, ns := range []struct{ path, name string }{
		{"namespace", c.Namespace}, {"redis.namespace", c.Redis.Namespace}, {"ingress.namespace", c.Ingress.Namespace},
	} {
		if problems := validation.IsDNS1123Label(ns.name); len(problems) > 0 {
			bad(ns.path, "%q is not a namespace: %s", ns.name, strings.Join(problems, "; "))
		}
	}
	if problems := validation.IsDNS1123Subdomain(c.Ingress.ClassName); len(problems) > 0 {
		bad("ingress.className", "%q is not an ingress class: %s", c.Ingress.ClassName, strings.Join(problems, "; "))
	}
	if c.Namespace == c.Redis.Namespace || c.Namespace == c.Ingress.Namespace || c.Redis.Namespace == c.Ingress.Namespace {
		bad("namespace", "the app, Redis and ingress-nginx each need a namespace of their own")
	}
	return errors.Join(errs...)
}
