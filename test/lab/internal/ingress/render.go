package ingress

import (
	_ "embed"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// statusPort is where NGINX answers the controller on loopback.
const statusPort = 10246

//go:embed nginx.conf.tmpl
var configTemplate string

// HasRoot says whether a location takes every path.
func (s Server) HasRoot() bool {
	return slices.ContainsFunc(s.Locations, func(l Location) bool { return l.Path == "/" && !l.Exact })
}

// rendering is what the template sees.
type rendering struct {
	Model
	Dir                 string
	Workers, StatusPort int
}

// Certificate is the file with the certificate and key of a Secret, or of the default one.
func (r rendering) Certificate(secret string) string { return certificateFile(r.Dir, secret) }

// Socket is where the controller serves an upstream.
func (r rendering) Socket(upstream string) string { return socketFile(r.Dir, upstream) }

func certificateFile(dir, secret string) string {
	if secret == "" {
		return filepath.Join(dir, "default.pem")
	}
	// Neither part of a Secret's name may hold an underscore.
	return filepath.Join(dir, strings.ReplaceAll(secret, "/", "_")+".pem")
}

// Render writes NGINX's configuration; dir is where it keeps its files.
func Render(m Model, dir string, workers int) ([]byte, error) {
	t, err := template.New("nginx.conf").Funcs(template.FuncMap{"quote": quote}).Parse(configTemplate)
	if err != nil {
		return nil, err
	}
	var out strings.Builder
	if err := t.Execute(&out, rendering{Model: m, Dir: dir, Workers: workers, StatusPort: statusPort}); err != nil {
		return nil, fmt.Errorf("write nginx.conf: %w", err)
	}
	return []byte(out.String()), nil
}

// quote makes one word of NGINX's configuration.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "", "\n", "", "\r", "").Replace(s) + `"`
}
