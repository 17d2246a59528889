// Package integration tests pwdeploy against a real API server, controller manager and scheduler, with KWOK in the
// place of kubelets: no container runs. The control plane is test/lab's; see main_test.go for how it is found.
package integration
