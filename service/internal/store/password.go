package store

import (
	"fmt"
	"os"
	"strings"
)

// readPassword returns the first line of the file, without its line end: an
// editor's trailing newline is not part of the password. Errors never hold
// the password.
func readPassword(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read password file: %w", err)
	}
	password := strings.TrimRight(string(data), "\r\n")
	if password == "" {
		return "", fmt.Errorf("password file %s is empty; leave --password-file out where Redis wants no password", path)
	}
	if strings.ContainsAny(password, "\r\n") {
		return "", fmt.Errorf("password file %s has more than one line", path)
	}
	return password, nil
}
