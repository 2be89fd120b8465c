package controllers

import "testing"

func TestEventsWarnOfWhatIsNotAsItShouldBe(t *testing.T) {
	ready := news{generation: 1, status: "True", reason: "Ready"}
	starting := news{generation: 1, status: "False", reason: "Unavailable", working: true}
	pulling := news{generation: 1, status: "False", reason: "Unavailable", working: true, trouble: "image"}
	for _, tc := range []struct {
		name        string
		before, now news
		want        string
	}{
		{"first look", news{status: "Unknown", reason: "Pending"}, starting, "Normal"},
		{"the same again", starting, starting, ""},
		{"a step further", starting, news{generation: 1, status: "False", reason: "RollingOut", working: true}, ""},
		{"ready", starting, ready, "Normal"},
		{"an image that cannot be pulled", starting, pulling, "Warning"},
		{"still not", pulling, pulling, ""},
		{"lost", ready, starting, "Warning"},
		{"a pod lost", ready, news{generation: 1, status: "False", reason: "Degraded", working: true}, "Warning"},
		{"a rollout", ready, news{generation: 1, status: "False", reason: "RollingOut", working: true}, "Normal"},
		{"scaled up from zero", ready, news{generation: 2, status: "False", reason: "Unavailable", working: true}, "Normal"},
		{"a missing Secret", starting, news{generation: 1, status: "False", reason: "SecretMissing"}, "Warning"},
		{"suspended", ready, news{generation: 2, status: "False", reason: "Suspended"}, "Normal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := eventType(tc.before, tc.now); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
