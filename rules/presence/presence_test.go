package presence

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func user(v uint8, at int64) Device  { return Device{Set{v, false}, at} }
func timer(v uint8, at int64) Device { return Device{Set{v, true}, at} }

func TestCombine_OneValueOfManyDevices(t *testing.T) {
	for _, c := range []struct {
		name    string
		devices []Device
		want    uint8
	}{
		{"no device", nil, 0},
		{"one, by itself", []Device{timer(3, 1)}, 3},
		{"one, by the user", []Device{user(1, 1)}, 1},
		{"the idle one does not hide the one in use", []Device{timer(2, 9), timer(3, 1)}, 3},
		{"all idle: the greatest", []Device{timer(2, 9), timer(1, 10)}, 2},
		{"do not disturb holds while another device is online", []Device{user(1, 1), timer(3, 9)}, 1},
		{"and while another device goes idle", []Device{user(1, 1), timer(2, 9)}, 1},
		{"the user's latest wins, not the greatest", []Device{user(3, 1), user(1, 2)}, 1},
		{"whichever device comes first", []Device{user(1, 2), user(3, 1)}, 1},
		{"set at once: the greatest", []Device{user(1, 5), user(3, 5), user(2, 5)}, 3},
		{"invisible on purpose", []Device{user(0, 5), timer(127, 9)}, 0},
		{"invisible by a timer counts least", []Device{timer(0, 5), timer(1, 1)}, 1},
		{"invisible by a timer alone", []Device{timer(0, 5)}, 0},
		{"a user's value that is older than all the timers", []Device{timer(127, 9), user(2, 1), timer(3, 8)}, 2},
		{"the greatest values", []Device{timer(Most, 1), user(Most, 1)}, Most},
	} {
		if got := Combine(c.devices); got != c.want {
			t.Errorf("%s: Combine(%v) = %d, want %d", c.name, c.devices, got, c.want)
		}
	}
}

func TestByte_IsTheValueWithTheTimersBit(t *testing.T) {
	for b := range 256 {
		s := Parse(uint8(b))
		if s.Byte() != uint8(b) || s.Value > Most || s.Auto != (b > 127) || int(s.Value) != b%128 {
			t.Errorf("byte %d reads as %+v, which is byte %d", b, s, s.Byte())
		}
	}
}

var anyDevice = rapid.Custom(func(t *rapid.T) Device {
	return Device{
		Set: Set{Value: rapid.Uint8Max(Most).Draw(t, "value"), Auto: rapid.Bool().Draw(t, "auto")},
		At:  rapid.Int64Range(1, 4).Draw(t, "at"),
	}
})

func TestCombine_DependsOnTheTableAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(anyDevice, 0, 6).Draw(t, "devices")
		got := Combine(all)
		if other := Combine(rapid.Permutation(all).Draw(t, "order")); other != got {
			t.Fatalf("%d, and %d in another order", got, other)
		}
		explicit, held := false, got == Offline && len(all) == 0
		for _, d := range all {
			explicit = explicit || !d.Auto
			held = held || d.Value == got
		}
		if !held {
			t.Fatalf("%d, which no device has", got)
		}
		if explicit {
			var latest []Device // of what users set; of several at once the greatest counts
			for _, d := range all {
				switch {
				case d.Auto:
				case len(latest) == 0 || d.At > latest[0].At:
					latest = []Device{d}
				case d.At == latest[0].At:
					latest = append(latest, d)
				}
			}
			if want := slices.MaxFunc(latest, func(a, b Device) int { return cmp.Compare(a.Value, b.Value) }).Value; got != want {
				t.Fatalf("%d of %v, want what the user set last, %d", got, all, want)
			}
		}
		for _, d := range all {
			switch {
			case explicit && d.Auto:
				// A timer says nothing while the user has.
				if less := Combine(without(all, d)); less != got {
					t.Fatalf("%d, and %d without the timer's %v", got, less, d)
				}
			case !explicit && d.Value > got:
				t.Fatalf("%d, though a device has %v", got, d)
			}
		}
	})
}

func without(all []Device, one Device) []Device {
	var out []Device
	for _, d := range all {
		if d != one {
			out = append(out, d)
		}
	}
	return out
}

func TestTable_TheUsersLatestWordHoldsUntilItsDeviceSaysOrIsGone(t *testing.T) {
	var table Table
	step := func(what string, got Outcome, want uint8, changes int) {
		t.Helper()
		if got != Done || table.Value() != want || table.Changes() != changes {
			t.Fatalf("%s: %s, others see %d after %d changes, want %d after %d", what, got, table.Value(), table.Changes(), want, changes)
		}
	}
	const now = 100 // a clock that stands still
	online, away := Set{3, true}, Set{2, true}
	step("A comes", table.Attach(1, 1, nil, online, 0, now), 3, 1)
	step("B comes", table.Attach(2, 1, nil, online, 0, now), 3, 1)
	step("A goes idle, B is in use", table.Attach(1, 1, &away, online, 0, now), 3, 1)
	step("B goes idle too", table.Attach(2, 1, &away, online, 0, now), 2, 2)
	step("do not disturb on A", table.Attach(1, 1, &Set{Value: 1}, online, 0, now), 1, 3)
	step("online on B, a moment later", table.Attach(2, 1, &Set{Value: 3}, online, 0, now-5), 3, 4)
	step("do not disturb on A again", table.Attach(1, 1, &Set{Value: 1}, online, 0, now), 1, 5)
	step("A is resumed elsewhere", table.Attach(1, 2, nil, online, 0, now), 1, 5)
	table.Part(1)
	step("A is gone: B's own word holds", Done, 3, 6)
	step("which a timer clears", table.Attach(2, 1, &away, online, 0, now), 2, 7)
	table.Part(2)
	step("all gone", Done, 0, 8)
	table.Part(2)
	step("once", Done, 0, 8)
}

func TestTable_AnOlderGenAndAnEndedDeviceChangeNothing(t *testing.T) {
	var table Table
	table.Attach(1, 5, nil, Set{3, true}, 0, 1)
	if got := table.Attach(1, 4, &Set{Value: 1}, Set{}, 0, 2); got != Moved || table.Value() != 3 {
		t.Errorf("an older gen: %s, others see %d, want moved, 3", got, table.Value())
	}
	table.Part(1)
	if got := table.Attach(1, 9, &Set{Value: 1}, Set{}, 0, 3); got != Gone || table.Value() != 0 {
		t.Errorf("an ended device: %s, others see %d, want gone, 0", got, table.Value())
	}
}
