package build_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/lab/internal/build"
)

func TestEnsure(t *testing.T) {
	cache := build.Cache{Dir: t.TempDir()}
	made := 0
	maker := func(_ context.Context, file string) error {
		made++
		return os.WriteFile(file, []byte{byte('0' + made)}, 0o644)
	}
	broken := errors.New("broken")
	for _, step := range []struct {
		name, key string
		make      func(context.Context, string) error
		wantMade  bool
		wantErr   error
		content   string
	}{
		{"first", "a", maker, true, nil, "1"},
		{"same inputs", "a", maker, false, nil, "1"},
		{"other inputs, failing", "b", func(context.Context, string) error { return broken }, true, broken, "1"},
		{"the old is still there", "a", maker, false, nil, "1"},
		{"other inputs", "b", maker, true, nil, "2"},
	} {
		got, err := cache.Ensure(t.Context(), "bin/x", step.key, step.make)
		if got != step.wantMade || !errors.Is(err, step.wantErr) {
			t.Errorf("%s: made=%v, %v; want %v, %v", step.name, got, err, step.wantMade, step.wantErr)
		}
		if content, err := os.ReadFile(cache.Path("bin/x")); err != nil || string(content) != step.content {
			t.Errorf("%s: content %q, %v; want %q", step.name, content, err, step.content)
		}
	}
	if entries, err := os.ReadDir(cache.Path("bin")); err != nil || len(entries) != 2 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

func TestKey(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	key := func(words ...string) string {
		t.Helper()
		k, err := build.Key(words, dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write("main.go", "package main")
	first := key("v1")
	if key("v1") != first {
		t.Error("the same inputs gave two keys")
	}
	if key("v2") == first {
		t.Error("another word gave the same key")
	}
	write("main_test.go", "package main")
	if key("v1") != first {
		t.Error("a test changed the key")
	}
	write("main.go", "package main // changed")
	if key("v1") == first {
		t.Error("changed source gave the same key")
	}
	if _, err := build.Key(nil, filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing input is no error")
	}
}

func TestPrune(t *testing.T) {
	cache := build.Cache{Dir: t.TempDir()}
	for i, name := range []string{"a-1.tar", "a-2.tar", "a-3.tar", "b-1.tar"} {
		for _, file := range []string{name, name + ".key"} {
			if err := os.WriteFile(cache.Path(file), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(cache.Path(name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	// An interrupted build leaves a file without its key.
	if err := os.Remove(cache.Path("a-1.tar.key")); err != nil {
		t.Fatal(err)
	}
	if err := cache.Prune("a-*.tar", 2); err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(cache.Path("*.tar"))
	if err != nil || len(left) != 3 || filepath.Base(left[0]) != "a-2.tar" {
		t.Errorf("left %v, %v; want the two newest of a, and b", left, err)
	}
}

func TestLock(t *testing.T) {
	cache := build.Cache{Dir: t.TempDir()}
	unlock, err := cache.Lock(t.Context(), func() { t.Error("waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := cache.Lock(ctx, cancel); !errors.Is(err, context.Canceled) {
		t.Errorf("a held lock: %v", err)
	}
	unlock()
	unlock, err = cache.Lock(t.Context(), func() { t.Error("waited for nobody") })
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
