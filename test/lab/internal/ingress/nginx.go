package ingress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// checkTimeout bounds NGINX's look at a configuration.
const checkTimeout = 10 * time.Second

// nginx is the process that serves.
type nginx struct {
	binary, dir string
	log         *slog.Logger
	cmd         *exec.Cmd
	done        chan error
	config      []byte
}

// apply writes the certificates, has NGINX check the configuration, and starts or reloads it. A reload loses no
// request: NGINX goes on with the old workers until the new ones are there.
func (n *nginx) apply(ctx context.Context, m Model, secrets map[string]*corev1.Secret, workers int) error {
	config, err := Render(m, n.dir, workers)
	if err != nil {
		return err
	}
	changed, err := n.writeCertificates(m, secrets)
	if err != nil {
		return err
	}
	if bytes.Equal(config, n.config) && !changed {
		return nil
	}
	file := filepath.Join(n.dir, "nginx.conf")
	if err := n.check(ctx, config, file); err != nil {
		return err
	}
	n.config = config
	if n.cmd == nil {
		return n.start(file) //nolint:contextcheck // nginx stops gracefully, not with the context
	}
	n.log.Info("reload nginx", "servers", len(m.Servers), "upstreams", len(m.Upstreams))
	return n.cmd.Process.Signal(syscall.SIGHUP)
}

// check puts the configuration in place when NGINX finds no fault with it.
func (n *nginx) check(ctx context.Context, config []byte, file string) error {
	candidate := file + ".new"
	if err := os.WriteFile(candidate, config, 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if out, err := n.command(ctx, "-t", "-q", "-c", candidate).CombinedOutput(); err != nil {
		return fmt.Errorf("nginx refuses its configuration: %w: %s", err, bytes.TrimSpace(out))
	}
	return os.Rename(candidate, file)
}

func (n *nginx) start(file string) error {
	n.log.Info("start nginx", "binary", n.binary)
	cmd := n.command(context.Background(), "-c", file, "-g", "daemon off;")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start nginx: %w", err)
	}
	n.cmd = cmd
	go func() { n.done <- cmd.Wait() }()
	return nil
}

func (n *nginx) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, n.binary, append([]string{"-p", n.dir, "-e", "stderr"}, args...)...)
	// The chart preloads an allocator that Debian's NGINX doesn't come with.
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LD_PRELOAD=") })
	return c
}

// quit lets NGINX answer what it has taken on, and waits for its end until ctx does.
func (n *nginx) quit(ctx context.Context) error {
	if n.cmd == nil {
		return nil
	}
	if err := n.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		return fmt.Errorf("stop nginx: %w", err)
	}
	select {
	case err := <-n.done:
		return err
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("nginx doesn't stop: %w", ctx.Err()), n.cmd.Process.Kill())
	}
}

// writeCertificates writes the certificates that the model names, and says whether any of them is new.
func (n *nginx) writeCertificates(m Model, secrets map[string]*corev1.Secret) (bool, error) {
	changed := false
	for _, server := range m.Servers {
		secret := secrets[server.Secret]
		if secret == nil {
			continue
		}
		pair := slices.Concat(secret.Data[corev1.TLSCertKey], []byte("\n"), secret.Data[corev1.TLSPrivateKeyKey])
		file := certificateFile(n.dir, server.Secret)
		old, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, err
		}
		if bytes.Equal(old, pair) {
			continue
		}
		changed = true
		if err := os.WriteFile(file, pair, 0o600); err != nil {
			return changed, err
		}
	}
	return changed, nil
}
