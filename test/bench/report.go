//go:build unix

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// measurement is what one command did.
type measurement struct {
	Stage   string  `json:"stage"`
	Tool    string  `json:"tool"`
	Round   int     `json:"round"`
	Seconds float64 `json:"seconds"` // until the command returned
	// True says whether the cluster was, when the command returned, what the command had to make it: serving, or
	// empty. TrueAfter is when it was, in seconds since the command began.
	True      bool    `json:"true"`
	TrueAfter float64 `json:"trueAfter"`
	// Asked counts the questions to the service while the command ran, once it was served; Failed those without a right
	// answer.
	Asked       int            `json:"asked"`
	Failed      int            `json:"failed"`
	Requests    int            `json:"requests"` // to the API server
	Kinds       map[string]int `json:"kinds"`
	Connections int            `json:"connections"`
	CPU         float64        `json:"cpuSeconds"`
	Peak        int64          `json:"peakBytes"` // the greatest process
}

func (m *measurement) count(requests []request) {
	m.Requests, m.Kinds = len(requests), map[string]int{}
	for _, r := range requests {
		m.Kinds[r.kind()]++
	}
}

// report is all of a benchmark.
type report struct {
	Kubernetes   string        `json:"kubernetes"`
	Machine      string        `json:"machine"`
	Load         string        `json:"loadAverage"` // when it began
	Notes        []string      `json:"notes"`
	Rounds       int           `json:"rounds"`
	DelayMillis  float64       `json:"delayMillis"`
	Tools        []string      `json:"tools"`
	Summary      []summary     `json:"summary"`
	Measurements []measurement `json:"measurements"`
}

// summary is a quantity of a stage, tool by tool.
type summary struct {
	Stage    string   `json:"stage"`
	Quantity string   `json:"quantity"`
	Values   []values `json:"values"` // in the order of Tools
}

// values is what the rounds brought.
type values struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func (b *bench) newReport() *report {
	r := &report{
		Kubernetes: b.kubernetes, Machine: fmt.Sprintf("%s/%s, %d CPUs", runtime.GOOS, runtime.GOARCH, runtime.NumCPU()),
		Load: b.load, Notes: append([]string{}, b.notes...), Rounds: b.rounds, DelayMillis: float64(b.delay) / float64(time.Millisecond),
	}
	for _, t := range tools(b.options) {
		r.Tools = append(r.Tools, t.name)
	}
	return r
}

// quantity is a row of the table.
type quantity struct {
	name    string
	digits  int
	of      func(measurement) float64
	install bool // only where the service is served for the first time
	served  bool // only where the service is to be served
	removed bool // only where the cluster is to be empty
	share   bool // 1 or 0: shown as how often
}

func quantities() []quantity {
	kind := func(name string) func(measurement) float64 {
		return func(m measurement) float64 { return float64(m.Kinds[name]) }
	}
	truth := func(m measurement) float64 {
		if m.True {
			return 1
		}
		return 0
	}
	after := func(m measurement) float64 { return m.TrueAfter }
	return []quantity{
		{name: "time until it returned, s", digits: 1, of: func(m measurement) float64 { return m.Seconds }},
		{name: "first served after, s", digits: 1, of: after, install: true},
		{name: "served when it returned", of: truth, served: true, share: true},
		{name: "empty after, s", digits: 1, of: after, removed: true},
		{name: "empty when it returned", of: truth, removed: true, share: true},
		{name: "requests failed meanwhile", of: func(m measurement) float64 { return float64(m.Failed) }, served: true},
		{name: "API requests", of: func(m measurement) float64 { return float64(m.Requests) }},
		{name: "  reads", of: kind(kindRead)},
		{name: "  writes", of: kind(kindWrite)},
		{name: "  dry runs, access checks", of: kind(kindCheck)},
		{name: "  watches", of: kind(kindWatch)},
		{name: "  discovery", of: kind(kindDiscovery)},
		{name: "connections", of: func(m measurement) float64 { return float64(m.Connections) }},
		{name: "CPU, s", digits: 2, of: func(m measurement) float64 { return m.CPU }},
		{name: "peak memory, MiB", of: func(m measurement) float64 { return float64(m.Peak) / (1 << 20) }},
	}
}

func (q quantity) suits(s stage) bool {
	return (!q.install || s.name == stageInstall) && (!q.served || !s.empty) && (!q.removed || s.empty)
}

