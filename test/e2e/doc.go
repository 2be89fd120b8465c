// Package e2e tests IMCluster as its users meet it: the operator installed by Helm on a real Kubernetes, IMClusters
// applied as YAML, WebSocket clients connected to gateway pods, presence asked through its Service. Files are named
// after what happens to the platform in them.
//
// The cluster is the one of KUBECONFIG, with the images of this source tree loaded; `make test-e2e` prepares both.
package e2e
