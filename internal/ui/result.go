package ui

import (
	"fmt"
	"io"
	"strings"

	"github.com/pwdeploy/pwdeploy/internal/stack"
)

// Target writes which cluster is about to be touched.
func Target(w io.Writer, s Style, verb string, t stack.Target) {
	name := t.Context
	if name == "" {
		name = "the cluster that this runs in"
	}
	facts := []string{t.Server, "Kubernetes " + t.Kubernetes}
	if t.Distribution != "" {
		facts = append([]string{t.Distribution}, facts...)
	}
	detected := ""
	switch {
	case t.ProfileDetected && t.Distribution == "":
		detected = ", assumed: the kind of cluster was not recognized"
	case t.ProfileDetected:
		detected = ", detected"
	}
	fmt.Fprintf(w, "%s %s\n", verb, s.Bold(name))
	fmt.Fprintf(w, "%s\n\n", s.Dim(fmt.Sprintf("%s; namespace %s, profile %s%s", strings.Join(facts, ", "), t.Namespace, t.Profile, detected)))
}

// Up writes what up did, where the app is served, and what is next.
func Up(w io.Writer, s Style, r *stack.UpResult) {
	if !r.Changed {
		fmt.Fprintln(w, "Nothing to change: it is all there as it should be.")
	}
	fmt.Fprintf(w, "Serving %s  %s\n", s.Bold(r.Endpoint.URL), s.Dim(reached(r.Endpoint)))
	fmt.Fprintf(w, "Docs    %s\n", r.Endpoint.Docs)
	steps(w, s, r.Next)
}

func reached(e *stack.Served) string {
	if e.Via == stack.Forward {
		return fmt.Sprintf("a key was stored, read and removed through a port-forward, %.0f ms", e.Millis)
	}
	return fmt.Sprintf("a key was stored, read and removed at %s, %.0f ms", e.Address, e.Millis)
}

func steps(w io.Writer, s Style, next []stack.Step) {
	if len(next) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", s.Bold("Next"))
	for _, step := range next {
		fmt.Fprintf(w, "  %s\n", step.Why)
		if step.Command != "" {
			fmt.Fprintf(w, "    %s\n", step.Command)
		}
	}
}

// Status writes each component, and of their objects those that run something or are not well.
func Status(w io.Writer, s Style, r *stack.StatusResult) {
	for _, c := range r.Components {
		version := ""
		if c.Version != "" {
			version = "  " + s.Dim(c.Version)
		}
		fmt.Fprintf(w, "%s %-*s%s%s\n", statusMark(s, c.Ready, c.Drifted), nameWidth, c.Name, c.Message, version)
		why(w, s, c)
		objects(w, s, c.Objects)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, verdict(s, r))
}

// why writes a component's reason, unless one of its objects says the same.
func why(w io.Writer, s Style, c stack.ComponentStatus) {
	for _, o := range c.Objects {
		if !o.Ready {
			return
		}
	}
	if c.Reason != "" {
		fmt.Fprintf(w, "    %s\n", c.Reason)
	}
	if c.Hint != "" {
		fmt.Fprintf(w, "    %s\n", s.Dim(c.Hint))
	}
}

func objects(w io.Writer, s Style, all []stack.ObjectStatus) {
	healthy, missing := 0, []string{}
	for _, o := range all {
		switch {
		case o.Missing:
			missing = append(missing, o.Kind+" "+o.Name)
			continue
		case o.Ready && !o.Workload && len(o.Drift) == 0:
			healthy++
			continue
		}
		fmt.Fprintf(w, "    %s %s %s  %s\n", statusMark(s, o.Ready, len(o.Drift) > 0), o.Kind, o.Name, o.Message)
		for _, text := range append([]string{o.Reason}, o.Evidence...) {
			if text != "" {
				fmt.Fprintf(w, "        %s\n", text)
			}
		}
		for _, change := range o.Drift {
			fmt.Fprintf(w, "        %s\n", change.Change())
		}
		if o.Hint != "" {
			fmt.Fprintf(w, "        %s\n", s.Dim(o.Hint))
		}
	}
	if len(missing) > 0 {
		fmt.Fprintf(w, "    %s missing: %s\n", s.Mark(false), strings.Join(missing, ", "))
		fmt.Fprintf(w, "        %s\n", s.Dim("pwdeploy up puts back what is missing"))
	}
	if healthy > 0 {
		fmt.Fprintf(w, "    %s\n", s.Dim(fmt.Sprintf("and %s in place", counted(healthy, "other object"))))
	}
}

// statusMark is the sign of something that is not well, is changed, or neither.
func statusMark(s Style, ready, drifted bool) string {
	if ready && drifted {
		return s.Warn("!")
	}
	return s.Mark(ready)
}

// counted words a number of things.
func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func verdict(s Style, r *stack.StatusResult) string {
	switch {
	case r.Healthy && r.Drifted:
		return s.Warn("Drifted:") + " somebody changed what was deployed. Serving " + s.Bold(r.URL)
	case r.Healthy:
		return "Healthy, serving " + s.Bold(r.URL)
	case !r.Deployed:
		return "Not deployed. pwdeploy up deploys it."
	}
	return s.Bad("Not healthy.") + " pwdeploy up mends what it can."
}

// DownPlan writes what down will take away.
func DownPlan(w io.Writer, s Style, d *stack.Down) {
	row := func(name string, items []string) {
		if len(items) > 0 {
			fmt.Fprintf(w, "  %-12s%s\n", name, strings.Join(items, ", "))
		}
	}
	fmt.Fprintln(w, "This takes away:")
	row("releases", d.Releases)
	if n := len(d.Objects); n > 0 {
		row("objects", []string{fmt.Sprintf("%d of the app in namespace %s", n, d.Target.Namespace)})
	}
	row("namespaces", d.Namespaces)
	if d.DeleteData {
		row(s.Bad("data")+"        ", d.Data)
	} else if len(d.Data) > 0 {
		fmt.Fprintln(w, "and keeps, unless --delete-data is given:")
		row("data", d.Data)
	}
	fmt.Fprintln(w)
}

// Down writes what is gone and what is still there.
func Down(w io.Writer, s Style, r *stack.DownResult) {
	fmt.Fprintf(w, "Gone after %.1fs: objects, releases and namespaces, %d in all\n", r.Seconds, len(r.Removed))
	if len(r.Kept) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", s.Bold("Kept"))
	for _, k := range r.Kept {
		fmt.Fprintf(w, "  %s  %s\n", k.What, s.Dim(k.Why))
	}
}
