// Package ui shows a run's events and results: live lines on a terminal, plain lines elsewhere.
package ui

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Style colours words, or leaves them as they are.
type Style struct{ colour bool }

// NewStyle says whether to colour what goes to w: only a terminal is, and only if neither NO_COLOR
// (https://no-color.org) nor TERM=dumb says otherwise.
func NewStyle(w io.Writer, getenv func(string) string) Style {
	return Style{colour: IsTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (s Style) paint(code, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Good marks what is well.
func (s Style) Good(t string) string { return s.paint("32", t) }

// Bad marks what failed.
func (s Style) Bad(t string) string { return s.paint("31", t) }

// Warn marks what needs attention.
func (s Style) Warn(t string) string { return s.paint("33", t) }

// Dim marks what matters less.
func (s Style) Dim(t string) string { return s.paint("2", t) }

// Bold marks what matters most.
func (s Style) Bold(t string) string { return s.paint("1", t) }

// Mark is the sign of something that is well, or is not.
func (s Style) Mark(good bool) string {
	if good {
		return s.Good("✓")
	}
	return s.Bad("✗")
}
