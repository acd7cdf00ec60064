package main

import "time"

// figures are what a side was measured to be, by the names of metrics. One that
// is not known is not there.
type figures map[string]float64

// metric is one figure as people read it.
type metric struct {
	name, says, unit string
	ratio            bool // of the fleet to the floor makes sense
}

// metrics are all figures, in the order in which they are shown.
var metrics = []metric{
	{"server_us_per_delivery", "server CPU a delivery", "us", true},
	{"redis_us_per_publish", "Redis CPU a publish", "us", false},
	{"redis_bytes_per_publish", "Redis memory a publish", "bytes", false},
	{"publishes_per_s", "accepted publishes a second", "", true},
	{"deliveries_per_s", "deliveries a second", "", true},
	{"server_us_per_notice", "server CPU a notice", "us", true},
	{"redis_us_per_change", "Redis CPU a change", "us", false},
	{"notices_per_s", "notices a second", "", true},
	{"server_us_per_beat", "server CPU a beat", "us", true},
	{"redis_us_per_beat", "Redis CPU a beat", "us", false},
	{"redis_scripts_per_beat", "Redis scripts a beat", "", false},
	{"redis_scripts_per_s", "Redis scripts a second", "", false},
	{"beats_per_s", "beats a second", "", true},
	{"all_resumed_s", "all are back after", "s", false},
	{"tries_per_resume", "tries a resume", "", false},
	{"server_us_per_resume", "server CPU a resume", "us", false},
	{"redis_us_per_resume", "Redis CPU a resume", "us", false},
	{"all_moved_s", "all are elsewhere after", "s", false},
	{"handed_percent", "moved before the break", "%", false},
	{"server_us_per_move", "server CPU a move, of who takes it", "us", false},
	{"redis_us_per_move", "Redis CPU a move", "us", false},
	{"server_us_per_login", "server CPU a login and join", "us", true},
	{"logins_per_s", "logins and joins a second", "", true},
	{"redis_us_per_login", "Redis CPU a login and join", "us", false},
	{"redis_reads_per_login", "Redis reads a login and join, alone", "", false},
	{"redis_scripts_per_login", "Redis scripts a login and join, alone", "", false},
	{"server_rss_bytes_per_session", "server memory a session", "bytes", true},
	{"redis_bytes_per_session", "Redis memory a session", "bytes", false},
	{"server_idle_percent", "server CPU of all, idle", "% of a core", true},
	{"latency_p50_ms", "latency p50", "ms", true},
	{"latency_p99_ms", "latency p99", "ms", true},
	{"latency_p999_ms", "latency p99.9", "ms", true},
	{"latency_max_ms", "latency max", "ms", true},
	{"late_p99_ms", "sent late, p99", "ms", false},
	{"server_cores", "server, of a core", "", false},
	{"redis_cores", "Redis, of a core", "", false},
	{"load_cores", "load, of a core", "", false},
}

// figure makes figures of what was measured.
func (m *measured) figure(work string) figures {
	f, r := figures{}, m.result
	begin, end := m.marks["begin"], m.marks["end"]
	switch work {
	case "resume":
		begin = m.marks["kill"]
	case "drain":
		begin = m.marks["term"]
	}
	spent := end.since(begin)
	// cpu is what the servers spent for each of so many, and Redis.
	cpu := func(server string, servers int64, redis string, of int64) {
		if m.known {
			f[server] = per(micros(spent.server), float64(servers))
		}
		if m.redis {
			f[redis] = per(micros(spent.redis), float64(of))
		}
	}
	second := func(n int64) float64 { return per(float64(n), r.Seconds) }
	switch work {
	case "fanout":
		f["publishes_per_s"], f["deliveries_per_s"] = second(r.Accepted), second(r.Delivered)
		cpu("server_us_per_delivery", r.Delivered, "redis_us_per_publish", r.Accepted)
		if m.redis {
			f["redis_bytes_per_publish"] = per(float64(spent.kept), float64(r.Accepted))
		}
	case "presence":
		f["notices_per_s"] = second(r.Delivered)
		cpu("server_us_per_notice", r.Delivered, "redis_us_per_change", r.Accepted)
	case "calls":
		f["beats_per_s"] = second(r.Accepted)
		cpu("server_us_per_beat", r.Accepted, "redis_us_per_beat", r.Accepted)
		if m.redis {
			f["redis_scripts_per_beat"] = per(float64(spent.scripts), float64(r.Accepted))
			f["redis_scripts_per_s"] = per(float64(spent.scripts), end.at.Sub(begin.at).Seconds())
		}
	case "resume":
		f["all_resumed_s"], f["tries_per_resume"] = r.Seconds, per(float64(r.Tries), float64(r.Accepted))
		cpu("server_us_per_resume", r.Accepted, "redis_us_per_resume", r.Accepted)
	case "drain":
		f["all_moved_s"], f["handed_percent"] = r.Seconds, 100*per(float64(r.Handed), float64(r.Clients))
		cpu("server_us_per_move", r.Accepted, "redis_us_per_move", r.Accepted)
	case "login":
		f["logins_per_s"] = second(r.Accepted)
		cpu("server_us_per_login", r.Accepted, "redis_us_per_login", r.Accepted)
		if m.redis {
			m.alone(f)
		}
	case "idle":
		if m.known {
			f["server_rss_bytes_per_session"] = per(float64(end.rss-m.marks["empty"].rss), float64(r.Clients))
			f["server_idle_percent"] = 100 * per(spent.server.Seconds(), r.Seconds)
		}
		if m.redis {
			f["redis_bytes_per_session"] = per(float64(end.kept-m.marks["empty"].kept), float64(r.Clients))
		}
	}
	if r.Latency.Count > 0 {
		f["latency_p50_ms"], f["latency_p99_ms"], f["latency_p999_ms"], f["latency_max_ms"] = r.Latency.P50, r.Latency.P99, r.Latency.P999, r.Latency.Max
	}
	if r.Late.Count > 0 {
		f["late_p99_ms"] = r.Late.P99
	}
	if took := end.at.Sub(begin.at).Seconds(); m.known {
		f["server_cores"] = per(spent.server.Seconds(), took)
		f["load_cores"] = per(spent.load.Seconds(), took)
		if m.redis {
			f["redis_cores"] = per(spent.redis.Seconds(), took)
		}
	}
	return f
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// alone is what one login after the other had Redis do, without what nodes do
// by themselves meanwhile.
func (m *measured) alone(f figures) {
	rest := m.marks["alone"].since(m.marks["rest"])
	busy := m.marks["begin"].since(m.marks["alone"])
	share := per(m.marks["begin"].at.Sub(m.marks["alone"].at).Seconds(), m.marks["alone"].at.Sub(m.marks["rest"].at).Seconds())
	each := func(rest, busy int64) float64 {
		return per(float64(busy)-share*float64(rest), float64(m.result.Alone))
	}
	f["redis_reads_per_login"] = each(rest.reads, busy.reads)
	f["redis_scripts_per_login"] = each(rest.scripts, busy.scripts)
}

// ratio is each figure as a share of another's, where both are known.
func (f figures) ratio(to figures) figures {
	all := figures{}
	for _, m := range metrics {
		a, ok := f[m.name]
		b, has := to[m.name]
		if ok && has && b != 0 {
			all[m.name] = a / b
		}
	}
	return all
}

// per is a quotient, 0 of nothing.
func per(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
