package progress

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRunInALog(t *testing.T) {
	var out strings.Builder
	p := New(&out)
	p.beat = 20 * time.Millisecond
	if err := p.Run("programs", "building, up to 16 minutes", func() (string, error) {
		time.Sleep(50 * time.Millisecond)
		return "built", nil
	}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) < 2 || !strings.Contains(lines[0], "up to 16 minutes") || !strings.Contains(lines[len(lines)-1], "built") {
		t.Errorf("lines %q: want a sign of life and the result", lines)
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("control codes in a log")
	}
}

func TestRunFails(t *testing.T) {
	var out strings.Builder
	want := errors.New("broken")
	if err := New(&out).Run("programs", "", func() (string, error) { return "", want }); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	if out.Len() != 0 {
		t.Errorf("a failed step wrote %q", out.String())
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		430 * time.Millisecond: "0.4s", 12400 * time.Millisecond: "12s", 370 * time.Second: "6m10s",
	} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}
