package chaos

import (
	"reflect"
	"testing"
)

func TestSchedulesAreReadAsTheyAreWritten(t *testing.T) {
	for seed := range uint64(50) {
		want := Random(seed, Setting{Gateways: 3, Cluster: seed%2 == 0})
		got, err := ParseSchedule(want.String())
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("written and read:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestSeedsRepeatTheirSchedules(t *testing.T) {
	set := Setting{Gateways: 3}
	if a, b := Random(7, set), Random(7, set); !reflect.DeepEqual(a, b) {
		t.Errorf("two schedules of one seed:\n%s\n%s", a, b)
	}
	if a, b := Random(7, set), Random(8, set); reflect.DeepEqual(a.Steps, b.Steps) {
		t.Error("two seeds have the same schedule")
	}
}
