package usage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/imcluster/imcluster/api/v1alpha1"
	"github.com/imcluster/imcluster/controllers/presenceapi"
	"github.com/imcluster/imcluster/presence/internalapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnlyRealMovesAreWorthWriting(t *testing.T) {
	usage := func(connections, users int64) *v1alpha1.Usage {
		return &v1alpha1.Usage{Connections: connections, OnlineUsers: users}
	}
	for _, tc := range []struct {
		old, now *v1alpha1.Usage
		want     bool
	}{
		{nil, usage(0, 0), true},
		{usage(0, 0), usage(0, 0), false},
		{usage(0, 0), usage(1, 1), true},
		{usage(1, 1), usage(0, 0), true},
		{usage(1000, 1000), usage(1009, 991), false},
		{usage(1000, 1000), usage(1010, 1000), true},
		{usage(1000, 1000), usage(1000, 990), true},
	} {
		if got := worthWriting(tc.old, tc.now); got != tc.want {
			t.Errorf("%+v to %+v: %v, want %v", tc.old, tc.now, got, tc.want)
		}
	}
}

// presence answers for presence pods without a network, which would keep a bubble of fake time from
// getting on.
type presence struct {
	mu          sync.Mutex
	connections int64
	hooks       internalapi.HookDelivery
	down        bool
	calls       int
}

func (p *presence) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.down {
		return nil, errors.New("connection refused")
	}
	var answer any = internalapi.IncarnationList{AsOf: time.Now(), Connections: p.connections, OnlineUsers: p.connections}
	if r.URL.Path == internalapi.HooksPath {
		p.hooks.AsOf = time.Now()
		answer = p.hooks
	}
	body, err := json.Marshal(answer)
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(body)))}, err
}

func (p *presence) set(connections int64, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connections, p.down, p.calls = connections, down, 0
}

// run runs a collector for one IMCluster in fake time. writes holds "seconds since start: connections", or, of hooks, "seconds since
// start: reason, pending". It returns the type and the reason of each event.
func run(t *testing.T, script func(p *presence, writes *[]string), change ...func(*v1alpha1.IMCluster)) (announced []string) {
	synctest.Test(t, func(t *testing.T) {
		scheme := runtime.NewScheme()
		if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
			t.Fatal(err)
		}
		im := &v1alpha1.IMCluster{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat", UID: "u"},
			Status:     v1alpha1.IMClusterStatus{Presence: &v1alpha1.PresenceStatus{ReadyReplicas: 1}},
		}
		for _, f := range change {
			f(im)
		}
		key := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "chat-peer-key"}}
		start := time.Now()
		var writes []string
		c := fake.NewClientBuilder().WithScheme(scheme).WithObjects(im, key).WithInterceptorFuncs(interceptor.Funcs{
			SubResourceApply: func(_ context.Context, _ client.Client, subresource string, ac runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
				var options client.SubResourceApplyOptions
				options.ApplyOpts(opts)
				data, _ := json.Marshal(ac)
				var written v1alpha1.IMCluster
				if err := json.Unmarshal(data, &written); err != nil {
					t.Error(err)
				}
				s := written.Status
				switch {
				case subresource != "status":
					t.Errorf("wrote %s", subresource)
				case options.FieldManager == FieldManager && s.Hooks == nil && s.Conditions == nil:
					writes = append(writes, fmt.Sprintf("%.0f: %d", time.Since(start).Seconds(), s.Usage.Connections))
				case options.FieldManager == HooksFieldManager && s.Usage == nil && s.Hooks == nil && s.Conditions == nil:
					writes = append(writes, fmt.Sprintf("%.0f: nothing", time.Since(start).Seconds()))
				case options.FieldManager == HooksFieldManager && s.Usage == nil && len(s.Conditions) == 1:
					writes = append(writes, fmt.Sprintf("%.0f: %s, %d", time.Since(start).Seconds(), s.Conditions[0].Reason, s.Hooks.Pending))
				default:
					t.Errorf("wrote %+v as %s", s, options.FieldManager)
				}
				return nil
			},
		}).Build()
		p := &presence{}
		access := presenceapi.New(presenceapi.Config{Secrets: c, Transport: p})
		recorder := events.NewFakeRecorder(100)
		collector, err := New(c, access, recorder, logr.Discard(), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- collector.Start(ctx) }()
		synctest.Wait()
		script(p, &writes)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		close(recorder.Events)
		for e := range recorder.Events {
			announced = append(announced, strings.Join(strings.Fields(e)[:2], " "))
		}
	})
	return announced
}

// wait lets fake time pass.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestWritesAreRareAndOnlyForMoves(t *testing.T) {
	run(t, func(p *presence, writes *[]string) {
		p.set(1000, false)
		wait(15 * time.Second) // moved since the first poll, but the first write was just now
		p.set(2000, false)
		wait(30 * time.Second)
		p.set(2010, false) // 0.5 %
		wait(5 * time.Minute)
		p.set(2020, false) // 1 % of what was written
		wait(time.Minute)
		want := []string{"0: 0", "30: 2000", "350: 2020"}
		if diff := cmp.Diff(want, *writes); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	})
}

func TestSilentPresenceIsAskedLessAndLess(t *testing.T) {
	run(t, func(p *presence, writes *[]string) {
		p.set(5, true)
		wait(10 * time.Minute)
		p.mu.Lock()
		calls := p.calls
		p.mu.Unlock()
		// At 10 s, then after 20, 40, 80 s, then every 120 s.
		if calls < 5 || calls > 9 {
			t.Errorf("asked %d times in 10 minutes", calls)
		}
		p.set(5, false)
		wait(2 * time.Minute)
		if len(*writes) != 2 {
			t.Errorf("writes %v, want another one after presence is back", *writes)
		}
	})
}
