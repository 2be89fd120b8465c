// Package controllers is the operator: it makes what runs in the cluster match each IMCluster.
//
// One reconciliation reads everything first (observe.go, secrets.go), decides in pure code what should
// exist (package compose), writes the difference with server-side apply (apply.go), decides in pure code
// what to say about it (package status), and writes that once. Beside it, and apart from it, two
// controllers talk to the presence pods: package usage collects the numbers of connections and users,
// and package fencing reports gateways that are certainly dead.
//
// The operator is not needed for anything that runs to go on running.
package controllers
