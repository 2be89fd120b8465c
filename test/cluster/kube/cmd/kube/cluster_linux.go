package main

import (
	"context"

	"github.com/spf13/cobra"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/imcluster/imcluster/test/cluster/kube/provisioner"
)

// clusterComponents are those that a local cluster consists of beside the API
// server.
func clusterComponents() map[string]func() *cobra.Command {
	return map[string]func() *cobra.Command{
		"kube-controller-manager": kcm.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kube-proxy":              proxy.NewProxyCommand,
		// Not the signal context: the command sets up its own, and a second
		// set-up panics with "close of closed channel".
		"kubelet":            func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
		"volume-provisioner": provisioner.NewCommand,
	}
}
