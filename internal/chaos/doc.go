// Package chaos tests what the platform promises about messages while everything dies that can die. It runs real gateway
// processes on a real Redis, connects clients that speak the raw protocol, does to all of them what a random schedule
// says, and has package check judge what the clients saw.
//
// A schedule follows from its seed, is printed when it fails, and runs again from its seed or its text. See the tests for
// the environment variables.
package chaos
