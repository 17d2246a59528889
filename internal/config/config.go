// Package config makes one validated Config out of defaults, pwdeploy.yaml, the environment and flags.
// Later ones win, in that order.
package config

import (
	"fmt"
	"time"
)

// FileName is the configuration file that is read from the working directory if it is there.
const FileName = "pwdeploy.yaml"

// EnvPrefix starts the name of every environment variable that is read.
const EnvPrefix = "PWDEPLOY_"

// Config says what to deploy, and where.
type Config struct {
	Kubeconfig   string   `yaml:"kubeconfig"`
	Context      string   `yaml:"context"`
	Profile      string   `yaml:"profile"`
	Namespace    string   `yaml:"namespace"`
	Host         string   `yaml:"host"`
	Image        string   `yaml:"image"`
	Replicas     int      `yaml:"replicas"`
	KeepReplicas bool     `yaml:"keepReplicas"`
	Timeout      Duration `yaml:"timeout"`
	LogLevel     string   `yaml:"logLevel"`
	CacheDir     string   `yaml:"cacheDir"`
	Redis        Redis    `yaml:"redis"`
	Ingress      Ingress  `yaml:"ingress"`

	File string `yaml:"-"` // absolute path of the file that was read; empty if there was none
}

// Redis configures the Redis release.
type Redis struct {
	Namespace    string `yaml:"namespace"`
	StorageClass string `yaml:"storageClass"`
	Chart        Chart  `yaml:"chart"`
}

// Ingress configures the ingress controller.
type Ingress struct {
	Namespace    string `yaml:"namespace"`
	ClassName    string `yaml:"className"`
	DefaultClass bool   `yaml:"defaultClass"`
	Chart        Chart  `yaml:"chart"`
}

// Chart overrides where a chart comes from and what must arrive. Ref replaces the built-in reference
// together with its version and digest; Version or Digest alone replace just that pin.
type Chart struct {
	Ref     string   `yaml:"ref"`
	Version string   `yaml:"version"`
	Digest  string   `yaml:"digest"`
	Values  []string `yaml:"values"` // extra values files, later ones win
}

// Profiles that can be named. An empty profile is detected from the cluster.
const (
	ProfileLocal = "local"
	ProfileAWS   = "aws"
)

// Default is the configuration without any file, environment or flag.
func Default() Config {
	return Config{
		Namespace: "pw-crud",
		Host:      "demo.pw.test",
		Image:     "pw/crudservice:latest",
		Replicas:  2,
		Timeout:   Duration(5 * time.Minute),
		LogLevel:  "warn",
		Redis:     Redis{Namespace: "redis"},
		Ingress:   Ingress{Namespace: "ingress-nginx", ClassName: "nginx"},
	}
}

// Duration is a time.Duration that is written as 90s or 5m in files.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 90s or 5m", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is the duration in Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }
