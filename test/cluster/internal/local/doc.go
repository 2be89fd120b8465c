// Package local runs a real single-node Kubernetes without a container engine: the components as processes of this
// machine, in a network and a mount namespace and below a cgroup of their own. It needs Linux, root, and Debian's or
// Ubuntu's runc, CNI plugins and nftables.
//
// What belongs to a cluster can be told without any record of it, so that a cluster can be removed however far the
// command that made it came: its processes carry its name in their environment (see [marker]), its containers are in
// the cgroup of its name, its network link bears its name, and its files are in two directories of its name. Mounts
// and network interfaces live in the namespaces and go with the last process in them.
package local
