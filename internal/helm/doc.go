// Package helm installs, upgrades and removes charts. It is the only package of pwdeploy that imports
// Helm, and none of Helm's types leave it, so that a move to another major version of Helm touches one
// folder.
//
// A Store fetches charts: pinned, verified and kept on disk. A Client plans and carries out what has to
// be done so that a release of such a chart exists in a cluster, and does nothing when nothing changed.
// It never waits for the workloads of a release to become ready: that is the caller's, by watches. It
// does wait for the chart's hooks, because the order between hooks and objects is part of a chart.
package helm
