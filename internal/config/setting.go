package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Setting is one value that can be set: its path in pwdeploy.yaml, its flag where it has one, and what
// it does.
type Setting struct {
	Path  string // redis.chart.ref
	Flag  string // empty: no flag of its own
	Value string // what stands for the value in a flag's help; "bool": the flag alone means true
	Usage string
	set   func(c *Config, value string) error
}

// Env is the setting's environment variable: PWDEPLOY_REDIS_CHART_REF.
func (s Setting) Env() string {
	var b strings.Builder
	for i, r := range s.Path {
		switch {
		case r == '.':
			b.WriteByte('_')
		case r >= 'A' && r <= 'Z' && i > 0:
			b.WriteByte('_')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return EnvPrefix + strings.ToUpper(b.String())
}

// Settings are all of them, in the order in which they are documented.
func Settings() []Setting {
	return []Setting{
		{"kubeconfig", "kubeconfig", "FILE", "kubeconfig to use (default: KUBECONFIG, then ~/.kube/config)", text(func(c *Config) *string { return &c.Kubeconfig })},
		{"context", "context", "NAME", "kubeconfig context to use (default: the current one)", text(func(c *Config) *string { return &c.Context })},
		{"profile", "profile", "local|aws", "kind of cluster (default: detected)", text(func(c *Config) *string { return &c.Profile })},
		{"namespace", "namespace", "NAME", "namespace of the app", text(func(c *Config) *string { return &c.Namespace })},
		{"host", "host", "NAME", "DNS name that the app is served under", text(func(c *Config) *string { return &c.Host })},
		{"image", "image", "IMAGE", "image of the app", text(func(c *Config) *string { return &c.Image })},
		{"replicas", "replicas", "N", "number of the app's pods", number(func(c *Config) *int { return &c.Replicas })},
		{"keepReplicas", "keep-replicas", "bool", "leave the number of pods as it is once the app is there, to an autoscaler or to people", boolean(func(c *Config) *bool { return &c.KeepReplicas })},
		{"timeout", "timeout", "DURATION", "how long a command may take in all", duration(func(c *Config) *Duration { return &c.Timeout })},
		{"logLevel", "log-level", "LEVEL", "what is logged to standard error: debug, info, warn or error", text(func(c *Config) *string { return &c.LogLevel })},
		{"cacheDir", "", "", "folder where fetched charts are kept", text(func(c *Config) *string { return &c.CacheDir })},
		{"redis.namespace", "", "", "namespace of Redis", text(func(c *Config) *string { return &c.Redis.Namespace })},
		{"redis.storageClass", "", "", "StorageClass of Redis' volumes, where the profile has some", text(func(c *Config) *string { return &c.Redis.StorageClass })},
		{"redis.chart.ref", "", "", "Redis chart: oci://, https://, a .tgz or a folder", text(func(c *Config) *string { return &c.Redis.Chart.Ref })},
		{"redis.chart.version", "", "", "version of the Redis chart", text(func(c *Config) *string { return &c.Redis.Chart.Version })},
		{"redis.chart.digest", "", "", "sha256 digest that the Redis chart must have", text(func(c *Config) *string { return &c.Redis.Chart.Digest })},
		{"redis.chart.values", "", "", "extra values files for the Redis chart, separated by commas", list(func(c *Config) *[]string { return &c.Redis.Chart.Values })},
		{"ingress.namespace", "", "", "namespace of ingress-nginx", text(func(c *Config) *string { return &c.Ingress.Namespace })},
		{"ingress.className", "", "", "ingress class that serves the app", text(func(c *Config) *string { return &c.Ingress.ClassName })},
		{"ingress.defaultClass", "", "", "make that class the cluster's default", boolean(func(c *Config) *bool { return &c.Ingress.DefaultClass })},
		{"ingress.chart.ref", "", "", "ingress-nginx chart: oci://, https://, a .tgz or a folder", text(func(c *Config) *string { return &c.Ingress.Chart.Ref })},
		{"ingress.chart.version", "", "", "version of the ingress-nginx chart", text(func(c *Config) *string { return &c.Ingress.Chart.Version })},
		{"ingress.chart.digest", "", "", "sha256 digest that the ingress-nginx chart must have", text(func(c *Config) *string { return &c.Ingress.Chart.Digest })},
		{"ingress.chart.values", "", "", "extra values files for the ingress-nginx chart, separated by commas", list(func(c *Config) *[]string { return &c.Ingress.Chart.Values })},
	}
}

func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		*field(c) = v
		return nil
	}
}

func list(field func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, v string) error {
		*field(c) = nil
		for _, item := range strings.Split(v, ",") {
			if item = strings.TrimSpace(item); item != "" {
				*field(c) = append(*field(c), item)
			}
		}
		return nil
	}
}

func number(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", v)
		}
		*field(c) = n
		return nil
	}
}

func boolean(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*field(c) = b
		return nil
	}
}

func duration(field func(*Config) *Duration) func(*Config, string) error {
	return func(c *Config, v string) error { return field(c).UnmarshalText([]byte(v)) }
}
