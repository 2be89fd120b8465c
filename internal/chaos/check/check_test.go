package check

import (
	"slices"
	"testing"
	"time"
)

// tale is a history and what it breaks. Each promise is broken by one that differs little from one that keeps it.
type tale struct {
	name string
	cap  int
	tell func(s *story)
	want []Rule // none: the history keeps all promises
}

// tellAll checks what the histories break.
func tellAll(t *testing.T, tales []tale) {
	t.Helper()
	for _, tc := range tales {
		t.Run(tc.name, func(t *testing.T) {
			s := &story{}
			tc.tell(s)
			var got []Rule
			list := History(s.h, Options{Cap: tc.cap, AckTime: time.Second})
			for _, v := range list {
				got = append(got, v.Rule)
			}
			slices.Sort(got)
			if slices.Sort(tc.want); !slices.Equal(got, tc.want) {
				t.Errorf("violated %q, want %q", got, tc.want)
				for _, v := range list {
					t.Log(v)
				}
				for _, e := range s.h {
					t.Log(e)
				}
			}
		})
	}
}
