// Package status decides what an IMCluster's status says.
//
// It is pure: everything that was observed and went wrong comes in as one [Input]. The conditions are
// those that kstatus understands, so that "helm --wait" and Flux see when a change has arrived: Ready,
// Reconciling while somebody is still working on it, and Stalled when only the user can go on. Messages
// are for users: what is wrong, with which object, and what to do. They never hold anything that
// changes by itself, because every new message is a write.
//
// docs/conditions.md lists every condition and reason.
package status
