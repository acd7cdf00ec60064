package wait

import (
	"context"
	"testing"
)

func TestScope_EndsWhoAskedBeforeAndAfter(t *testing.T) {
	var asked, late, quiet Scope
	ctx := asked.Context(t.Context())
	if ctx.Err() != nil || asked.Ended() {
		t.Fatal("it ends before it begins")
	}
	for _, s := range []*Scope{&asked, &late, &quiet} {
		s.End()
		s.End()
		if !s.Ended() {
			t.Error("it was ended, and does not say so")
		}
	}
	if ctx.Err() == nil || asked.Context(t.Context()).Err() == nil {
		t.Error("who asked before is not told")
	}
	if late.Context(t.Context()).Err() == nil {
		t.Error("who asks after is not told")
	}
}

func TestScope_EndsWithItsParent(t *testing.T) {
	parent, end := context.WithCancel(t.Context())
	var s Scope
	ctx := s.Context(parent)
	end()
	if ctx.Err() == nil {
		t.Error("its parent ended, and it did not")
	}
	if s.Ended() {
		t.Error("it was not ended itself, and says so")
	}
	s.End()
}

func TestScope_ThatNobodyWaitsForAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		var s Scope
		s.End()
	}); n != 0 {
		t.Errorf("%.0f allocations, want none", n)
	}
}
