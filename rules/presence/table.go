package presence

// Outcome is what became of a step of a table.
type Outcome string

// The outcomes of a step.
const (
	Done  Outcome = "ok"
	Moved Outcome = "moved" // a higher gen has the device
	Gone  Outcome = "gone"  // the device's session has ended
)

// Table is one user's devices. The zero value has none.
//
//	absent --Attach--> present at a gen --Attach, gen no lower--> present
//	                        | Part
//	                        v
//	                      gone, and stays so
type Table struct {
	devices map[uint32]row
	gone    map[uint32]bool
	told    uint8
	changes int
}

type row struct {
	gen uint64
	Device
}

// Attach makes a device known at a gen. With set it has that value from now on,
// the latest of all; otherwise it keeps what it has, or, new, begins with first.
// at is when that was set, where the store has lost it; 0 is now.
func (t *Table) Attach(client uint32, gen uint64, set *Set, first Set, at, now int64) Outcome {
	if t.gone[client] {
		return Gone
	}
	r, there := t.devices[client]
	if there && r.gen > gen {
		return Moved
	}
	r.gen = gen
	if !there || set != nil {
		r.Set = first
		if set != nil {
			r.Set = *set
		}
		r.At = at
		if at == 0 {
			r.At = t.next(now)
		}
	}
	if t.devices == nil {
		t.devices = make(map[uint32]row)
	}
	t.devices[client] = r
	t.settle()
	return Done
}

// Part takes a device out for good.
func (t *Table) Part(client uint32) {
	if t.gone == nil {
		t.gone = make(map[uint32]bool)
	}
	t.gone[client] = true
	delete(t.devices, client)
	t.settle()
}

// next is later than anything that was set, also for a clock that stands still
// or goes back.
func (t *Table) next(now int64) int64 {
	for _, r := range t.devices {
		now = max(now, r.At+1)
	}
	return now
}

func (t *Table) settle() {
	if v := t.Value(); v != t.told {
		t.told = v
		t.changes++
	}
}

// Value is what others see.
func (t *Table) Value() uint8 {
	all := make([]Device, 0, len(t.devices))
	for _, r := range t.devices {
		all = append(all, r.Device)
	}
	return Combine(all)
}

// Changes is how often the value has changed: as many events, and no more.
func (t *Table) Changes() int { return t.changes }
