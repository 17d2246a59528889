//go:build linux

package isolation_test

import (
	"testing"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/isolation"
)

func TestCheckDir(t *testing.T) {
	for dir, ok := range map[string]bool{
		"/var/tmp/pwdeploy-lab": true, "/home/me/lab": true, "/runner/lab": true, "/run": false, "/run/lab": false, "/var/lib/lab": false, "/var/log/lab": false,
	} {
		if err := isolation.CheckDir(dir); (err == nil) != ok {
			t.Errorf("%s: %v, want ok=%v", dir, err, ok)
		}
	}
}
