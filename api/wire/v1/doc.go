// Package wirev1 is the published schema of the frames: frame.proto with its generated Go code, and JSON Schemas. IMCluster's
// own programs use package wire, which writes the same bytes.
package wirev1
