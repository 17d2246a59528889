package ui

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// History writes what was deployed, a line a revision, the newest first. Times are in now's zone.
func History(w io.Writer, h *stack.History, now time.Time) {
	if len(h.Revisions) == 0 {
		fmt.Fprintln(w, "Nothing was deployed yet. pwdeploy up deploys it.")
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REVISION\tWHEN\tSTATUS\tBY\tIMAGE\tCHARTS\tNOTE")
	for _, r := range h.Revisions {
		fmt.Fprintln(table, strings.TrimRight(strings.Join([]string{
			strconv.Itoa(r.Number), when(r.StartedAt, now), string(r.Status), orDash(r.By), orDash(r.Image), charts(r.Charts), r.Note,
		}, "\t"), "\t"))
	}
	_ = table.Flush() // a terminal that is gone is no reason to fail
}

// when gives a time and how long ago that was.
func when(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprintf("%s (%s ago)", t.In(now.Location()).Format("2006-01-02 15:04:05"), age(now.Sub(t)))
}

// age words a duration by its largest unit.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d d", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d min", d/time.Minute)
	default:
		return fmt.Sprintf("%d s", max(0, d/time.Second))
	}
}

func charts(all []stack.ChartInUse) string {
	words := make([]string, 0, len(all))
	for _, c := range all {
		words = append(words, c.Chart+" "+c.Version)
	}
	return orDash(strings.Join(words, ", "))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// RollbackPlan writes what a rollback will do. Times are in now's zone.
func RollbackPlan(w io.Writer, d *stack.Rollback, now time.Time) {
	fmt.Fprintf(w, "This goes back to revision %d, deployed %s by %s:\n", d.To.Number, when(d.To.EndedAt, now), d.To.By)
	row := func(name stack.Component, text string) { fmt.Fprintf(w, "  %-*s%s\n", nameWidth, name, text) }
	row(stack.App, fmt.Sprintf("%s, %s", imageChange(d), counted(d.Objects, "object")))
	for _, r := range d.Releases {
		row(r.Name, releaseChange(r))
	}
	fmt.Fprintln(w, "Redis' data and password stay as they are.")
	fmt.Fprintln(w)
}

func imageChange(d *stack.Rollback) string {
	if d.From == nil || d.From.Image == d.To.Image {
		return "image " + d.To.Image
	}
	return fmt.Sprintf("image %s -> %s", d.From.Image, d.To.Image)
}

func releaseChange(r stack.RollbackRelease) string {
	if r.Unchanged {
		return fmt.Sprintf("chart %s, unchanged", r.Version)
	}
	version := r.Version
	if r.WasVersion != r.Version {
		version = r.WasVersion + " -> " + r.Version
	}
	return fmt.Sprintf("chart %s, Helm's revision %d -> %d", version, r.From, r.To)
}

// Rollback writes what a rollback did.
func Rollback(w io.Writer, s Style, r *stack.RollbackResult) {
	if r.Changed {
		fmt.Fprintf(w, "Back to revision %d, image %s\n", r.RollbackTo, r.Image)
	} else {
		fmt.Fprintf(w, "Nothing to change: revision %d, image %s, is what there is.\n", r.RollbackTo, r.Image)
	}
	fmt.Fprintf(w, "Serving %s  %s\n", s.Bold(r.Endpoint.URL), s.Dim(reached(r.Endpoint)))
}
