package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// nameWidth is the width of the column with the components' names.
const nameWidth = len(stack.Ingress) + 2

// Progress shows the events of a run.
type Progress interface {
	Handle(e stack.Event)
	Close() // leaves the screen as it should stay; more events may follow
}

// NewProgress shows events live if w is a terminal, and a line each elsewhere.
func NewProgress(w io.Writer, style Style, getenv func(string) string) Progress {
	if f, ok := w.(*os.File); ok && IsTerminal(w) && getenv("TERM") != "dumb" && getenv("CI") == "" {
		return newLive(f, style)
	}
	return &plain{w: w, style: style}
}

// plain writes a line an event, as CI logs want it.
type plain struct {
	mu    sync.Mutex
	w     io.Writer
	style Style
}

// Handle implements Progress.
func (p *plain) Handle(e stack.Event) {
	if e.Message == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, line(p.style, sign(p.style, e.Kind), e))
	for _, l := range e.Evidence {
		fmt.Fprintf(p.w, "  %*s| %s\n", nameWidth, "", l)
	}
	if e.Hint != "" {
		fmt.Fprintf(p.w, "  %*s%s\n", nameWidth, "", p.style.Dim(e.Hint))
	}
}

// Close implements Progress.
func (p *plain) Close() {}

func sign(s Style, kind stack.EventKind) string {
	switch kind {
	case stack.Done:
		return s.Mark(true)
	case stack.Failed:
		return s.Mark(false)
	case stack.Warning, stack.Problem:
		return s.Warn("!")
	}
	return " "
}

// line is one component's line: sign, name, message, and the time it took.
func line(s Style, sign string, e stack.Event) string {
	text := fmt.Sprintf("%s %-*s%s", sign, nameWidth, e.Component, e.Message)
	if e.Elapsed >= 100*time.Millisecond {
		text += " " + s.Dim(fmt.Sprintf("(%.1fs)", e.Elapsed.Seconds()))
	}
	return text
}

// frames are the spinner's.
var frames = [...]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

const frameTime = 100 * time.Millisecond

// live keeps a line a component and redraws them in place.
type live struct {
	mu     sync.Mutex
	out    *os.File
	style  Style
	latest map[stack.Component]stack.Event
	begun  map[stack.Component]time.Time
	drawn  int // lines on the screen that are redrawn
	frame  int
	final  bool // the last frame stays on the screen: nothing is cut off it
	stop   chan struct{}
	ended  chan struct{}
}

func newLive(out *os.File, style Style) *live {
	l := &live{
		out: out, style: style, latest: map[stack.Component]stack.Event{}, begun: map[stack.Component]time.Time{},
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	go l.spin()
	return l
}

func (l *live) spin() {
	defer close(l.ended)
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			l.mu.Lock()
			l.frame++
			l.draw()
			l.mu.Unlock()
		}
	}
}

// Handle implements Progress. Warnings, and what to do about problems, are written above the live lines and stay.
func (l *live) Handle(e stack.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.begun[e.Component]; !ok {
		l.begun[e.Component] = e.Time
	}
	switch {
	case e.Kind == stack.Warning:
		l.erase()
		(&plain{w: l.out, style: l.style}).Handle(e)
	case e.Kind == stack.Problem && e.Hint != "":
		l.erase()
		(&plain{w: l.out, style: l.style}).Handle(e)
		l.latest[e.Component] = e
	default:
		l.latest[e.Component] = e
	}
	l.draw()
}

// Close implements Progress.
func (l *live) Close() {
	select {
	case <-l.stop:
		return
	default:
	}
	close(l.stop)
	<-l.ended
	l.mu.Lock()
	defer l.mu.Unlock()
	l.final = true
	l.draw()
	l.drawn = 0
}

// erase takes the live lines off the screen.
func (l *live) erase() {
	if l.drawn > 0 {
		fmt.Fprintf(l.out, "\r\x1b[%dA\x1b[J", l.drawn) // a terminal shows ^C where the cursor is
	}
	l.drawn = 0
}

func (l *live) draw() {
	var b strings.Builder
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\r\x1b[%dA", l.drawn)
	}
	l.drawn = 0
	width, _, err := term.GetSize(int(l.out.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	for _, c := range stack.Components() {
		if e, ok := l.latest[c]; ok {
			b.WriteString("\x1b[2K" + l.componentLine(e, width) + "\n")
			l.drawn++
		}
	}
	_, _ = l.out.WriteString(b.String()) // a terminal that is gone is no reason to fail
}

func (l *live) componentLine(e stack.Event, width int) string {
	mark := sign(l.style, e.Kind)
	switch e.Kind {
	case stack.Started, stack.Progress:
		mark = frames[l.frame%len(frames)]
	}
	running := e.Kind != stack.Done && e.Kind != stack.Failed
	took := e.Elapsed
	if running {
		took = time.Since(l.begun[e.Component])
	}
	tail := fmt.Sprintf(" (%.1fs)", took.Seconds())
	message := strings.ReplaceAll(e.Message, "\n", " ")
	if !l.final {
		message = cut(message, width-nameWidth-3-len(tail))
	}
	return fmt.Sprintf("%s %-*s%s%s", mark, nameWidth, e.Component, message, l.style.Dim(tail))
}

// cut shortens a text to so many characters.
func cut(text string, most int) string {
	r := []rune(text)
	if most < 1 || len(r) <= most {
		return text
	}
	return string(r[:most-1]) + "…"
}
