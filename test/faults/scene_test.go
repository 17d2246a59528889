package faults

import (
	"slices"
	"testing"
	"time"

	"github.com/pwdeploy/pwdeploy/test/harness"
)

// corpus is all scenes.
func corpus() []scene {
	return slices.Concat(
		kubeconfigScenes(),
		ingressScenes(),
		serverScenes(),
		chartScenes(),
