//go:build tools

// Package lab is empty: the programs are under cmd. This file keeps in go.mod what is only built, never imported.
package lab

import (
	_ "sigs.k8s.io/kwok/cmd/kwok"
)
