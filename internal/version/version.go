// Package version holds the release that a binary was built from.
package version

import "runtime/debug"

// version is set by the linker: -X github.com/imcluster/imcluster/internal/version.version=v1.2.3.
var version = ""

// Version returns the release, "v0.1.0" say, or "dev" for a build without one.
func Version() string {
	if version != "" {
		return version
	}
	return "dev"
}

// Commit returns the source revision that the binary was built from, empty when the build did not record it.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
