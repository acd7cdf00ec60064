package main

import (
	"fmt"
	"io"
	"strings"
)

// progress shows how far a bench is: on a terminal in one line that changes,
// else in a line for each part.
type progress struct {
	out  io.Writer
	what string
	last string // part or line, whichever is shown
}

const barWidth = 30

// begin says what comes now.
func (p *progress) begin(what, run string) {
	p.end()
	p.what = what
	p.say("%s, as %s", what, run)
}

// say says something in a line of its own.
func (p *progress) say(format string, args ...any) {
	fmt.Fprintf(p.out, "bench: "+format+"\n", args...)
}

// part shows how much of a part is done.
func (p *progress) part(part string, done, of int) {
	if !terminal(p.out) {
		if p.last != part {
			p.last = part
			p.say("%s: %s", p.what, part)
		}
		return
	}
	line := fmt.Sprintf("%s: %-20s %s %d/%d", p.what, part, bar(done, of), done, of)
	fmt.Fprintf(p.out, "\r%s%s", line, strings.Repeat(" ", max(0, len(p.last)-len(line))))
	p.last = line
}

func bar(done, of int) string {
	full := barWidth * min(max(done, 0), of) / max(of, 1)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]"
}

// end leaves the line that changes.
func (p *progress) end() {
	if p.last != "" && terminal(p.out) {
		fmt.Fprint(p.out, "\r"+strings.Repeat(" ", len(p.last))+"\r")
	}
	p.last = ""
}
