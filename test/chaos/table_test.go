package chaos

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"

	"github.com/pwdeploy/pwdeploy/test/chaos/proxy"
)

// table is the kill matrix: what was tried with each command, and what was survived.
type table struct {
	mu       sync.Mutex
	commands []*commandRow
}

// commandRow is a command of a course.
type commandRow struct {
	course, name string
	requests     int // of an undisturbed run
	cells        []*cell
}

type cell struct {
	kind            proxy.Kind
	tried, survived int
}

func (t *table) command(course, name string, requests int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.commands = append(t.commands, &commandRow{course: course, name: name, requests: requests})
}

// tried notes that a fault happened, and whether the command converged.
func (t *table) tried(course, name string, kind proxy.Kind, survived bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.commands[slices.IndexFunc(t.commands, func(r *commandRow) bool { return r.course == course && r.name == name })]
	i := slices.IndexFunc(row.cells, func(c *cell) bool { return c.kind == kind })
	if i < 0 {
		i = len(row.cells)
		row.cells = append(row.cells, &cell{kind: kind})
	}
	row.cells[i].tried++
	if survived {
		row.cells[i].survived++
	}
}

func (t *table) print(to io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COURSE\tCOMMAND\tREQUESTS\tFAULT\tSURVIVED / TRIED")
	for _, row := range t.commands {
		slices.SortFunc(row.cells, func(a, b *cell) int { return cmp.Compare(a.kind, b.kind) })
		for _, c := range row.cells {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d / %d\n", row.course, row.name, row.requests, c.kind, c.survived, c.tried)
		}
	}
	_ = w.Flush() // nobody can be told
}
