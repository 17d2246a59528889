// Package charts holds stand-ins for the two charts that the lab serves, for machines that can't reach the real ones:
// the same names, labels, values, Services, webhook and hooks, written for the lab and for nothing else.
package charts

import "embed"

// Files holds a folder for each chart.
//
//go:embed all:redis all:ingress-nginx
var Files embed.FS
