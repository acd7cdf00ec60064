package store

import "strconv"

// channel is one channel that a follower has been asked for.
type channel struct {
	name   string
	wanted bool
	// sent: the last thing asked of this connection was to subscribe.
	sent bool
	// pending counts the commands of this connection that are not answered.
	pending int
	wish
}

// wish is what comes of a channel's being followed.
type wish struct {
	waiters []*latch // opened when it is followed, or wanted no more
	owed    debt     // told when it is
	tries   int      // in vain, one after the other: its slot was elsewhere
}

// and is two wishes for one channel.
func (w wish) and(other wish) wish {
	return wish{append(w.waiters, other.waiters...), max(w.owed, other.owed), max(w.tries, other.tries)}
}

// release ends the wait of those who asked for the channel.
func (w *wish) release() {
	for _, l := range w.waiters {
		l.open()
	}
	w.waiters = nil
}

// debt is what a channel's messages may have missed while nobody followed it. A
// greater one covers a smaller.
type debt int

const (
	owesNothing debt = iota
	owesLook         // some may be missing, and the log has them
	owesReset        // some may be missing, and the log, too, may lack what was heard
)

func (c *channel) lacks() bool { return c.wanted && (!c.sent || c.pending > 0) }

func (c *channel) followed() bool { return c.sent && c.pending == 0 }

// channels are those of a follower, and what its connection has been told of them.
// Its owner keeps it from being used at once.
type channels struct {
	all     map[string]*channel
	unsaid  map[string]*channel // those whose wish the connection was not told
	lacking int                 // wanted and not heard yet
	asked   []ask               // of the connection, and not answered: it answers in their order
	owed    debt                // of those that are followed now
}

// ask is one channel of a command.
type ask struct {
	channel *channel
	follow  bool // else it is to be heard no more
}

func newChannels() channels {
	return channels{all: make(map[string]*channel), unsaid: make(map[string]*channel)}
}

// change changes a channel and keeps the books.
func (cs *channels) change(c *channel, how func()) {
	if c.lacks() {
		cs.lacking--
	}
	how()
	if c.lacks() {
		cs.lacking++
	}
	if c.wanted != c.sent {
		cs.unsaid[c.name] = c
	} else {
		delete(cs.unsaid, c.name)
	}
	if !c.wanted && !c.sent && c.pending == 0 {
		c.release()
		delete(cs.all, c.name)
	}
}

// follow asks for a channel.
func (cs *channels) follow(name string, w wish) {
	c := cs.all[name]
	if c == nil {
		c = &channel{name: name}
		cs.all[name] = c
	}
	cs.change(c, func() { c.wanted = true })
	if c.wish = c.wish.and(w); c.followed() {
		cs.paid(c)
	}
}

// paid is for a channel that is followed.
func (cs *channels) paid(c *channel) {
	c.release()
	cs.owed = max(cs.owed, c.owed)
	c.wish = wish{}
}

// drop ends follow.
func (cs *channels) drop(name string) {
	if c := cs.all[name]; c != nil {
		cs.change(c, func() { c.wanted = false })
	}
}

// forget is for a new connection, which follows nothing yet: what the last one
// followed may have been missed since.
func (cs *channels) forget() {
	cs.asked = nil
	for _, c := range cs.all {
		if c.followed() {
			c.owed = owesReset
		}
		cs.change(c, func() { c.sent, c.pending = false, 0 })
	}
}

// next takes what the connection is to be told, of some channels.
func (cs *channels) next(most int) (add, drop []string) {
	for name, c := range cs.unsaid {
		if len(add)+len(drop) == most {
			break
		}
		if c.wanted {
			add = append(add, name)
		} else {
			drop = append(drop, name)
		}
	}
	for _, name := range add {
		cs.ask(name, true)
	}
	for _, name := range drop {
		cs.ask(name, false)
	}
	return add, drop
}

func (cs *channels) ask(name string, follow bool) {
	c := cs.all[name]
	cs.asked = append(cs.asked, ask{c, follow})
	cs.change(c, func() {
		c.sent = follow
		c.pending++
	})
}

// answered takes the answer to what was asked first, and says whether it was that.
func (cs *channels) answered(name string, follow bool) bool {
	if len(cs.asked) == 0 || cs.asked[0].channel.name != name || cs.asked[0].follow != follow {
		return false
	}
	c := cs.pop().channel
	if c.followed() {
		cs.paid(c)
	}
	return true
}

// take is drop of a channel that another follower is to have, with what comes of
// that. heard says whether the connection still hears it.
func (cs *channels) take(name string, heard bool) (w wish) {
	c := cs.all[name]
	if c == nil {
		return w
	}
	w, c.wish = c.wish, wish{}
	if c.followed() {
		w.owed = max(w.owed, cs.owed) // it was not told of yet
	}
	cs.change(c, func() { c.wanted, c.sent = false, c.sent && heard })
	return w
}

// pop takes off what was asked first.
func (cs *channels) pop() ask {
	first := cs.asked[0]
	if cs.asked = cs.asked[1:]; len(cs.asked) == 0 {
		cs.asked = nil // a burst's memory is not kept
	}
	cs.change(first.channel, func() { first.channel.pending-- })
	return first
}

// fits says whether an error about a slot may be the answer to what was asked
// first; empty: it named none.
func (cs *channels) fits(slot string) bool {
	return len(cs.asked) > 0 && (slot == "" || slot == strconv.Itoa(slotOf(cs.asked[0].channel.name)))
}
