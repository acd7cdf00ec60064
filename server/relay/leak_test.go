package relay

import (
	"testing"

	"go.uber.org/goleak"

	"godwit/internal/redistest"
)

// No test of this package leaves a goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(ends{m}) }

// ends ends the sets that the tests have shared.
type ends struct{ *testing.M }

func (e ends) Run() int {
	defer redistest.EndSets()
	return e.M.Run()
}
