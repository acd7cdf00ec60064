package traces

import (
	"testing"

	"go.uber.org/goleak"
)

// No test of this package leaves a goroutine.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
