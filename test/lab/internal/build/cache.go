// Package build makes what a lab runs, programs and root file systems, and keeps each until its inputs change.
package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Cache is a folder with files that are expensive to make. Each has a neighbour NAME.key with a digest of its inputs.
type Cache struct{ Dir string }

// Path is where the file of that name is, or will be.
func (c Cache) Path(name string) string { return filepath.Join(c.Dir, name) }

// Has says whether the file is there and was made from inputs with the key.
func (c Cache) Has(name, key string) bool {
	have, err := os.ReadFile(c.Path(name) + ".key")
	if err != nil || string(have) != key {
		return false
	}
	_, err = os.Stat(c.Path(name))
	return err == nil
}

// Ensure makes the file with make, which gets the name of a temporary file to write, unless the cache has it. It says
// whether it had to.
func (c Cache) Ensure(ctx context.Context, name, key string, make func(ctx context.Context, file string) error) (bool, error) {
	if c.Has(name, key) {
		return false, nil
	}
	final := c.Path(name)
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return false, err
	}
	temporary := filepath.Join(filepath.Dir(final), fmt.Sprintf(".%d-%s", os.Getpid(), filepath.Base(final)))
	defer os.Remove(temporary)
	if err := make(ctx, temporary); err != nil {
		return true, err
	}
	// In this order a crash in between costs a second making and never leaves a wrong key.
	if err := os.Remove(final + ".key"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	if err := os.Rename(temporary, final); err != nil {
		return true, err
	}
	return true, os.WriteFile(final+".key", []byte(key), 0o644)
}

// Lock keeps other builds into the cache waiting until the returned function is called. wait is called once if it has
// to wait itself.
func (c Cache) Lock(ctx context.Context, wait func()) (func(), error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(c.Path(".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; said = true {
		got, err := tryLock(f)
		if got {
			return func() { f.Close() }, nil
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock the cache %s: %w", c.Dir, err)
		}
		if !said {
			wait()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another build holds the cache %s: %w", c.Dir, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Prune removes the files that match the pattern, below the cache's folder, except for the newest. Somebody may be
// about to read the one before.
func (c Cache) Prune(pattern string, keep int) error {
	files, err := filepath.Glob(c.Path(pattern))
	if err != nil {
		return err
	}
	age := func(file string) time.Time {
		info, err := os.Stat(file)
		if err != nil {
			return time.Time{}
		}
		return info.ModTime()
	}
	slices.SortFunc(files, func(a, b string) int { return age(b).Compare(age(a)) })
	for _, file := range files[min(keep, len(files)):] {
		for _, name := range []string{file + ".key", file} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Key is a digest of the inputs of a file: words, and the files and folders of source code that go into it.
func Key(words []string, paths ...string) (string, error) {
	sum := sha256.New()
	for _, word := range words {
		fmt.Fprintf(sum, "%q\n", word)
	}
	for _, path := range paths {
		if err := hashTree(sum, path); err != nil {
			return "", fmt.Errorf("read the inputs of a build: %w", err)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hashTree adds the files below path, tests left out.
func hashTree(sum io.Writer, path string) error {
	return filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(name, "_test.go") || strings.Contains(name, "/testdata/") {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(path, name)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(sum, "%q %x\n", relative, sha256.Sum256(content))
		return err
	})
}