// of gives the measurements of a stage and tool.
func (r *report) of(s stage, tool string) []measurement {
	return slices.DeleteFunc(slices.Clone(r.Measurements), func(m measurement) bool { return m.Stage != s.name || m.Tool != tool })
}

func (r *report) values(s stage, q quantity, tool string) values {
	var all []float64
	for _, m := range r.of(s, tool) {
		all = append(all, q.of(m))
	}
	return valuesOf(all)
}

func valuesOf(all []float64) values {
	if len(all) == 0 {
		return values{}
	}
	slices.SortFunc(all, cmp.Compare)
	middle := len(all) / 2
	v := values{Median: all[middle], Least: all[0], Most: all[len(all)-1]}
	if len(all)%2 == 0 {
		v.Median = (all[middle-1] + all[middle]) / 2
	}
	return v
}

func (r *report) json(out io.Writer) error {
	r.Summary = nil
	for _, s := range stages() {
		for _, q := range quantities() {
			if !q.suits(s) {
				continue
			}
			line := summary{Stage: s.name, Quantity: strings.TrimSpace(q.name)}
			for _, tool := range r.Tools {
				line.Values = append(line.Values, r.values(s, q, tool))
			}
			r.Summary = append(r.Summary, line)
		}
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

func (r *report) text(out io.Writer) error {
	fmt.Fprintf(out, "pwdeploy beside the script it replaces: one cluster, %s, in turns\n", plural(r.Rounds, "round"))
	fmt.Fprintf(out, "  Kubernetes %s on %s; load average at the start %s\n", r.Kubernetes, r.Machine, r.Load)
	if r.DelayMillis > 0 {
		fmt.Fprintf(out, "  each request to the API server is held back for %g ms\n", r.DelayMillis)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(out, "  %s\n", note)
	}
	for _, line := range align(r.rows()) {
		fmt.Fprintln(out, line)
	}
	_, err := io.WriteString(out, footer)
	return err
}

const footer = `
Median (least to most) of the rounds. The last column is the script's median by pwdeploy's: 2.0x means that the script
needs twice as much. Noise: times carry that of the machine, so a difference smaller than the ranges means nothing, and
times of two runs of this benchmark can't be compared; requests and memory can. "Served" is a value stored and read
back through the ingress, asked for every 50 ms. Writes count whether they change something or not. Peak memory is that
of the greatest process. Every round begins with empty caches of charts and discovery.
`

// rows are the table: for each stage an empty line, a heading, and the quantities.
func (r *report) rows() [][]string {
	var out [][]string
	for _, s := range stages() {
		out = append(out, nil, append([]string{s.title}, r.Tools...))
		for _, q := range quantities() {
			if q.suits(s) {
				out = append(out, r.row(s, q))
			}
		}
	}
	return out
}

// row is a quantity's line, with the ratio where there are two tools and none of both is 0.
func (r *report) row(s stage, q quantity) []string {
	cells := []string{"  " + q.name}
	var medians []float64
	for _, tool := range r.Tools {
		v := r.values(s, q, tool)
		medians = append(medians, v.Median)
		cells = append(cells, r.cell(s, q, tool, v))
	}
	if len(medians) == 2 && medians[0] > 0 && medians[1] > 0 && !q.share {
		cells = append(cells, fmt.Sprintf("%.1fx", medians[1]/medians[0]))
	}
	return cells
}

func (r *report) cell(s stage, q quantity, tool string, v values) string {
	if q.share {
		measured, times := r.of(s, tool), 0
		for _, m := range measured {
			times += int(q.of(m))
		}
		return fmt.Sprintf("%d of %d", times, len(measured))
	}
	show := func(f float64) string { return fmt.Sprintf("%.*f", q.digits, f) }
	if show(v.Least) == show(v.Most) {
		return show(v.Median)
	}
	return fmt.Sprintf("%s (%s to %s)", show(v.Median), show(v.Least), show(v.Most))
}

// align pads the columns to equal widths over all rows.
func align(rows [][]string) []string {
	widths := map[int]int{}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], len(cell))
		}
	}
	out := make([]string, 0, len(rows))
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s   ", widths[i], cell)
		}
		out = append(out, strings.TrimRight(line.String(), " "))
	}
	return out
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
