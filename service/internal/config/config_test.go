package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLoad holds the accepted forms; the refused ones are in the tests of the
// program, where their exit code shows.
func TestLoad(t *testing.T) {
	tests := []struct{ name, content, addr string }{
		{"quoted", "[redis]\nhost = \"redis-master.redis.svc.cluster.local\"\nport = 6379\n", "redis-master.redis.svc.cluster.local:6379"},
		{"plain", "[redis]\nhost=redis\nport=1\n", "redis:1"},
		{"quoted port", "[redis]\nhost = 'redis'\nport = \"65535\"\n", "redis:65535"},
		{"comments", "# one\n; two\n[redis]\nhost = redis # three\nport = 6379 ; four\n", "redis:6379"},
		{"Windows lines and BOM", "\ufeff[redis]\r\nhost = \"redis\"\r\nport = 6379\r\n", "redis:6379"},
		{"IPv4", "[redis]\nhost = 127.0.0.1\nport = 6379\n", "127.0.0.1:6379"},
		{"IPv6", "[redis]\nhost = \"::1\"\nport = 6379\n", "[::1]:6379"},
		{"any order, no last newline", "[redis]\nport = 6379\nhost = redis", "redis:6379"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "service.cfg")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := cfg.RedisAddr(); got != tt.addr {
				t.Errorf("got %s, want %s", got, tt.addr)
			}
		})
	}
}

// TestShippedFiles keeps the files that people copy valid.
func TestShippedFiles(t *testing.T) {
	for _, path := range []string{"../../service.cfg.example", "../../dev/service.cfg", "../../dev/compose.cfg"} {
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
	}
}
