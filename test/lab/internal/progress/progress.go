// Package progress tells somebody who waits what is being waited for.
package progress

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

const (
	// tick is how often the line of a running step is drawn again on a terminal, beat how often a step says in a log
	// that it still runs.
	tick = 200 * time.Millisecond
	beat = 30 * time.Second
	// width is that of the column of step names.
	width = 22
)

// Printer writes a line for each step: in place on a terminal, whole lines elsewhere.
type Printer struct {
	out      io.Writer
	terminal bool
	beat     time.Duration
}

// New returns a printer for out.
func New(out io.Writer) *Printer {
	f, ok := out.(*os.File)
	return &Printer{out: out, terminal: ok && term.IsTerminal(int(f.Fd())), beat: beat}
}

// Line writes a line of its own.
func (p *Printer) Line(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

// Done writes the line of a step that is over.
func (p *Printer) Done(name, result string, took time.Duration) {
	p.clear()
	fmt.Fprintf(p.out, "  %-*s %-44s %s\n", width, name, result, Duration(took))
}

// Run carries a step out. The hint says what it does and how long it may take; do returns what came of it.
func (p *Printer) Run(name, hint string, do func() (string, error)) error {
	start := time.Now()
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := do()
		done <- result{text, err}
	}()
	pulse := time.NewTicker(p.pulse())
	defer pulse.Stop()
	for {
		select {
		case r := <-done:
			if r.err != nil {
				p.clear()
				return r.err
			}
			p.Done(name, r.text, time.Since(start))
			return nil
		case <-pulse.C:
			p.still(name, hint, time.Since(start))
		}
	}
}

func (p *Printer) pulse() time.Duration {
	if p.terminal {
		return tick
	}
	return p.beat
}

func (p *Printer) still(name, hint string, took time.Duration) {
	end := "\n"
	if p.terminal {
		p.clear()
		end = ""
	}
	fmt.Fprintf(p.out, "  %-*s %-44s %s%s", width, name, hint, Duration(took), end)
}

func (p *Printer) clear() {
	if p.terminal {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

// Duration is a duration as a person reads it: "0.4s", "12s", "6m10s".
func Duration(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
