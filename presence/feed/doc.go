// Package feed is what a presence pod knows of a user, as a pure function of facts, and what others may see of it.
//
// Every change of a user's record in Redis is a fact in the stream of the user's partition, written by the script that
// makes the change and numbered without gaps: see docs/redis-model.md. [Parse] reads a fact, [State.Apply] folds it, and
// [Visible] alone decides what is seen of the result. Whoever asks Redis instead of the fold decides by [Visible] too, so
// that no two readers differ. The package does no I/O and knows no clock.
package feed
