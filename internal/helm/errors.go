package helm

import (
	"errors"
	"fmt"
	"strings"
)

// ErrReleaseNotFound says that there is no release of that name in that namespace.
var ErrReleaseNotFound = errors.New("release not found")

// FetchError says that a chart could not be had.
type FetchError struct {
	Source Source
	Advice string // what to do about it
	Err    error
}

func (e *FetchError) Error() string { return fmt.Sprintf("chart %s: %v", e.Source, e.Err) }

// Unwrap gives the cause.
func (e *FetchError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *FetchError) Hint() string { return e.Advice }

// DigestError says that a chart arrived, and was not the one that is pinned or was seen before. It was
// not kept.
type DigestError struct {
	Want, Got string
	// Remembered is set when Want is not pinned but what arrived the first time.
	Remembered bool
}

func (e *DigestError) Error() string {
	if e.Remembered {
		return fmt.Sprintf("the digest is %s, but it was %s when it was fetched before", e.Got, e.Want)
	}
	return fmt.Sprintf("the digest is %s, not %s as pinned", e.Got, e.Want)
}

// Hint says what to do.
func (e *DigestError) Hint() string {
	if e.Remembered {
		return "the publisher replaced the chart under the same version, or somebody tampers with it: look at it, then pin the digest you trust"
	}
	return "the publisher replaced the chart, somebody tampers with it, or the pinned digest is wrong: nothing was used of it"
}

// VersionError says that the chart inside an archive is another one than was asked for.
type VersionError struct {
	Want, Got string // name and version: "redis 23.1.1"
}

func (e *VersionError) Error() string { return fmt.Sprintf("it holds %s, not %s", e.Got, e.Want) }

// Hint says what to do.
func (e *VersionError) Hint() string { return "make the reference and the version agree" }

// ForeignReleaseError says that a release of that name is there and was not made by this instance of
// pwdeploy. It is neither changed nor removed.
type ForeignReleaseError struct{ Release *Release }

func (e *ForeignReleaseError) Error() string {
	r := e.Release
	chart := ""
	if r.Chart != "" {
		chart = fmt.Sprintf(" (%s %s, %s)", r.Chart, r.ChartVersion, r.Status)
	}
	if r.Instance != "" {
		return fmt.Sprintf("release %s/%s%s belongs to another deployment, %s", r.Namespace, r.Name, chart, r.Instance)
	}
	return fmt.Sprintf("release %s/%s%s was not installed by pwdeploy", r.Namespace, r.Name, chart)
}

// Hint says what to do.
func (e *ForeignReleaseError) Hint() string {
	if e.Release.Instance != "" {
		return fmt.Sprintf("give this deployment a namespace of its own for it (%s.namespace in pwdeploy.yaml)", strings.TrimSuffix(e.Release.Name, "-nginx"))
	}
	return fmt.Sprintf("helm -n %s status %s shows it; uninstall it if it is no longer needed", e.Release.Namespace, e.Release.Name)
}

// PendingError says that a release has a status in which what was asked for can't be done: it is being taken away, and
// was to be rolled back, or pwdeploy does not know that status.
type PendingError struct{ Release *Release }

func (e *PendingError) Error() string {
	r := e.Release
	return fmt.Sprintf("release %s/%s has been %s since %s", r.Namespace, r.Name, r.Status, r.Updated.UTC().Format("2006-01-02 15:04:05 MST"))
}

// Hint says what to do.
func (e *PendingError) Hint() string {
	if e.Release.Status == StatusUninstalling {
		return "pwdeploy up finishes that and installs it again, pwdeploy down just finishes it; Redis' data stays"
	}
	return "if nobody works on it: pwdeploy down, then pwdeploy up; Redis' data stays"
}
