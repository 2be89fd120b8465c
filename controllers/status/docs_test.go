package status_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Whoever looks up a reason finds what it means and what to do.
func TestEveryReasonIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/conditions.md")
	if err != nil {
		t.Fatal(err)
	}
	constant := regexp.MustCompile(`Reason\w+ += "(\w+)"`)
	found := 0
	for _, file := range []string{"faults.go", "workload.go", "hooks.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range constant.FindAllStringSubmatch(string(source), -1) {
			found++
			if !strings.Contains(string(page), "| `"+match[1]+"` |") {
				t.Errorf("docs/conditions.md does not list the reason %s", match[1])
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d reasons found in the source", found)
	}
}
