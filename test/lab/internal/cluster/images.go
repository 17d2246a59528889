package cluster

import (
	"encoding/json"
	"fmt"
	"os"
)

// ctrPath is containerd's own client, from Debian's package.
const ctrPath = "/usr/bin/ctr"

// Image is an archive to load into the container runtimes.
type Image struct {
	// Name is the reference in the archive, normalized ("docker.io/library/redis:8").
	Name string
	// Aliases are further references for the same content. The runtime finds an image by its reference and doesn't
	// compare a digest in it, so that a pinned reference can be met by local content.
	Aliases []string
	Archive string
	// Digest is that of the content, to see whether the loaded one is still right.
	Digest string
	// Note says what the content really is, for the status.
	Note string
}

// ImportArgs are the arguments of ctr that load the image.
func (i Image) ImportArgs(socket string) [][]string {
	ctr := func(args ...string) []string {
		return append([]string{"--address", socket, "--namespace", "k8s.io", "images"}, args...)
	}
	commands := [][]string{ctr("import", i.Archive)}
	for _, alias := range i.Aliases {
		commands = append(commands, ctr("tag", "--force", i.Name, alias))
	}
	return commands
}

// SaveImages records the lab's images in its folder.
func (s Spec) SaveImages(images []Image) error {
	text, err := json.MarshalIndent(images, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.Path("images.json"), append(text, '\n'), 0o644)
}

// LoadImages reads what SaveImages wrote.
func (s Spec) LoadImages() ([]Image, error) {
	text, err := os.ReadFile(s.Path("images.json"))
	if err != nil {
		return nil, err
	}
	var images []Image
	if err := json.Unmarshal(text, &images); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.Path("images.json"), err)
	}
	return images, nil
}
