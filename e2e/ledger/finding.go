package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fault is a kind of broken promise.
type Fault string

// The faults that Check tells apart.
const (
	LostMessage  Fault = "lost"         // addressed to a member, or answered, and not there
	Doubled      Fault = "doubled"      // there twice
	Swapped      Fault = "swapped"      // out of the order of seq, or of sending
	Echoed       Fault = "echoed"       // shown to its own sender
	Misaddressed Fault = "misaddressed" // shown to one it is not for
	Forged       Fault = "forged"       // the sender shown is not the sender, or nobody sent it
	Differs      Fault = "differs"      // one (epoch, seq) is not the same for all
	Noise        Fault = "noise"        // a join, leave or end of a call that nobody made
	Denied       Fault = "denied"       // refused although it had to be accepted
	Undead       Fault = "undead"       // refused, and stored all the same
	Behind       Fault = "behind"       // the room has an epoch that the client was not told of
	Torn         Fault = "torn"         // the room's log itself has a hole
)

// Finding is one broken promise.
type Finding struct {
	Fault Fault
	Who   string // the ledger's owner, or "log"
	Room  string
	Epoch string
	Seq   uint64
	ID    string
	Note  string
}

// String tells the finding in one line.
func (f Finding) String() string {
	return fmt.Sprintf("%s: %s in %s, epoch %s seq %d, message %q: %s", f.Fault, f.Who, f.Room, f.Epoch, f.Seq, f.ID, f.Note)
}

// Report is the outcome of Check.
type Report struct {
	Findings []Finding
	// Excused counts the explicit notices (reset, gap, lost) that ended spans.
	Excused int
	// Messages, Seen and Answered say how much there was to check, so that an
	// empty conversation is not taken for a clean one.
	Messages, Seen, Answered int
}

// Err is nil when nothing was found, else it lists the findings, at most eight
// of a kind.
func (r Report) Err() error {
	if len(r.Findings) == 0 {
		return nil
	}
	kinds := map[Fault][]Finding{}
	for _, f := range r.Findings {
		kinds[f.Fault] = append(kinds[f.Fault], f)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d broken promises in %d messages", len(r.Findings), r.Messages)
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		for i, f := range kinds[k] {
			if i == 8 {
				fmt.Fprintf(&b, "\n  ... and %d more of %s", len(kinds[k])-i, k)
				break
			}
			b.WriteString("\n  " + f.String())
		}
	}
	return fmt.Errorf("%s", b.String())
}

// Has says whether a fault of the kind was found.
func (r Report) Has(kind Fault) bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Fault == kind })
}
