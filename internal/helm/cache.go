package helm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// blobs is a folder of files that are named by the SHA-256 of what they hold. A file that is there is
// whole, and if it is not, its name tells.
type blobs struct{ dir string }

func newBlobs(dir string) blobs { return blobs{filepath.Join(dir, "sha256")} }

func (b blobs) path(digest string) string {
	return filepath.Join(b.dir, strings.TrimPrefix(digest, "sha256:"))
}

// get gives what belongs to a digest, or nil if it is not there or damaged.
func (b blobs) get(digest string, limit int64) []byte {
	f, err := os.Open(b.path(digest))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := readAll(f, limit)
	if err != nil || digestOf(data) != digest {
		return nil
	}
	return data
}

// put keeps data. What lies there under its digest, damaged or not, is replaced in one step.
func (b blobs) put(data []byte) error { return writeFile(b.path(digestOf(data)), data) }

// seen remembers the digest that arrived first for a reference and version.
type seen struct{ dir string }

func newSeen(dir string) seen { return seen{filepath.Join(dir, "seen")} }

// sighting is a file in the folder. Ref and Version are for people: the name of the file is the key.
type sighting struct {
	Ref     string    `json:"ref"`
	Version string    `json:"version,omitempty"`
	Digest  string    `json:"digest"`
	Time    time.Time `json:"time"`
}

func (s seen) path(src Source) string { return filepath.Join(s.dir, src.key()+".json") }

// digest gives the one that was seen first, or "". A damaged note is as good as none.
func (s seen) digest(src Source) string {
	data, err := os.ReadFile(s.path(src))
	if err != nil {
		return ""
	}
	var note sighting
	if json.Unmarshal(data, &note) != nil || validDigest(note.Digest) != nil {
		return ""
	}
	return note.Digest
}

// remember notes what arrived. A pinned source is noted too: its pin may be taken away later, and a new
// pin is the user's word about what to trust.
func (s seen) remember(src Source, digest string) error {
	note := sighting{Ref: redact(src.Ref), Version: src.Version, Digest: digest, Time: time.Now().UTC()}
	data, err := json.MarshalIndent(note, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(s.path(src), append(data, '\n'))
}

// key names a source among others, its digest and credentials apart.
func (s Source) key() string {
	ref := s.Ref
	if u, err := url.Parse(ref); err == nil {
		u.User = nil
		ref = u.String()
	}
	sum := sha256.Sum256([]byte(ref + "\n" + s.Version))
	return hex.EncodeToString(sum[:])
}

// writeFile writes a file so that a reader, or a machine that loses power, sees all of it or nothing.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		// Windows refuses to replace a file that another process reads. It is the same file.
		if there, readErr := os.ReadFile(path); readErr == nil && bytes.Equal(there, data) {
			return os.Remove(f.Name())
		}
		return err
	}
	syncDir(dir)
	return nil
}

// syncDir makes the new name durable where the system can do that. Where it can't, a lost name costs a
// download.
func syncDir(dir string) {
	d, err := os.Open(dir)
	if err != nil {
		return
	}
	defer d.Close()
	_ = d.Sync()
}
