// Package config reads the service's configuration: an INI file that says
// where Redis is, and nothing else.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/ini.v1"
)

const (
	// DefaultPath is where a container finds its configuration: a ConfigMap
	// mounted as a volume.
	DefaultPath = "/etc/config/service.cfg"
	// FallbackPath is looked at when DefaultPath does not exist, for a service
	// started by hand.
	FallbackPath = "service.cfg"

	section = "redis"
)

// knownKeys are the keys of the [redis] section; each one is required.
var knownKeys = []string{"host", "port"}

// Config is the whole configuration.
type Config struct {
	// RedisHost is a host name or an IP address, without a port.
	RedisHost string
	// RedisPort is a TCP port, 1 to 65535.
	RedisPort int
}

// RedisAddr is host and port as dialled; IPv6 addresses are bracketed.
func (c Config) RedisAddr() string {
	return net.JoinHostPort(c.RedisHost, strconv.Itoa(c.RedisPort))
}

// Find returns explicit if it is set, and otherwise the first of DefaultPath
// and FallbackPath that exists. An explicit path never falls back: a typing
// mistake must not start the service on somebody else's file.
func Find(explicit string) (string, error) {
	if explicit != "" {
		return explicit, nil
	}
	for _, path := range []string{DefaultPath, FallbackPath} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
	}
	return "", fmt.Errorf("no configuration: neither %s nor ./%s exists; name one with --config", DefaultPath, FallbackPath)
}

// Load reads and checks the file. It is strict: a section or key it does not
// know is an error, so that a misspelt one is noticed at start. Every error is
// one line and names the file.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	cfg, err := parse(data)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return cfg, nil
}

func parse(data []byte) (Config, error) {
	// Shadows are kept only to notice a key that is given twice; the library
	// would otherwise silently take the last.
	file, err := ini.LoadSources(ini.LoadOptions{AllowShadows: true, AllowDuplicateShadowValues: true}, data)
	if err != nil {
		return Config{}, fmt.Errorf("not an INI file: %s", oneLine(err))
	}
	if err := checkNames(file); err != nil {
		return Config{}, err
	}
	host, err := redisHost(file.Section(section))
	if err != nil {
		return Config{}, err
	}
	port, err := redisPort(file.Section(section))
	if err != nil {
		return Config{}, err
	}
	return Config{RedisHost: host, RedisPort: port}, nil
}

func checkNames(file *ini.File) error {
	for _, s := range file.Sections() {
		for _, key := range s.Keys() {
			if s.Name() == ini.DefaultSection {
				return fmt.Errorf("key %q stands outside a section; put it under [%s]", key.Name(), section)
			}
			if s.Name() == section && !slices.Contains(knownKeys, key.Name()) {
				return fmt.Errorf("unknown key %q in [%s]; known are %s", key.Name(), section, strings.Join(knownKeys, ", "))
			}
		}
		if s.Name() != section && s.Name() != ini.DefaultSection {
			return fmt.Errorf("unknown section [%s]; the only one is [%s]", s.Name(), section)
		}
	}
	if !file.HasSection(section) {
		return fmt.Errorf("section [%s] is missing", section)
	}
	return nil
}

// value returns the one value of a required key.
func value(s *ini.Section, name string) (string, error) {
	if !s.HasKey(name) {
		return "", fmt.Errorf("key %q is missing in [%s]", name, section)
	}
	key := s.Key(name)
	if len(key.ValueWithShadows()) > 1 {
		return "", fmt.Errorf("key %q is given more than once in [%s]", name, section)
	}
	if key.Value() == "" {
		return "", fmt.Errorf("key %q in [%s] is empty", name, section)
	}
	return key.Value(), nil
}

func redisHost(s *ini.Section) (string, error) {
	host, err := value(s, "host")
	if err != nil {
		return "", err
	}
	if net.ParseIP(host) != nil {
		return host, nil
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`/:@[]"'`, r) }) {
		return "", fmt.Errorf("host %q is neither a host name nor an IP address; the port goes in a key of its own", host)
	}
	return host, nil
}

func redisPort(s *ini.Section) (int, error) {
	text, err := value(s, "port")
	if err != nil {
		return 0, err
	}
	// ParseUint takes digits only: no sign, no space, no underscore.
	port, err := strconv.ParseUint(text, 10, 64)
	if errors.Is(err, strconv.ErrSyntax) {
		return 0, fmt.Errorf("port %q is not a number", text)
	}
	if err != nil || port < 1 || port > 65535 {
		return 0, fmt.Errorf("port %s is out of range; it must be 1 to 65535", text)
	}
	return int(port), nil
}

// oneLine keeps a library's message on one line.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
