//go:build race

package fleet

// raceFlag builds the nodes with the race detector when the test has it.
const raceFlag = "-race"
