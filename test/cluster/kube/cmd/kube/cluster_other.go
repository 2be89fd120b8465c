//go:build !linux

package main

import "github.com/spf13/cobra"

// clusterComponents is empty: elsewhere there is kubectl, for kind, and the
// API server, for tests.
func clusterComponents() map[string]func() *cobra.Command { return nil }
