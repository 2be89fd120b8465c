// Package dev runs a whole platform in one process, without Kubernetes: gateways, presence and a Redis of its own. It is
// what "make dev" is, and what tests of clients run against.
package dev
