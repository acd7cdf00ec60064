package metrics

import (
	"maps"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"godwit/measure"
	"godwit/store"
)

// What a family is.
const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// family is one metric and its labels. No label holds a room, a user, a session
// or anything else of which there may be ever more.
type family struct {
	name, kind, help string
	labels           []string
	read             func(now *moment, out sink)
	desc             *prometheus.Desc
}

func init() {
	for _, f := range families {
		f.desc = prometheus.NewDesc(f.name, f.help, f.labels, nil)
	}
}

// adminRequests is counted here, as it happens.
var adminRequests = family{
	name: "godwit_admin_requests_total", kind: counter, labels: []string{"route", "method", "status"},
	help: "Requests to the admin listener, by the pattern of their path; route is none where there is no such path, or the token was not good.",
}

// each tells the Sets of a map, in the order of their names.
func each(all map[string]*measure.Set, out sink) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out.set(all[name], name)
	}
}

// families are all metrics but adminRequests, the Go runtime's and the
// process's, in the order of docs/metrics.md.
var families = []*family{
	{
		name: "godwit_build_info", kind: gauge, labels: []string{"version", "revision", "go_version"},
		help: "1, and what runs: version of the binary, revision of the node.",
		read: func(now *moment, out sink) { out.value(1, now.cfg.Version, now.cfg.Revision, runtime.Version()) },
	},
	{
		name: "godwit_ready", kind: gauge, help: "Whether /readyz answers 200.",
		read: func(now *moment, out sink) { out.value(truth(len(now.state.Unready()) == 0)) },
	},
	{
		name: "godwit_not_ready", kind: gauge, labels: []string{"reason"},
		help: "Whether the node is not ready for this reason: joining (never held its lease), lease (it is over: writes are refused), store (Redis did not answer the last renewal), deaf (never heard what Redis publishes), draining.",
		read: func(now *moment, out sink) {
			for _, r := range now.state.Reasons() {
				out.value(truth(r.Holds), r.Word)
			}
		},
	},

	{
		name: "godwit_sessions", kind: gauge, help: "Sessions attached to the node.",
		read: func(now *moment, out sink) { out.value(float64(now.Attached)) },
	},
	{
		name: "godwit_sockets", kind: gauge, help: "Open websockets, those that have not logged in, or are being closed, included.",
		read: func(now *moment, out sink) { out.value(float64(now.sockets.Open.Load())) },
	},
	{
		name: "godwit_rooms", kind: gauge, help: "Rooms that have a member here.",
		read: func(now *moment, out sink) { out.value(float64(now.Rooms)) },
	},
	{
		name: "godwit_sockets_refused_total", kind: counter, labels: []string{"reason"},
		help: "Sockets that were not let in, with 503: draining, joining, store (the lease is over, or Redis away), full (GODWIT_MAX_SESSIONS).",
		read: func(now *moment, out sink) { out.set(now.Refused) },
	},
	{
		name: "godwit_logins_total", kind: counter, labels: []string{"way", "outcome"},
		help: "New sessions: by hello (json) or of chatd and statusd (binary), and how they went.",
		read: func(now *moment, out sink) { each(now.Sessions.Logins, out) },
	},
	{
		name: "godwit_resumes_total", kind: counter, labels: []string{"outcome"},
		help: "Resumes, after a crash, a lost connection or a bye, and how they went.",
		read: func(now *moment, out sink) { out.set(now.Sessions.Resumes) },
	},
	{
		name: "godwit_handovers_total", kind: counter, labels: []string{"outcome"},
		help: "Sessions that came to this node by an offer of another, and how that went.",
		read: func(now *moment, out sink) { out.set(now.Sessions.Handovers) },
	},
	{
		name: "godwit_messages_total", kind: counter, labels: []string{"kind", "outcome"},
		help: "Sends: logged, ephemeral, or unread (refused before that was known); ok is accepted, repeated was accepted before, anything else is why not.",
		read: func(now *moment, out sink) { each(now.Sessions.Messages, out) },
	},
	{
		name: "godwit_requests_total", kind: counter, labels: []string{"method", "outcome"},
		help: "Requests of sessions but room.send (godwit_messages_total) and logins, and how they were answered.",
		read: func(now *moment, out sink) { each(now.Sessions.Requests, out) },
	},

	{
		name: "godwit_evictions_total", kind: counter, labels: []string{"reason"},
		help: "Sockets that were closed for what they did not do: slow (4200, the outbox is full), stuck (no byte taken for 10 s), silent (4201, two pings unanswered), no_hello (4408); or panic, a bug.",
		read: func(now *moment, out sink) {
			s := now.sockets
			out.value(float64(s.EvictedSlow.Load()), "slow")
			out.value(float64(s.EvictedStuck.Load()), "stuck")
			out.value(float64(s.EvictedSilent.Load()), "silent")
			out.value(float64(s.NoHello.Load()), "no_hello")
			out.value(float64(s.Panics.Load()), "panic")
		},
	},
	{
		name: "godwit_outbox_bytes", kind: gauge, labels: []string{"kind"},
		help: "What waits to be written to all sockets: live events, answers, replay.",
		read: func(now *moment, out sink) {
			out.value(float64(now.waiting.Live), "live")
			out.value(float64(now.waiting.Answers), "answers")
			out.value(float64(now.waiting.Replay), "replay")
		},
	},
	{
		name: "godwit_outbox_max_bytes", kind: gauge, help: "Live events that wait for the socket that is furthest behind; at GODWIT_OUTBOX it is closed 4200.",
		read: func(now *moment, out sink) { out.value(float64(now.waiting.Most)) },
	},
	{
		name: "godwit_frames_received_total", kind: counter, help: "Frames from clients.",
		read: func(now *moment, out sink) { out.value(float64(now.sockets.FramesIn.Load())) },
	},
	{
		name: "godwit_frames_bad_total", kind: counter, help: "Frames from clients that are no request.",
		read: func(now *moment, out sink) { out.value(float64(now.sockets.BadFrames.Load())) },
	},
	{
		name: "godwit_frames_sent_total", kind: counter, help: "Frames written to sockets.",
		read: func(now *moment, out sink) { out.value(float64(now.sockets.FramesOut.Load())) },
	},
	{
		name: "godwit_sent_bytes_total", kind: counter, help: "Bytes written to sockets.",
		read: func(now *moment, out sink) { out.value(float64(now.sockets.BytesOut.Load())) },
	},
	{
		name: "godwit_writes_total", kind: counter, help: "Writes to sockets; frames by writes is how many go at once.",
		read: func(now *moment, out sink) { out.value(float64(now.sockets.Writes.Load())) },
	},

	{
		name: "godwit_delivery_seconds", kind: histogram,
		help: "From when this node heard a room's event from Redis until it was queued for every member here that it is for, one observation an event. An event that waited for others counts its wait; one that was lost on its way counts from when that was noticed. Not in it: the way through Redis to here (godwit_redis_probe_seconds is a way there and back), the wait in the outbox, replays, and events for nobody here.",
		read: func(now *moment, out sink) { out.times(&now.Relay.Took) },
	},
	{
		name: "godwit_events_delivered_total", kind: counter, help: "Live events queued for members, counted for each member; replays are not.",
		read: func(now *moment, out sink) { out.value(float64(now.Relay.Told.Load())) },
	},
	{
		name: "godwit_fanout_messages_total", kind: counter, labels: []string{"of"}, help: "Messages heard from Redis, of rooms and of users.",
		read: func(now *moment, out sink) {
			out.value(float64(now.Relay.Heard.Load()), "rooms")
			out.value(float64(now.Presence.Heard.Load()), "users")
		},
	},
	{
		name: "godwit_fanout_dropped_total", kind: counter, labels: []string{"of"},
		help: "Of those, dropped because too many waited: the node is overloaded. What they said is read from Redis.",
		read: func(now *moment, out sink) {
			out.value(float64(now.Relay.Dropped.Load()), "rooms")
			out.value(float64(now.Presence.Dropped.Load()), "users")
		},
	},
	{
		name: "godwit_holes_total", kind: counter, help: "Holes found in what was heard of a room.",
		read: func(now *moment, out sink) { out.value(float64(now.Relay.Holes.Load())) },
	},
	{
		name: "godwit_hole_entries_total", kind: counter, help: "Entries read from a room's log to fill holes.",
		read: func(now *moment, out sink) { out.value(float64(now.Relay.Filled.Load())) },
	},
	{
		name: "godwit_room_resets_total", kind: counter, help: "Rooms whose order the store lost, and whose members were told so.",
		read: func(now *moment, out sink) { out.value(float64(now.Relay.Resets.Load())) },
	},
	{
		name: "godwit_log_comparisons_total", kind: counter, help: "Rounds in which the positions of all rooms were compared with their logs: one a minute, and after each doubt.",
		read: func(now *moment, out sink) { out.value(float64(now.Relay.Verified.Load())) },
	},

	{
		name: "godwit_call_changes_total", kind: counter, labels: []string{"state"},
		help: "Calls that began (on) and ended (off) in rooms that have a member here; each node with one counts.",
		read: func(now *moment, out sink) {
			out.value(float64(now.Relay.Calls[1].Load()), "on")
			out.value(float64(now.Relay.Calls[0].Load()), "off")
		},
	},
	{
		name: "godwit_call_beats_total", kind: counter, help: "Beats that sessions here gave to their rooms.",
		read: func(now *moment, out sink) { out.value(float64(now.Calls.Beats.Load())) },
	},
	{
		name: "godwit_call_writes_total", kind: counter, help: "Scripts run to write beats, and to find who is late.",
		read: func(now *moment, out sink) { out.value(float64(now.Calls.Writes.Load())) },
	},
	{
		name: "godwit_presence_changes_total", kind: counter, help: "Values of users that somebody here sees, or is, that became others; each such node counts.",
		read: func(now *moment, out sink) { out.value(float64(now.Presence.Changed.Load())) },
	},
	{
		name: "godwit_presence_told_total", kind: counter, help: "Values that sessions here were told.",
		read: func(now *moment, out sink) { out.value(float64(now.Presence.Told.Load())) },
	},
	{
		name: "godwit_presence_reads_total", kind: counter, help: "Values read from the store.",
		read: func(now *moment, out sink) { out.value(float64(now.Presence.Read.Load())) },
	},

	{
		name: "godwit_redis_deaf_seconds", kind: gauge, help: "Since when the node has not been sure to hear everything; 0: it is.",
		read: func(now *moment, out sink) { out.value(now.Deaf.Seconds()) },
	},
	{
		name: "godwit_redis_deafness_seconds_total", kind: counter, help: "All such times together, the one that lasts included.",
		read: func(now *moment, out sink) { out.value(now.DeafFor.Seconds()) },
	},
	{
		name: "godwit_redis_subscription_losses_total", kind: counter, help: "Connections of the subscription that failed, broke, or did not hear their probe within 0.9 s; tries while Redis is away included.",
		read: func(now *moment, out sink) { out.value(float64(now.Ear.Lost.Load())) },
	},
	{
		name: "godwit_redis_subscription_resets_total", kind: counter, help: "Times that all was heard again after such a loss, and all rooms were compared with their logs.",
		read: func(now *moment, out sink) { out.value(float64(now.Ear.Resets.Load())) },
	},
	{
		name: "godwit_redis_probe_seconds", kind: histogram, help: "From when the node published to itself, once a second, until it heard that.",
		read: func(now *moment, out sink) { out.times(&now.Ear.Probe) },
	},
	{
		name: "godwit_redis_clock_ahead_seconds", kind: gauge, help: "By how much Redis's clock was ahead of this node's when the lease was renewed last; nodes compare times by Redis's.",
		read: func(now *moment, out sink) { out.value(now.store.Ahead().Seconds()) },
	},
	{
		name: "godwit_redis_script_seconds", kind: histogram, labels: []string{"script"},
		help: "From when a script's call was handed in to its answer, its wait for a pipeline included.",
		read: func(now *moment, out sink) {
			now.store.Scripts(func(name string, s *store.ScriptStats) { out.times(&s.Took, name) })
		},
	},
	{
		name: "godwit_redis_script_failures_total", kind: counter, labels: []string{"script"},
		help: "Calls whose outcome is not known, or that were not tried: Redis did not answer in time, or refused.",
		read: func(now *moment, out sink) {
			now.store.Scripts(func(name string, s *store.ScriptStats) { out.value(float64(s.Failed.Load()), name) })
		},
	},
	{
		name: "godwit_redis_connections", kind: gauge, labels: []string{"state"}, help: "Connections to Redis, busy and idle; the subscription has one besides.",
		read: func(now *moment, out sink) {
			out.value(float64(now.pool.Busy), "busy")
			out.value(float64(now.pool.Idle), "idle")
		},
	},
	{
		name: "godwit_redis_connection_timeouts_total", kind: counter, help: "Waits for a connection to Redis that were given up.",
		read: func(now *moment, out sink) { out.value(float64(now.pool.Timeouts)) },
	},

	{
		name: "godwit_redirects_total", kind: counter, labels: []string{"reason", "outcome"},
		help: "Sessions of this node that were to be offered another, by what for: committed (moved), refused, cancelled, expired, unknown (the socket went first); or why there was no offer: no_target, unable (the client follows none), busy (one stood), moved, unavailable.",
		read: func(now *moment, out sink) { each(now.Moves, out) },
	},
	{
		name: "godwit_redirects_standing", kind: gauge, help: "Offers that clients have, and have not taken up.",
		read: func(now *moment, out sink) { out.value(float64(now.Offers)) },
	},
	{
		name: "godwit_places_kept", kind: gauge, help: "Places kept for sessions of other nodes.",
		read: func(now *moment, out sink) { out.value(float64(now.Places)) },
	},
	{
		name: "godwit_drain_running", kind: gauge, help: "Whether a drain is under way.",
		read: func(now *moment, out sink) { out.value(truth(now.Drain.State == store.DrainRunning)) },
	},
	{
		name: "godwit_drain_sessions", kind: gauge, labels: []string{"state"},
		help: "Of the drain under way, or the last: sessions moved, refused (the client declined), told (to resume elsewhere), and left; 0 if there was none.",
		read: func(now *moment, out sink) {
			d := now.Drain
			left := 0
			if d.State != "" {
				left = d.Left
			}
			out.value(float64(d.Moved), "moved")
			out.value(float64(d.Refused), "refused")
			out.value(float64(d.Resumed), "told")
			out.value(float64(left), "left")
		},
	},
	{
		name: "godwit_drain_elapsed_seconds", kind: gauge, help: "How long the drain under way, or the last, has taken.",
		read: func(now *moment, out sink) { out.value(now.Drain.Elapsed.Seconds()) },
	},
	{
		name: "godwit_drain_budget_seconds", kind: gauge, help: "How long it may take.",
		read: func(now *moment, out sink) { out.value(now.Drain.Budget.Seconds()) },
	},
	{
		name: "godwit_drains_total", kind: counter, labels: []string{"outcome"},
		help: "Drains that are over: done, over_budget (sessions were left), undone, cut (the node ended).",
		read: func(now *moment, out sink) { out.set(now.Drains) },
	},
	{
		name: "godwit_departures_waiting", kind: gauge, help: "Sessions whose socket is gone, and of which the store is not told yet.",
		read: func(now *moment, out sink) { out.value(float64(now.Leaving)) },
	},
	{
		name: "godwit_sessions_swept_total", kind: counter, help: "Sessions that this node ended because their grace was over.",
		read: func(now *moment, out sink) { out.value(float64(now.Sweep.Ended.Load())) },
	},
	{
		name: "godwit_sessions_orphaned_total", kind: counter, help: "Sessions of dead nodes that this node found: their grace runs from then on.",
		read: func(now *moment, out sink) { out.value(float64(now.Sweep.Orphaned.Load())) },
	},

	{
		name: "godwit_trace_spans_total", kind: counter, labels: []string{"outcome"},
		help: "Spans of sends that are traced (docs/traces.md): sent, dropped (the queue was full), failed (the collector did not take them).",
		read: func(now *moment, out sink) { out.set(now.cfg.Traces.Spans) },
	},
}
