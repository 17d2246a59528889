// Command service is the CRUD service that pwdeploy deploys: strings under
// keys, kept in Redis, over HTTP. service/README.md describes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/pwdeploy/pwdeploy/service/internal/config"
	"github.com/pwdeploy/pwdeploy/service/internal/server"
	"github.com/pwdeploy/pwdeploy/service/internal/store"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // it could not listen, or --check got no 200
	exitUsage  = 2 // wrong flags or configuration
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version = "dev"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// flags are the command line.
type flags struct {
	listen, metricsListen     string
	config, passwordFile      string
	logLevel                  slog.Level
	shutdownDelay, drainLimit time.Duration
	check                     string
	version                   bool
}

func run(args []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "crudservice: %v (see --help)\n", err)
		return exitUsage
	case f.version:
		fmt.Fprintf(stdout, "crudservice %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return exitOK
	case f.check != "":
		return report(stderr, exitFailed, check(f.check))
	}
	return serve(f, stderr)
}

// report prints an error on one line and returns code, or 0 without an error.
func report(stderr io.Writer, code int, err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "crudservice: %v\n", err)
	return code
}

func parseFlags(args []string, stdout io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("crudservice", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&f.listen, "listen", "0.0.0.0:8000", "`address` of the API, the documentation and the health endpoints")
	set.StringVar(&f.metricsListen, "metrics-listen", "0.0.0.0:9090", "`address` of /metrics")
	set.StringVar(&f.config, "config", "", "configuration `file` (default "+config.DefaultPath+", else ./"+config.FallbackPath+")")
	set.StringVar(&f.passwordFile, "password-file", "", "`file` with Redis' password; without it none is sent")
	set.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "`level`: debug (a line a request), info, warn or error")
	set.DurationVar(&f.shutdownDelay, "shutdown-delay", 5*time.Second, "`time` to go on serving, unready, after SIGTERM")
	set.DurationVar(&f.drainLimit, "drain-timeout", 20*time.Second, "`time` that requests under way may then take")
	set.StringVar(&f.check, "check", "", "get `url`, exit 0 if it answers 200 and 1 if not (for container health checks)")
	set.BoolVar(&f.version, "version", false, "print the version")
	err := set.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		set.SetOutput(stdout)
		fmt.Fprint(stdout, "crudservice keeps strings in Redis under keys, over HTTP.\n\nFlags:\n")
		set.PrintDefaults()
	}
	if err != nil {
		return f, err
	}
	return f, f.validate(set.Args())
}

func (f flags) validate(rest []string) error {
	if len(rest) > 0 {
		return fmt.Errorf("unexpected argument %q", rest[0])
	}
	if err := validAddress("--listen", f.listen); err != nil {
		return err
	}
	if err := validAddress("--metrics-listen", f.metricsListen); err != nil {
		return err
	}
	if f.shutdownDelay < 0 || f.drainLimit < 0 {
		return errors.New("--shutdown-delay and --drain-timeout cannot be negative")
	}
	return nil
}

func validAddress(name, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port", name, address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%s: %q is not a port number", name, port)
	}
	return nil
}

func serve(f flags, stderr io.Writer) int {
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: f.logLevel}))
	logging.Disable() // the client library's own lines; the store logs what matters
	metrics := server.NewMetrics(version)
	redisStore, err := openStore(f, log, metrics)
	if err != nil {
		return report(stderr, exitUsage, err)
	}
	defer redisStore.Close()
	srv, err := server.New(server.Options{
		Listen: f.listen, MetricsListen: f.metricsListen,
		ShutdownDelay: f.shutdownDelay, DrainTimeout: f.drainLimit,
		Version: version, Store: redisStore, Metrics: metrics, Log: log,
	})
	if err != nil {
		return report(stderr, exitFailed, err)
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	return report(stderr, exitFailed, srv.Run(context.Background(), signals))
}

func openStore(f flags, log *slog.Logger, observer store.Observer) (*store.Redis, error) {
	path, err := config.Find(f.config)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	opened, err := store.Open(store.Options{
		Addr: cfg.RedisAddr(), PasswordFile: f.passwordFile, Log: log, Observer: observer,
	})
	if err == nil {
		log.Info("configured", "config", path, "redis", cfg.RedisAddr())
	}
	return opened, err
}

// check asks once and returns an error unless the answer is 200.
func check(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}
