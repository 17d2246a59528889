package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// Check writes the checks by group, each with its mark, and below what is not well what to do about it.
func Check(w io.Writer, s Style, r *stack.CheckResult) {
	width := 0
	for _, c := range r.Checks {
		width = max(width, len(c.Name))
	}
	var group stack.CheckGroup
	for i, c := range r.Checks {
		if c.Group != group {
			if i > 0 {
				fmt.Fprintln(w)
			}
			group = c.Group
			fmt.Fprintln(w, s.Bold(string(group)))
		}
		fmt.Fprintf(w, "%s %-*s  %s\n", checkMark(s, c.State), width, c.Name, below(c.Message, width))
		if c.Hint != "" {
			fmt.Fprintf(w, "  %*s  %s\n", width, "", s.Dim(below(c.Hint, width)))
		}
	}
	fmt.Fprintf(w, "\n%s\n", checkVerdict(s, r))
}

// below indents the further lines of a text like its first.
func below(text string, width int) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", width+4))
}

func checkMark(s Style, state stack.CheckState) string {
	switch state {
	case stack.CheckOK:
		return s.Mark(true)
	case stack.CheckFailed:
		return s.Mark(false)
	case stack.CheckWarning:
		return s.Warn("!")
	}
	return s.Dim("-")
}

func checkVerdict(s Style, r *stack.CheckResult) string {
	warnings := ""
	if r.Warnings > 0 {
		warnings = ", " + s.Warn(counted(r.Warnings, "warning"))
	}
	if r.Errors > 0 {
		return s.Bad(counted(r.Errors, "error")) + warnings + ". Nothing was changed."
	}
	return s.Good("No errors") + warnings + ". pwdeploy up can go ahead."
}
