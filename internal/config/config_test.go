package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), FileName)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLaterSourcesWin(t *testing.T) {
	file := write(t, "host: file.test\nimage: file/image:1\nreplicas: 3\ntimeout: 90s\nredis:\n  chart:\n    ref: charts/redis\n")
	cfg, warnings, err := Load(Sources{
		File:    file,
		Environ: []string{"PWDEPLOY_HOST=env.test", "PWDEPLOY_IMAGE=env/image:1", "PWDEPLOY_REDIS_CHART_VALUES=a.yaml, b.yaml", "HOME=/x"},
		Flags:   map[string]string{"host": "flag.test"},
	})
	if err != nil || len(warnings) != 0 {
		t.Fatalf("Load: %v, warnings %v", err, warnings)
	}
	if cfg.Host != "flag.test" || cfg.Image != "env/image:1" || cfg.Replicas != 3 || cfg.Timeout != Duration(90*time.Second) {
		t.Errorf("got %+v", cfg)
	}
	if want := filepath.Join(filepath.Dir(file), "charts/redis"); cfg.Redis.Chart.Ref != want {
		t.Errorf("chart ref %q, want it relative to the file: %q", cfg.Redis.Chart.Ref, want)
	}
	if got := strings.Join(cfg.Redis.Chart.Values, "|"); got != "a.yaml|b.yaml" {
		t.Errorf("values files %q", got)
	}
	if cfg.Namespace != "pw-crud" || cfg.Redis.Namespace != "redis" {
		t.Errorf("defaults are lost: %+v", cfg)
	}
}

func TestErrorsSayWhere(t *testing.T) {
	tests := map[string]struct {
		file    string
		environ []string
		flags   map[string]string
		want    string
	}{
		"unknown key":         {file: "host: a.test\nhots: b.test\n", want: "pwdeploy.yaml:2: unknown field \"hots\""},
		"unknown nested key":  {file: "redis:\n  chart:\n    rev: 1\n", want: "pwdeploy.yaml:3: unknown field \"rev\""},
		"wrong type":          {file: "host: a.test\nreplicas: many\n", want: "pwdeploy.yaml:2: want a number, not a text"},
		"broken yaml":         {file: "host: [a\n", want: "pwdeploy.yaml:1: "},
		"bad duration":        {file: "timeout: soon\n", want: "\"soon\" is not a duration"},
		"flag not a number":   {flags: map[string]string{"replicas": "two"}, want: "--replicas: \"two\" is not a whole number"},
		"env not a bool":      {environ: []string{"PWDEPLOY_INGRESS_DEFAULT_CLASS=maybe"}, want: "PWDEPLOY_INGRESS_DEFAULT_CLASS: \"maybe\" is neither true nor false"},
		"profile":             {environ: []string{"PWDEPLOY_PROFILE=gcp"}, want: "PWDEPLOY_PROFILE: \"gcp\" is not a profile"},
		"no replicas":         {flags: map[string]string{"replicas": "0"}, want: "--replicas: must be at least 1"},
		"zero timeout":        {flags: map[string]string{"timeout": "0s"}, want: "--timeout: must be more than zero"},
		"namespace":           {flags: map[string]string{"namespace": "Pw_Crud"}, want: "--namespace: \"Pw_Crud\" is not a namespace"},
		"namespace from file": {file: "namespace: A\n", want: "pwdeploy.yaml: namespace: \"A\" is not a namespace"},
		"same namespace":      {flags: map[string]string{"namespace": "redis"}, want: "--namespace: the app, Redis and ingress-nginx each need"},
		"log level":           {flags: map[string]string{"log-level": "loud"}, want: "--log-level: \"loud\" is not a level"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			src := Sources{Environ: tt.environ, Flags: tt.flags}
			if tt.file != "" {
				src.File = write(t, tt.file)
			}
			_, _, err := Load(src)
			var where *Error
			if !errors.As(err, &where) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if got := strings.ReplaceAll(err.Error(), filepath.Dir(src.File)+"/", ""); !strings.Contains(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestNamedFileMustBeThere(t *testing.T) {
	_, _, err := Load(Sources{File: filepath.Join(t.TempDir(), "no.yaml")})
	if err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownVariableIsWarnedOf(t *testing.T) {
	_, warnings, err := Load(Sources{Environ: []string{"PWDEPLOY_HOTS=x", "PWDEPLOY_E2E_CONTEXT=y"}})
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "PWDEPLOY_HOTS") {
		t.Errorf("got %v, %v", warnings, err)
	}
}

func TestEmptyFileIsTheDefault(t *testing.T) {
	for _, content := range []string{"# nothing\n", "", "redis:\n", "host:\ningress:\n  chart:\n"} {
		path := write(t, content)
		cfg, _, err := Load(Sources{File: path})
		if cfg.File != path {
			t.Errorf("the file is %s, got %s", path, cfg.File)
		}
		cfg.File = ""
		if err != nil || !reflect.DeepEqual(cfg, Default()) {
			t.Errorf("%q: got %+v, %v", content, cfg, err)
		}
	}
}

func TestEnvNames(t *testing.T) {
	want := map[string]string{"host": "PWDEPLOY_HOST", "logLevel": "PWDEPLOY_LOG_LEVEL", "redis.chart.digest": "PWDEPLOY_REDIS_CHART_DIGEST", "ingress.className": "PWDEPLOY_INGRESS_CLASS_NAME"}
	for _, s := range Settings() {
		if w, ok := want[s.Path]; ok && s.Env() != w {
			t.Errorf("%s: %s, want %s", s.Path, s.Env(), w)
		}
	}
}
