//go:build unix

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMeasure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "usage.json")
	// The shell waits for a child that holds 30 MB: it counts as the greatest of both.
	code, err := run(file, []string{"sh", "-c", "sleep 0.2; head -c 30000000 /dev/zero | tail -c 30000000 >/dev/null; exit 3"})
	if code != 3 || err != nil {
		t.Fatalf("exit %d, %v", code, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var u Usage
	if err := json.Unmarshal(text, &u); err != nil {
		t.Fatal(err)
	}
	if u.Seconds < 0.2 || u.Seconds > 30 || u.CPU <= 0 || u.Peak < 25<<20 || u.Peak > 4<<30 {
		t.Errorf("%+v", u)
	}
}

func TestMeasureWhatDoesNotRun(t *testing.T) {
	for _, c := range []struct {
		command []string
		want    string
	}{
		{[]string{"/nonexistent/command"}, "/nonexistent/command"},
		{[]string{"sh", "-c", "kill -9 $$"}, "killed"},
	} {
		file := filepath.Join(t.TempDir(), "usage.json")
		code, err := run(file, c.command)
		if code != 1 || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: exit %d, %v", c.command, code, err)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%v: there is a result", c.command)
		}
	}
}
