// Package compose turns an IMCluster into the Kubernetes objects that it consists of.
//
// It is pure: the same IMCluster, images and UID of a Secret give the same objects, byte for byte, whatever runs in the
// cluster. Objects are apply configurations, which hold exactly the fields that the operator decides
// about. Everything that a user leaves out of a spec is filled in here and not in the resource
// definition, for a default in a definition changes with it, and would roll pods when it does.
package compose
