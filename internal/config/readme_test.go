package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the README's table of settings anew")

const readmePath = "../../README.md"

// unset says what holds where Default leaves a setting empty and its help does not say it.
var unset = map[string]string{
	"cacheDir":              "`pwdeploy/charts` in the user's cache folder",
	"redis.storageClass":    "`gp3` in the profile `aws`",
	"redis.chart.ref":       "see [Charts](#charts)",
	"redis.chart.version":   "see [Charts](#charts)",
	"redis.chart.digest":    "see [Charts](#charts)",
	"redis.chart.values":    "none",
	"ingress.chart.ref":     "see [Charts](#charts)",
	"ingress.chart.version": "see [Charts](#charts)",
	"ingress.chart.digest":  "see [Charts](#charts)",
	"ingress.chart.values":  "none",
}

// between gives what stands between two comments of the README, and where.
func between(t *testing.T, readme, name string) (text string, begin, end int) {
	t.Helper()
	open, closing := "<!-- "+name+" -->\n", "<!-- /"+name+" -->"
	begin = strings.Index(readme, open) + len(open)
	end = strings.Index(readme, closing)
	if begin < len(open) || end < begin {
		t.Fatalf("README.md has no part between %q and %q", strings.TrimSpace(open), closing)
	}
	return readme[begin:end], begin, end
}

func readReadme(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(readmePath)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// defaults are the values of Default by the settings' paths, as pwdeploy.yaml would have them.
func defaults(t *testing.T) map[string]string {
	t.Helper()
	body, err := yaml.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(body, &tree); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	flatten(found, "", tree)
	return found
}

func flatten(into map[string]string, prefix string, tree map[string]any) {
	for key, value := range tree {
		switch v := value.(type) {
		case map[string]any:
			flatten(into, prefix+key+".", v)
		case []any:
			into[prefix+key] = ""
		default:
			into[prefix+key] = fmt.Sprint(v)
		}
	}
}

var saidDefault = regexp.MustCompile(` \(default: (.+)\)$`)

// row is a setting's line in the table: path, variable, flag, default, meaning.
func row(t *testing.T, s Setting, standard string) string {
	t.Helper()
	usage, value := s.Usage, standard
	if value != "" {
		value = "`" + value + "`"
	}
	if m := saidDefault.FindStringSubmatch(usage); m != nil {
		usage, value = strings.TrimSuffix(usage, m[0]), m[1]
	}
	if value == "" {
		value = unset[s.Path]
	}
	if value == "" {
		t.Errorf("%s: nobody says what holds where it is not set", s.Path)
	}
	name := ""
	if s.Flag != "" {
		name = "`--" + s.Flag + "`"
	}
	return fmt.Sprintf("| `%s` | `%s` | %s | %s | %s |\n", s.Path, s.Env(), name, value, usage)
}

func TestReadmeListsAllSettings(t *testing.T) {
	standard := defaults(t)
	want := "| pwdeploy.yaml | environment | flag | default | meaning |\n|---|---|---|---|---|\n"
	for _, s := range Settings() {
		if _, ok := standard[s.Path]; !ok {
			t.Errorf("%s is a setting and not a key of the file", s.Path)
		}
		want += row(t, s, standard[s.Path])
	}
	readme := readReadme(t)
	got, begin, end := between(t, readme, "settings")
	if *update && !t.Failed() {
		if err := os.WriteFile(readmePath, []byte(readme[:begin]+want+readme[end:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("README.md and Settings differ (go test ./internal/config -run Readme -update writes it anew):\n%s", diff)
	}
}

// The example is read just as a user's file is, and each of its keys does something.
func TestReadmeExampleLoads(t *testing.T) {
	example, _, _ := between(t, readReadme(t), "example")
	body, ok := strings.CutPrefix(example, "```yaml\n")
	body, closed := strings.CutSuffix(strings.TrimSpace(body), "\n```")
	if !ok || !closed {
		t.Fatalf("the example is not a fenced block of yaml:\n%s", example)
	}
	file := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, warnings, err := Load(Sources{File: file})
	if err != nil || len(warnings) != 0 {
		t.Fatalf("Load: %v, warnings %v", err, warnings)
	}
	if reflect.DeepEqual(cfg, Default()) {
		t.Error("the example changes nothing")
	}
}
