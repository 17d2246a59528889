//go:build unix

// Command bench measures pwdeploy beside the script that it replaces, on one cluster, in turns: time, requests to the API
// server, memory, and whether the service was served when the command said so. make bench runs it on the lab.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once, the first one's cleaning up included
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.As(err, new(usageError)):
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	rounds  int
	delay   time.Duration
	timeout time.Duration
	output  string
	dir     string
	address string
	host    string
	image   string
	label   string // of the script
	notes   texts
}

type usageError struct{ error }

// texts is a flag that may be given several times.
type texts []string

// String implements flag.Value.
func (t *texts) String() string { return fmt.Sprint(*t) }

// Set implements flag.Value.
func (t *texts) Set(text string) error {
	*t = append(*t, text)
	return nil
}

func parse(args []string, problems io.Writer) (options, error) {
	o := options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(problems)
	f.IntVar(&o.rounds, "rounds", 3, "how often each tool goes from an empty cluster to a served request and back")
	f.DurationVar(&o.delay, "delay", 0, "hold each request to the API server back for this long, as a cluster far off would")
	f.DurationVar(&o.timeout, "timeout", 6*time.Minute, "how long each command may take")
	f.StringVar(&o.output, "o", "text", "text or json")
	f.StringVar(&o.dir, "dir", "bin/bench", "folder for what the commands print and their requests, command by command")
	f.StringVar(&o.address, "address", "", "host:port of the ingress")
	f.StringVar(&o.host, "host", "demo.pw.test", "name that the app is served under")
	f.StringVar(&o.image, "image", "pw/crudservice:e2e", "the app's other image, for the change")
	f.StringVar(&o.label, "script", "script", "what the script is called in the output")
	f.Var(&o.notes, "note", "a line for the head of the output, such as what is a stand-in; may be repeated")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, usageError{err}
	}
	return o, o.check(f.Args())
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return usageError{fmt.Errorf("unknown argument %q", rest[0])}
	case o.rounds < 1:
		return usageError{fmt.Errorf("%d rounds: at least 1", o.rounds)}
	case o.output != "text" && o.output != "json":
		return usageError{fmt.Errorf("output %q: text or json", o.output)}
	case o.address == "":
		return usageError{errors.New("-address is needed: host:port of the ingress")}
	}
	return nil
}

func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	b, err := open(ctx, o, progress)
	if err != nil {
		return err
	}
	report, err := b.run(ctx)
	if err != nil {
		return errors.Join(err, b.cleanUp(context.WithoutCancel(ctx)))
	}
	if o.output == "json" {
		return report.json(out)
	}
	return report.text(out)
}
