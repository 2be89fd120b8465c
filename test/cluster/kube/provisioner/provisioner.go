// Package provisioner makes volumes out of directories on the cluster's one
// node, and removes them with their claims, so that a default StorageClass
// works again and again.
package provisioner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// Name is the provisioner that a StorageClass names.
const Name = "imcluster.io/directory"

// NewCommand returns the command that runs the provisioner until it is
// signalled.
func NewCommand() *cobra.Command {
	var kubeconfig string
	var d directories
	cmd := &cobra.Command{
		Use:          "volume-provisioner",
		Short:        "Provision volumes as directories of one node",
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return fmt.Errorf("read kubeconfig: %w", err)
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return fmt.Errorf("make client: %w", err)
			}
			controller.NewProvisionController(cmd.Context(), client, Name, d,
				controller.LeaderElection(false)).Run(cmd.Context())
			return nil
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig file of the cluster")
	cmd.Flags().StringVar(&d.root, "directory", "", "directory below which volumes are made")
	cmd.Flags().StringVar(&d.node, "node", "", "node that can use the volumes")
	for _, required := range []string{"kubeconfig", "directory", "node"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // a flag of that name is defined above
		}
	}
	return cmd
}

// directories provisions every volume as one directory below root.
type directories struct {
	root string
	node string
}

// Provision makes the directory and describes it as a local volume, which
// unlike a hostPath one honours a pod's fsGroup.
func (d directories) Provision(_ context.Context, o controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	path := filepath.Join(d.root, o.PVName)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("make volume: %w", err)
	}
	// MkdirAll's mode is cut by the umask; pods of any uid must write.
	if err := os.Chmod(path, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("open volume to all: %w", err)
	}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: o.PVC.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				Local: &corev1.LocalVolumeSource{Path: path},
			},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key:      corev1.LabelHostname,
						Operator: corev1.NodeSelectorOpIn,
						Values:   []string{d.node},
					}},
				}},
			}},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes the directory. The path is derived from the volume's name
// again rather than read from the object, so that no edit of a
// PersistentVolume can aim it elsewhere.
func (d directories) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	if err := os.RemoveAll(filepath.Join(d.root, volume.Name)); err != nil {
		return fmt.Errorf("remove volume: %w", err)
	}
	return nil
}
