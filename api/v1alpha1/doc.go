// Package v1alpha1 is the Kubernetes API of IMCluster: one resource that stands for one messaging and
// presence platform made of gateway pods, presence pods and a Redis.
//
// Two rules shape these types. Nothing that ends up in a pod template has a default here: a default in
// a custom resource definition is written into stored objects, or changes all of them at once when the
// definition is upgraded, and either would roll gateways, which disconnects users. Such defaults are
// filled in by the operator, and the comment of each field names them. And a comment says what a
// change of the field does to running pods.
//
// +kubebuilder:object:generate=true
// +kubebuilder:ac:generate=true
// +kubebuilder:ac:output:package="applyconfiguration"
// +groupName=imcluster.dev
package v1alpha1
