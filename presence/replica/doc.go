// Package replica holds in memory who is online, so that most questions about presence touch no Redis, and tells watchers
// what changes.
//
// A [Replica] answers what package store's Users, Online and Counts answer, in the same shapes. What it cannot answer for
// certain it asks Redis for. A [Subscription] begins with a snapshot of the users it is for, and goes on with what changes;
// its tokens let a watcher go on where it was, on any pod. No failure is shown as offline: neither by an answer nor by an
// event.
package replica
