// Package presencechaos tests what the platform promises about presence while everything dies that can die. It runs real gateway
// and presence processes on a real Redis. Clients log in and out, move, lose connections and set statuses; others watch them in
// every way there is, and go on with their tokens at another pod. A random schedule of faults is done to all of them.
//
// What the clients did and what anybody was told goes into a history, which [Check] judges: nobody who was connected all the time
// may be told offline, nobody who left may come back, and nobody invisible may be seen. When it is quiet, everybody who can tell
// must tell the same: what the clients know.
//
// A schedule follows from its seed, though processes decide what becomes of it. Environment variables of the tests:
//
//	CHAOS_SCHEDULES  how many random schedules each test runs, instead of the few that fit into every run of all tests
//	CHAOS_WORLDS     how many of them run at the same time
//	CHAOS_SEED       run the schedule of this seed only; choose a test with -run
//	CHAOS_RACE       build the programs with the race detector
package presencechaos
