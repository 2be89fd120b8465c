package demo

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestReachGivesUpOnWhatNeverAnswers(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	for name, tc := range map[string]struct {
		first error
		took  time.Duration
	}{
		"nothing listens":      {refused, refusedFor},
		"it answered and died": {errors.New("not ready"), 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				start, next := time.Now(), tc.first
				err := reach(ctx, func() (bool, error) {
					err := next
					next = refused
					return false, err
				})
				if took := time.Since(start); !errors.Is(err, syscall.ECONNREFUSED) || took.Round(time.Second) != tc.took {
					t.Errorf("%v after %s, want %s", err, took, tc.took)
				}
			})
		})
	}
}
