package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asProgram in the environment makes the test's binary be godwit itself, so
// that a test can start it as a process, with the race detector in it.
const asProgram = "GODWIT_TEST_AS_PROGRAM"

// No test of this package leaves a goroutine.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}
