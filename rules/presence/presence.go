// Package presence decides how present a user is in the eyes of others: one
// value of many devices.
//
// It knows no store and no clock, and not who may see the value. The store's
// script decides the same, where it must be decided at once; Table is what that
// script is held against.
package presence

// Values. Only Offline has a meaning here: less to more chatty is the
// application's affair.
const (
	Offline = 0 // or invisible
	Most    = 127
)

// auto is the bit of a presence byte that says who set it.
const auto = 0x80

// Set is what a device was set to.
type Set struct {
	Value uint8
	// Auto says that an idle timer set it, and not the user.
	Auto bool
}

// Parse reads a presence byte.
func Parse(b uint8) Set { return Set{Value: b &^ auto, Auto: b&auto != 0} }

// Byte is the set as a presence byte.
func (s Set) Byte() uint8 {
	if s.Auto {
		return s.Value | auto
	}
	return s.Value
}

// Device is a connected device; a detached one counts until its grace ends.
type Device struct {
	Set
	// At orders what users set: the higher is the later.
	At int64
}

// Combine is the one value that others see: the latest that the user set on any
// device, else the greatest that was set by itself, else Offline. Of several set
// at once the greatest counts, so the order of the devices does not matter.
func Combine(devices []Device) uint8 {
	var greatest uint8
	var latest *Device
	for i := range devices {
		d := &devices[i]
		switch {
		case d.Auto:
			greatest = max(greatest, d.Value)
		case latest == nil, d.At > latest.At, d.At == latest.At && d.Value > latest.Value:
			latest = d
		}
	}
	if latest != nil {
		return latest.Value
	}
	return greatest
}
