// Package chaos holds the proof that pwdeploy converges: whatever happens to it or to its requests, the same command
// again brings the cluster to where an undisturbed run would have.
package chaos
