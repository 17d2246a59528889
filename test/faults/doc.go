// Package faults is the corpus of what goes wrong in the field. Each scene provokes a cause for real, on the lab or on
// a control plane, runs an unchanged pwdeploy as a process, and wants the cause named within five seconds of the moment
// that the cluster shows it, with the object, the reason, what to do, the exit code, and what state the cluster is in.
//
// make faults runs all of it and prints the corpus as a table; make test runs the scenes of the control plane.
//
// To add a scene, write it into the list of the file that it belongs to (or a new file, with a line in corpus), and run
// it alone:
//
//	go test ./test/faults -run 'TestCorpus/the_name_of_the_scene'
//
// Every scene has namespaces, a host and an ingress class of its own, with somebody else's ingress controller that
// serves it: scenes of the control plane run side by side and may not touch what others use, such as nodes or default
// classes. One that has to is serial.
package faults
