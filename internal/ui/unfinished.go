package ui

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// Failed writes the last words of a command that failed, after why it did: what there is now, and what can be run next.
func Failed(w io.Writer, s Style, e *stack.UnfinishedError) {
	again := fmt.Sprintf("Running pwdeploy %s again is safe", e.Command)
	if len(e.State.Components) > 0 {
		fmt.Fprintln(w, s.Bold("What there is now:"))
		left(w, s, e.State, false)
		again += "; pwdeploy status shows the whole"
	}
	if !e.State.Changed {
		again = "Nothing was changed. " + again
	}
	fmt.Fprintln(w, again+".")
	var up *stack.UpError
	if errors.As(e.Err, &up) && up.Back != nil {
		fmt.Fprintf(w, "pwdeploy rollback returns to revision %d, image %s.\n", up.Back.Number, up.Back.Image)
	}
}

// Interrupted writes the last words of a command that was interrupted: what is done and what is not, what was seen to be
// in the way, and how it goes on.
func Interrupted(w io.Writer, s Style, e *stack.UnfinishedError) {
	again := fmt.Sprintf("Running pwdeploy %s again is safe", e.Command)
	if len(e.State.Components) == 0 {
		fmt.Fprintf(w, "Interrupted before anything was changed. %s.\n", again)
		return
	}
	fmt.Fprintf(w, "Interrupted. %s\n", s.Bold("What there is now:"))
	left(w, s, e.State, true)
	if e.State.Changed {
		again += ": it goes on where this one stopped"
	} else {
		again = "Nothing was changed. " + again
	}
	fmt.Fprintln(w, again+". pwdeploy status shows the whole.")
}

// left writes the state of each component, with what is known to be in its way where nobody has told it yet.
func left(w io.Writer, s Style, state stack.State, problems bool) {
	for _, c := range state.Components {
		fmt.Fprintf(w, "  %-*s%s\n", nameWidth, c.Name, c.Message)
		for _, p := range c.Problems {
			if !problems {
				break
			}
			fmt.Fprintf(w, "  %*s%s\n", nameWidth, "", under(p.String()))
			if p.Hint != "" {
				fmt.Fprintf(w, "  %*s%s\n", nameWidth, "", s.Dim(under(p.Hint)))
			}
		}
		if p := state.Previous; c.Name == stack.App && p.Ready > 0 {
			fmt.Fprintf(w, "  %*sthe version before goes on serving, with %s of image %s\n", nameWidth, "", counted(int(p.Ready), "ready pod"), p.Image)
		}
	}
}

// under indents the further lines of a component's text like its first.
func under(text string) string {
	return strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", nameWidth+2))
}
