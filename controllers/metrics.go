package controllers

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/imcluster/imcluster/api/v1alpha1"
)

// writeMetrics counts what the reconciler writes: in a cluster where nothing changes, nothing.
type writeMetrics struct{ writes metric.Int64Counter }

func newWriteMetrics(meter metric.Meter) (*writeMetrics, error) {
	writes, err := meter.Int64Counter("imcluster.operator.writes",
		metric.WithDescription("Objects created, applied and deleted, by kind and operation."))
	if err != nil {
		return nil, fmt.Errorf("create metric: %w", err)
	}
	return &writeMetrics{writes: writes}, nil
}

func (m *writeMetrics) written(ctx context.Context, kind, operation string) {
	m.writes.Add(ctx, 1, metric.WithAttributes(attribute.String("kind", kind), attribute.String("operation", operation)))
}

// exportConditions shows every condition of every IMCluster as a gauge that is 1 while it is true.
func exportConditions(meter metric.Meter, reader client.Reader) error {
	_, err := meter.Int64ObservableGauge("imcluster.condition",
		metric.WithDescription("1 while the condition of the IMCluster is true, otherwise 0."),
		metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
			var list v1alpha1.IMClusterList
			if err := reader.List(ctx, &list); err != nil {
				return fmt.Errorf("list IMClusters: %w", err)
			}
			for _, im := range list.Items {
				for _, c := range im.Status.Conditions {
					value := int64(0)
					if c.Status == metav1.ConditionTrue {
						value = 1
					}
					o.Observe(value, metric.WithAttributes(attribute.String("imcluster_namespace", im.Namespace),
						attribute.String("imcluster", im.Name), attribute.String("type", c.Type)))
				}
			}
			return nil
		}))
	if err != nil {
		return fmt.Errorf("create metric: %w", err)
	}
	return nil
}
