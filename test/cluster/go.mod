// The cluster tool: a real Kubernetes for "make up" and the tests. Kubernetes
// itself and CoreDNS are modules of their own below, because their
// dependencies are theirs alone.
module github.com/imcluster/imcluster/test/cluster

go 1.26.0

require (
	github.com/alecthomas/kong v1.17.0
	github.com/google/go-containerregistry v0.22.1
)

require (
	github.com/klauspost/compress v1.19.2 // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/opencontainers/image-spec v1.1.1 // indirect
)
