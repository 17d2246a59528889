package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Error says what is wrong with the configuration and where it was set. Nothing was touched.
type Error struct {
	Where  string // "--replicas", "PWDEPLOY_TIMEOUT", "pwdeploy.yaml:3"
	Detail string
	Advice string
}

func (e *Error) Error() string { return e.Where + ": " + e.Detail }

// Hint says what to do; it may be empty.
func (e *Error) Hint() string { return e.Advice }

// Sources is where a configuration comes from.
type Sources struct {
	File    string            // --config; empty: FileName in the working directory if it is there
	Environ []string          // os.Environ()
	Flags   map[string]string // what was given on the command line, by flag name
}

// Load lays the sources over the defaults and validates the result. warnings are about variables that
// look like pwdeploy's and are not. Errors are an *Error, or several joined.
func Load(src Sources) (cfg Config, warnings []string, err error) {
	cfg = Default()
	env, warnings := environment(src.Environ)
	path := src.File
	if path == "" {
		path = env["PWDEPLOY_CONFIG"]
	}
	where := origins{}
	if err := readFile(&cfg, path, where); err != nil {
		return Config{}, warnings, err
	}
	for _, s := range Settings() {
		if v, ok := env[s.Env()]; ok {
			where[s.Path] = s.Env()
			err = errors.Join(err, apply(&cfg, s, s.Env(), v))
		}
		if v, ok := src.Flags[s.Flag]; ok && s.Flag != "" {
			where[s.Path] = "--" + s.Flag
			err = errors.Join(err, apply(&cfg, s, "--"+s.Flag, v))
		}
	}
	if err = errors.Join(err, cfg.validate(where)); err != nil {
		return Config{}, warnings, err
	}
	return cfg, warnings, nil
}

func apply(cfg *Config, s Setting, where, value string) error {
	if err := s.set(cfg, value); err != nil {
		return &Error{Where: where, Detail: err.Error()}
	}
	return nil
}

// environment picks our variables and warns of those that nothing reads: a misspelt one would silently
// do nothing.
func environment(environ []string) (map[string]string, []string) {
	known := map[string]bool{"PWDEPLOY_CONFIG": true}
	for _, s := range Settings() {
		known[s.Env()] = true
	}
	env := map[string]string{}
	var warnings []string
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case !strings.HasPrefix(name, EnvPrefix) || strings.HasPrefix(name, EnvPrefix+"E2E_"):
		case known[name] && value == "": // CI systems set variables that they have no value for
		case known[name]:
			env[name] = value
		default:
			warnings = append(warnings, fmt.Sprintf("%s is set, but pwdeploy reads no such variable", name))
		}
	}
	slices.Sort(warnings)
	return env, warnings
}

// readFile decodes the configuration file strictly: an unknown key is an error with its line.
func readFile(cfg *Config, path string, where origins) error {
	explicit := path != ""
	if !explicit {
		path = FileName
	}
	content, err := os.ReadFile(path)
	if !explicit && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Error{Where: path, Detail: reason(err), Advice: "check the path given with --config"}
	}
	decoder := yaml.NewDecoder(strings.NewReader(string(content)), yaml.DisallowUnknownField())
	if err := decoder.Decode(cfg); err != nil && !errors.Is(err, io.EOF) {
		return yamlError(path, err)
	}
	cfg.fillEmpty()
	if cfg.File, err = filepath.Abs(path); err != nil {
		return &Error{Where: path, Detail: err.Error()}
	}
	where.inFile(path)
	cfg.resolvePaths(filepath.Dir(path))
	return nil
}

// fillEmpty puts the default back where the file has a key without a value ("redis:" and nothing below
// it, or no document at all): the decoder clears what it stands for.
func (c *Config) fillEmpty() {
	empty, defaults := Config{}, Default()
	if c.Timeout == empty.Timeout && c.Namespace == "" && c.LogLevel == "" {
		*c = defaults
	}
	for value, standard := range map[*string]string{
		&c.Namespace: defaults.Namespace, &c.Host: defaults.Host, &c.Image: defaults.Image, &c.LogLevel: defaults.LogLevel,
		&c.Redis.Namespace: defaults.Redis.Namespace, &c.Ingress.Namespace: defaults.Ingress.Namespace,
		&c.Ingress.ClassName: defaults.Ingress.ClassName,
	} {
		if *value == "" {
			*value = standard
		}
	}
}

func reason(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// yamlError keeps the line and what is wrong with it.
func yamlError(path string, err error) error {
	e := &Error{Where: path, Detail: err.Error()}
	var located yaml.Error
	if errors.As(err, &located) {
		if at := located.GetToken(); at != nil && at.Position != nil {
			e.Where = fmt.Sprintf("%s:%d", path, at.Position.Line)
		}
		e.Detail = located.GetMessage()
	}
	var wrongType *yaml.TypeError
	if errors.As(err, &wrongType) {
		e.Detail = fmt.Sprintf("want %s, not %s", kindName(wrongType.DstType), kindName(wrongType.SrcType))
	}
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) {
		e.Advice = "the README lists the keys; they are case-sensitive"
	}
	return e
}

// kindName words a type as people who write YAML do.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Map, reflect.Struct:
		return "a group of keys"
	}
	return t.String()
}

// resolvePaths makes paths in the file relative to the file, as readers of it expect, not to where the
// command happens to run.
func (c *Config) resolvePaths(dir string) {
	for _, chart := range []*Chart{&c.Redis.Chart, &c.Ingress.Chart} {
		if chart.Ref != "" && !strings.Contains(chart.Ref, "://") {
			chart.Ref = relativeTo(dir, chart.Ref)
		}
		for i, v := range chart.Values {
			chart.Values[i] = relativeTo(dir, v)
		}
	}
	for _, path := range []*string{&c.Kubeconfig, &c.CacheDir} {
		if *path != "" {
			*path = relativeTo(dir, *path)
		}
	}
}

func relativeTo(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
