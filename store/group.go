package store

import "fmt"

// groupMost is how many messages go in one call at most: Redis serves nobody
// else meanwhile, and Lua can hand on some thousand values at once.
const groupMost = 64

// group is one call of a pipeline and the writes that it carries. Messages into
// one room go in one call, which reads and writes what they share once for all.
type group struct {
	call
	writes []*write
}

// grouped puts writes into as few calls as may be; the writes of a room keep
// their order.
func grouped(writes []*write) []group {
	groups := make([]group, 0, len(writes))
	last := make(map[string]int, len(writes)) // of each room, its last group
	for _, w := range writes {
		room := w.keys[0]
		if i, ok := last[room]; ok && groups[i].takes(w) {
			groups[i].add(w)
			continue
		}
		last[room] = len(groups)
		groups = append(groups, group{w.call, []*write{w}})
	}
	return groups
}

// takes says whether the group's call can carry w, too, which is of its room.
func (g *group) takes(w *write) bool {
	return w.own > 0 && g.script == w.script && g.args[argEpoch] == w.args[argEpoch] && len(g.writes) < groupMost
}

func (g *group) add(w *write) {
	if newer := w.args[argSeq].(uint64) > g.args[argSeq].(uint64); newer {
		copy(g.args[argEpoch:argTS+1], w.args[argEpoch:])
	}
	g.args = append(g.args, w.args[len(w.args)-w.own:]...)
	g.writes = append(g.writes, w)
}

// answerOf is what the script says of the i-th write: its own answer, or the
// one for all.
func (g *group) answerOf(i int, all answer) (answer, error) {
	if g.writes[i].own == 0 || all.status() != "" {
		return all, nil
	}
	if i < len(all) {
		if one, ok := all[i].([]any); ok {
			return one, nil
		}
	}
	return nil, fmt.Errorf("script answered %d of %d writes", len(all), len(g.writes))
}
