// Package chaos tests what the platform promises about messages while everything dies that can die. It runs real gateway
// processes on a real Redis, connects clients that speak the raw protocol, does to all of them what a random schedule
// says, and has package check judge what the clients saw.
//
// A schedule follows from its seed, is printed when it fails, and runs again from its seed or its text, though not in the
// same time: processes and the network decide about that. Environment variables of the tests:
//
//	CHAOS_SCHEDULES  how many random schedules each test runs, instead of the few that fit into every run of all tests
//	CHAOS_WORLDS     how many of them run at the same time
//	CHAOS_SEED       run the schedule of this seed only; choose a test with -run
//	CHAOS_SCHEDULE   run the schedule in this file instead, with CHAOS_SEED
//	CHAOS_REPEAT     run each schedule that often
//	CHAOS_SHRINK     when a schedule fails, drop what the failure does not need, and print what is left
//	CHAOS_RACE       build the gateway with the race detector
//	CHAOS_GATEWAY    the path of a gateway that is built, instead of that of this tree
package chaos
