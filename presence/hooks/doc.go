// Package hooks tells an application's back end when users come online and go offline, by POST of signed batches of events.
//
// Hooks are level-triggered. What the receiver was told is remembered in Redis, and what differs from how users are now is what
// it is told next: events that it missed collapse into the last state, and nobody is forgotten, however long the receiver, Redis
// or a presence pod was away. Before the receiver is told about a user this is noted in Redis, and after it answered what it was
// told: if the pod stops in between, whoever takes over tells it again. So the receiver hears of the latest state of each user at
// least once, and of each user in order: events of one user are numbered, and never under way at the same time.
//
// One presence pod at a time has the lease of a partition; another one takes over within [LeaseTTL] after it stopped.
package hooks
